"""Two load tests beside each other."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from loadtests.comparison import page, table
from loadtests.comparison.difference import Figure, Unreadable, compare, read
from loadtests.report import SCHEMA, write_json
from tests.load_reports import made
from tests.pages import parsed

ROOT = Path(__file__).parents[2]
NAMES = ("before.json", "after.json")


@pytest.fixture
def before(tmp_path: Path) -> Path:
    path = tmp_path / "before.json"
    write_json(made(lost=0), path)
    return path


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    command = [sys.executable, "-m", "loadtests.comparison", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_what_became_slower_is_worse() -> None:
    found = compare(made(lost=0), made(lost=0, milliseconds=6), names=NAMES)
    p99 = next(one for one in found.figures if one.name == "to another worker, p99 ms")
    assert p99.judgement == "worse"
    assert p99.change == pytest.approx(1, rel=0.02)
    assert page.outcome(found) == "worse"
    assert page.outcome(compare(made(lost=0, milliseconds=6), made(lost=0), names=NAMES)) == "better"


@pytest.mark.parametrize(
    ("figure", "judgement"),
    [
        (Figure("p99", 100, 104, 1, more_is_better=False), ""),
        (Figure("p99", 100, 106, 1, more_is_better=False), "worse"),
        (Figure("rate", 100, 106, 1, more_is_better=True), "better"),
        (Figure("missing", 0, 1, 0, more_is_better=False), "worse"),
        (Figure("missing", 1000, 1001, 0, more_is_better=False), "worse"),
        (Figure("p99", None, 1, 1, more_is_better=False), ""),
    ],
)
def test_noise_is_no_difference_but_one_lost_message_is(figure: Figure, judgement: str) -> None:
    assert figure.judgement == judgement


def test_the_same_run_twice_differs_in_nothing() -> None:
    found = compare(made(), made(), names=NAMES)
    assert found.changed == []
    assert page.outcome(found) == "same"
    assert table.render(found).endswith("Settings, versions and machine are the same.")


def test_other_settings_versions_and_machines_are_named() -> None:
    other = made(workers=3)
    other["versions"] = {"python": "4", "locust": "1"}
    other["machine"]["cpus"] = 8
    changed = compare(made(), other, names=NAMES).changed
    assert [(one.what, one.name, one.before, one.after) for one in changed] == [
        ("setting", "users", "2", "3"),
        ("version", "python", "3", "4"),
        ("version", "locust", "–", "1"),
        ("machine", "cpus", "2", "8"),
        ("workers", "count", "2", "3"),
    ]


def test_the_page_has_the_figures_of_both() -> None:
    found = compare(made(lost=0), made(lost=1), names=("<a>.json", "b.json"))
    shown = parsed(page.render(found))
    rows = shown.tables["A and B"]
    assert rows[1] == ["missing deliveries", "0", "1", "-", "worse"]
    assert shown.verdict == "WORSE"
    assert "<a>.json" in shown.text


def test_a_file_that_is_none_of_ours_is_refused_in_a_sentence(tmp_path: Path, before: Path) -> None:
    with pytest.raises(Unreadable, match=r"^There is no file .*nothing\.json\.$"):
        read(tmp_path / "nothing.json")
    other = tmp_path / "other.json"
    for content, said in (
        ("{", "is not JSON."),
        ("[1]", "is not a report of `make loadtest`."),
        (json.dumps({"schema": 1, "rows": []}), "is not a report of `make loadtest`."),
        (json.dumps(made() | {"schema": SCHEMA + 1}), f"is a report of version {SCHEMA + 1}; this program reads"),
        (json.dumps({"schema": SCHEMA, "totals": {}, "matrix": []}), "is not a whole report: it has no acknowledge, "),
    ):
        other.write_text(content)
        with pytest.raises(Unreadable) as refused:
            read(other)
        assert said in str(refused.value)
    with pytest.raises(Unreadable, match="cannot be read"):
        read(tmp_path)


def test_the_command_prints_a_table_and_writes_a_page(tmp_path: Path, before: Path) -> None:
    after = tmp_path / "after.json"
    write_json(made(lost=1), after)
    done = run(str(before), str(after))
    assert (done.returncode, done.stderr) == (0, "")
    assert "missing deliveries" in done.stdout
    assert "difference.html" in done.stdout
    assert parsed((tmp_path / "difference.html").read_text("utf-8")).verdict == "WORSE"


def test_the_command_says_what_it_needs(tmp_path: Path, before: Path) -> None:
    missing = run(str(before), str(tmp_path / "none.json"))
    assert (missing.returncode, missing.stdout) == (2, "")
    assert missing.stderr == f"There is no file {tmp_path / 'none.json'}.\n"
    alone = run(str(before))
    assert alone.returncode == 2
    assert alone.stderr.startswith("Which two reports? make report-diff A=")

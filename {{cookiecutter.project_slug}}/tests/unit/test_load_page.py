"""The page of a load test: its verdict first, nothing in it that is not in the report, nothing that runs."""

import copy
import json
import re
from pathlib import Path

import pytest

from loadtests import page
from loadtests.pages import document
from loadtests.report import ProcessFigures, Report
from tests.load_reports import made
from tests.pages import parsed

HOSTILE = "</script><script>alert(1)</script><!-- \"'&\u2028"


def test_the_verdict_comes_first_with_its_reason() -> None:
    passed = parsed(page.render(made(lost=0)))
    assert (passed.verdict, passed.title) == ("PASSED", "PASSED: Load test, 2026-01-01T00:00:00+00:00")
    assert passed.headline.startswith("All 4 deliveries arrived, once and in order")
    failed = parsed(page.render(made(lost=1)))
    assert failed.verdict == "FAILED"
    assert failed.headline.startswith("chat-1 → chat-1: 1 of 1 missing")
    assert "3 of 4 deliveries arrived" in failed.headline


@pytest.mark.parametrize(
    ("outcome", "words"),
    [("invalid", "The load generator was the bottleneck"), ("interrupted", "Stopped before its end")],
)
def test_other_outcomes_say_what_they_mean(outcome: str, words: str) -> None:
    report = made()
    report["verdict"]["outcome"] = outcome
    shown = parsed(page.render(report))
    assert shown.verdict == outcome.upper()
    assert words in shown.headline


def test_the_matrix_is_a_table_of_origins_and_receivers_in_which_what_is_wrong_is_marked() -> None:
    text = page.render(made())
    rows = parsed(text).tables["Delivered, by the worker of the sender (rows) and of the receiver (columns)"]
    assert rows[0] == ["worker", "to chat-1", "to chat-2"]
    assert [row[0] for row in rows[1:]] == ["from chat-1", "from chat-2"]
    assert rows[1][1] == "0\nof 1 · 1 missing"
    assert re.fullmatch(r"1\nof 1 · p99 3\.0 ms", rows[2][1])
    assert text.count('<td class="bad number" style="--heat: 100%">') == 1
    assert text.count('<td class="good number">1<small>') == 3


def test_missing_messages_are_named() -> None:
    rows = parsed(page.render(made())).tables["Missing deliveries, the first of them"]
    assert rows[1] == ["0", "chat-1", "chat-1", "room/1", "user at chat-1", "5-1"]


def test_the_page_carries_the_report_itself() -> None:
    report = made()
    assert parsed(page.render(report)).data == json.loads(json.dumps(report))


def test_nothing_that_somebody_else_named_becomes_part_of_the_page() -> None:
    report = made(room=HOSTILE)
    report["settings"]["url"] = HOSTILE
    report["machine"]["platform"] = HOSTILE
    report["versions"][HOSTILE] = HOSTILE
    report["verdict"]["reasons"] = [HOSTILE]
    report["processes"]["series"][0]["name"] = HOSTILE
    report["connections"]["refused"] = {HOSTILE: 1}
    text = page.render(report)
    shown = parsed(text)
    assert "<script>" not in text
    assert shown.data == json.loads(json.dumps(report))
    assert HOSTILE in shown.text
    assert shown.tables["Missing deliveries, the first of them"][1][3] == HOSTILE


def test_every_number_in_its_tables_comes_from_the_report() -> None:
    """Each number of the report that a table shows is changed, and the table shows the new one."""
    report = made(lost=0)
    for number, latency in enumerate((report["same_worker"], report["other_worker"], report["acknowledge"])):
        latency.update(
            {"count": 9001 + number, "p50": 11.5 + number, "p95": 21.5, "p99": 31.5, "p99_9": 41.5, "max": 51.5}
        )
    report["matrix"][1].update({"expected": 7001, "delivered": 7000, "missing": 1})
    report["processes"]["series"][0]["seconds"][1].update(
        {"cpu": 0.9, "memory_bytes": 88_000_000, "connections": 99, "messages": 777.0}
    )
    tables = parsed(page.render(report)).tables
    latencies = tables["From when a message was due"]
    assert latencies[1] == ["to the same worker", "9,001", "11.5", "21.5", "31.5", "41.5", "51.5"]
    assert latencies[2][1:3] == ["9,002", "12.5"]
    assert latencies[3][1:3] == ["9,003", "13.5"]
    matrix = tables["Delivered, by the worker of the sender (rows) and of the receiver (columns)"]
    assert matrix[1][2].startswith("7,000\nof 7,001 · 1 missing")
    assert tables["What each process took"][1] == ["chat-1", "70%", "90%", "88 MB", "99", "777"]
    assert dict(map(tuple, tables["Machine"][1:])) == {  # type: ignore[arg-type]
        "began": "2026-01-01T00:00:00+00:00",
        "cpus": "2",
        "memory": "8.0 GB",
    }
    assert tables["Settings"][1:] == [["users", "2"], ["p99 ms", "100"]]


def test_what_was_not_measured_is_said() -> None:
    report = made()
    report["processes"] = ProcessFigures(note="Not measured: there is no stack here.", series=[])
    assert "Not measured: there is no stack here." in parsed(page.render(report)).text


def test_a_run_that_measured_nothing_has_a_page() -> None:
    report = made(workers=0, lost=0)
    report["timeline"] = []
    report["processes"]["series"] = []
    shown = parsed(page.render(report))
    assert "Nothing was sent." in shown.text
    assert shown.text.count("No data.") == 5


def test_rendering_changes_nothing() -> None:
    report = made()
    before: Report = copy.deepcopy(report)
    page.render(report)
    assert report == before


def test_a_page_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "new" / "latest.html"
    document.write("one", path)
    document.write("two", path)
    assert [(one.name, one.read_text("utf-8")) for one in path.parent.iterdir()] == [("latest.html", "two")]

"""The report as a file and as a table."""

import json
from pathlib import Path

import pytest

from loadtests import report, table
from tests.load_reports import made


def test_the_file_holds_the_report_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "new" / "latest.json"
    written = made()
    report.write_json(written, path)
    assert json.loads(path.read_text("utf-8")) == json.loads(json.dumps(written))
    assert [one.name for one in path.parent.iterdir()] == ["latest.json"], "no draft is left"


def test_the_matrix_has_every_pair_and_names_what_is_missing() -> None:
    matrix = made()["matrix"]
    assert [(cell["origin"], cell["receiver"], cell["missing"]) for cell in matrix] == [
        ("chat-1", "chat-1", 1),
        ("chat-1", "chat-2", 0),
        ("chat-2", "chat-1", 0),
        ("chat-2", "chat-2", 0),
    ]
    assert matrix[0]["missing_examples"] == [
        {"message": 0, "position": "5-1", "topic": "room/1", "user": "user at chat-1"}
    ]


def test_same_and_other_worker_are_kept_apart() -> None:
    both = made(lost=0)
    assert (both["same_worker"]["count"], both["other_worker"]["count"]) == (2, 2)
    assert both["other_worker"]["p99"] == pytest.approx(3, rel=0.01)
    assert sum(count for _, count in both["other_worker"]["histogram"]) == 2


def test_the_table_shows_the_verdict_its_reasons_and_every_pair() -> None:
    text = table.render(made())
    assert "FAILED: 3 of 4 deliveries (ratio 0.750000)" in text
    assert "chat-1 → chat-1: 1 of 1 missing" in text
    assert "  chat-1     0/1     1/1\n  chat-2     1/1     1/1" in text
    assert "same worker: 1 of 1 (100.0%)" in text


def test_a_ratio_just_below_one_is_not_shown_as_one() -> None:
    almost = made()
    almost["totals"]["ratio"] = 0.99999999
    assert "ratio 1)" not in table.render(almost)


def test_the_table_of_many_workers_is_one_line_or_the_wrong_pairs() -> None:
    assert "between all 7 × 7 pairs" in table.render(made(workers=7, lost=0))
    text = table.render(made(workers=7, lost=2))
    assert "  chat-1        chat-2          0         1" in text
    assert "chat-3" not in text.partition("milliseconds")[0]


def test_a_report_of_a_run_that_measured_nothing_can_be_shown() -> None:
    assert "FAILED: 0 of 0 deliveries (ratio -)" in table.render(made(workers=0, lost=0))

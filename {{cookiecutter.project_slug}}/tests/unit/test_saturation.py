"""Where the knee is, and what the page and the table of a saturation run say."""

import json
from typing import Any

import pytest

from loadtests.saturation import page, table
from loadtests.saturation.knee import EXIT_CODES, StepOutcome, find_knee
from tests.load_reports import saturation, step
from tests.pages import parsed


@pytest.mark.parametrize(
    ("fields", "outcome", "reason"),
    [
        ({}, StepOutcome.HELD, ""),
        ({"p99": 101}, StepOutcome.SLOW, "p99 is 101.0 ms (at most 100 ms)"),
        ({"delivered": 998}, StepOutcome.BROKEN, "2 deliveries missing"),
        ({"duplicates": 1}, StepOutcome.BROKEN, "1 delivered twice"),
        ({"out_of_order": 3}, StepOutcome.BROKEN, "3 out of order"),
        ({"otherwise_wrong": 2}, StepOutcome.BROKEN, "2 wrong in another way"),
        ({"unrecovered": 1}, StepOutcome.BROKEN, "1 clients told of a hole"),
        ({"acknowledged": 99}, StepOutcome.BROKEN, "1 messages never acknowledged"),
        ({"disturbances": 1}, StepOutcome.BROKEN, "1 connections lost, handshakes that failed or errors"),
        ({"expected": 0, "delivered": 0}, StepOutcome.BROKEN, "nothing was delivered"),
        ({"overdue": 5}, StepOutcome.GENERATOR, "5 messages are left"),
        ({"generator_cpu": 0.95, "p99": 500}, StepOutcome.GENERATOR, "95% of its core"),
        ({"generator_lag_p99_ms": 26.0}, StepOutcome.GENERATOR, "26 ms late"),
        ({"generator_cpu": 0.95, "delivered": 1}, StepOutcome.BROKEN, "999 deliveries missing"),
    ],
)
def test_what_does_not_hold_and_why(fields: dict[str, Any], outcome: StepOutcome, reason: str) -> None:
    judged = step(**fields)
    assert judged["outcome"] == outcome
    assert reason in judged["reason"]


def test_the_knee_is_between_the_last_step_that_held_and_the_first_that_did_not() -> None:
    knee = find_knee([step(100), step(150), step(225, p99=300)])
    assert (knee["outcome"], knee["held_rate"], knee["broke_rate"]) == ("knee", 150, 225)
    assert knee["sentence"] == ("Everything held at 150 messages per second; at 225: p99 is 300.0 ms (at most 100 ms).")


def test_without_a_step_that_fails_the_knee_is_above_all_of_them() -> None:
    knee = find_knee([step(100), step(150)])
    assert (knee["outcome"], knee["held_rate"], knee["broke_rate"]) == ("no knee", 150, None)


def test_a_generator_that_gives_up_says_nothing_about_the_service() -> None:
    knee = find_knee([step(100), step(150, generator_cpu=0.99)])
    assert (knee["outcome"], knee["held_rate"], EXIT_CODES[knee["outcome"]]) == ("invalid", 100, 3)
    assert "the load generator" in knee["sentence"]


def test_a_first_step_that_fails_is_a_failure() -> None:
    knee = find_knee([step(100, delivered=1)])
    assert (knee["outcome"], knee["held_rate"], EXIT_CODES[knee["outcome"]]) == ("failed", None, 1)


def test_stopping_says_what_held_so_far() -> None:
    assert find_knee([], interrupted=True)["sentence"] == "No step was finished."
    knee = find_knee([step(100)], interrupted=True)
    assert (knee["outcome"], knee["held_rate"], EXIT_CODES[knee["outcome"]]) == ("interrupted", 100, 130)


def test_the_table_has_the_figures_under_their_headings() -> None:
    heading, row = table.heading().split(), table.row(step(1500, p99=80)).split()
    assert heading[:4] == ["due/s", "sent/s", "delivered/s", "ratio"]
    assert row == ["1,500", "1,500", "15,000", "1", "20.0", "40.0", "80.0", "20%", "held"]


def test_the_page_shows_every_step_and_marks_the_last_that_held() -> None:
    written = saturation(step(100), step(150), step(225, p99=300))
    shown = parsed(page.render(written))
    assert (shown.verdict, shown.headline) == ("KNEE", written["knee"]["sentence"])
    rows = shown.tables["Step by step"]
    assert [row[0] for row in rows[1:]] == ["100", "150", "225"]
    assert rows[3][3:8] == ["1", "75.0", "150.0", "300.0", "300.0"]
    assert rows[3][-1] == "slow\np99 is 300.0 ms (at most 100 ms)"
    assert "held: 150/s" in shown.charts["Latency"]
    assert "p99 at most 100 ms" in shown.charts["Latency"]
    assert shown.charts["Latency"].count("<circle") == 9
    assert shown.data == json.loads(json.dumps(written))


def test_a_run_without_a_step_has_a_page() -> None:
    assert parsed(page.render(saturation(interrupted=True))).verdict == "INTERRUPTED"

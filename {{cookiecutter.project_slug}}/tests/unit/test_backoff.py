"""Waiting before another try: random, below a ceiling that doubles up to its longest."""

from itertools import islice

import pytest

from distributed_websocket.backoff import delays


def test_each_delay_is_random_between_nothing_and_a_ceiling_that_doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[float, float]] = []

    def ceiling(low: float, high: float) -> float:
        asked.append((low, high))
        return high

    monkeypatch.setattr("random.uniform", ceiling)
    assert list(islice(delays(0.1, 1.0), 6)) == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert {low for low, _ in asked} == {0}


def test_those_who_failed_together_do_not_come_back_together() -> None:
    assert len({next(delays()) for _ in range(20)}) == 20

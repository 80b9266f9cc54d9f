"""Rooms, users and messages are divided among the generator's processes, and nothing is lost on the way."""

from __future__ import annotations

from typing import Any

import pytest

from loadtests.distributed.share import divide
from loadtests.settings import Settings


def settings(**given: Any) -> Settings:
    values: dict[str, Any] = {name: field.get_default() for name, field in Settings.model_fields.items()}
    return Settings.model_construct(**{**values, "worker_count": 3, **given})


@pytest.mark.parametrize("users", [2, 5, 19, 200, 20_000])
@pytest.mark.parametrize("rooms", [1, 3, 20, 400])
@pytest.mark.parametrize("processes", [1, 2, 3, 7, 32])
def test_the_shares_are_the_whole(users: int, rooms: int, processes: int) -> None:
    whole = settings(users=users, rooms=rooms, processes=processes, rate=91, duration_seconds=1.5)
    shares = divide(whole, "a1b2c3")
    assert [share.number for share in shares] == list(range(1, min(processes, users, rooms) + 1))
    assert sum(share.users for share in shares) == users
    assert sum(share.rooms for share in shares) == min(rooms, users)
    assert sum(share.messages for share in shares) == whole.message_count
    assert sum(share.rate for share in shares) == pytest.approx(91)
    assert [share.first_user for share in shares] == [
        sum(share.users for share in shares[:before]) for before in range(len(shares))
    ]
    for share in shares:
        smallest = users // min(rooms, users)
        assert smallest * share.rooms <= share.users <= (smallest + 1) * share.rooms, "the rooms are as large as in one"
        assert share.messages == pytest.approx(share.rate * 1.5, abs=2)


def test_one_process_does_it_all() -> None:
    (share,) = divide(settings(processes=1, seed=5), "a1b2c3")
    assert (share.users, share.rooms, share.rate, share.messages) == (200, 20, 200, 6000)
    assert (share.given_url, share.worker_count) == ("ws://127.0.0.1:8000/ws", 3)

"""`Share`: the rooms and users of one generator process, so that no room has members in two of them. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..settings import Settings

PORT = 5557
"""Where a master listens whose processes are started by something else. It is Locust's own."""


@dataclass(frozen=True, slots=True)
class Share:
    """Of a run. What is not here, each process knows from its own settings: the secret, and where its report goes."""

    run: str
    """Named in the rooms: nobody else uses them."""
    number: int
    """Of the process, from 1 on."""
    first_user: int
    """How many users the processes before it have."""
    users: int
    rooms: int
    rate: float
    messages: int
    duration_seconds: float
    seed: int
    given_url: str
    worker_count: int

    def to_message(self) -> dict[str, Any]:
        return asdict(self)


def divide(settings: Settings, run: str) -> list[Share]:
    """The rooms in turn, each with as many users as it would have in one process, and messages for so many users.

    Fewer shares than processes, where there are not as many rooms with members.
    """
    rooms = min(settings.rooms, settings.users)
    parts = min(settings.processes, rooms)
    shares = []
    for number in range(1, parts + 1):
        first, end = rooms * (number - 1) // parts, rooms * number // parts
        users_before, users_until = _users_in(settings, rooms, first), _users_in(settings, rooms, end)
        sent_before, sent_until = (
            settings.message_count * users // settings.users for users in (users_before, users_until)
        )
        shares.append(
            Share(
                run=run,
                number=number,
                first_user=users_before,
                users=users_until - users_before,
                rooms=end - first,
                rate=settings.rate * (users_until - users_before) / settings.users,
                messages=sent_until - sent_before,
                duration_seconds=settings.duration_seconds,
                seed=settings.seed + number,
                given_url=settings.url,
                worker_count=settings.worker_count,
            )
        )
    return shares


def _users_in(settings: Settings, rooms: int, count: int) -> int:
    """How many users the first `count` of the rooms have: the first rooms have one more where it does not come out."""
    return settings.users // rooms * count + min(count, settings.users % rooms)

"""`Roster`: a worker's connections, found by id and counted by user, and whether one more is taken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from http import HTTPStatus
from typing import NamedTuple

from .connection import Connection
from .limits import Limits
from .metrics import CONNECTIONS, HANDSHAKES, LIMITS_HIT


class Refusal(NamedTuple):
    """Why a handshake ends, and with which status."""

    status: HTTPStatus
    detail: str


class Roster:
    """Holds the connections in the order in which they came.

    A place is taken by `admit`, before a handshake is accepted, so that handshakes that are under way together cannot
    pass a limit together; `add` fills it, and `cancel` gives it back.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._connections: dict[Connection, None] = {}
        self._by_id: dict[str, list[Connection]] = {}
        self._places = 0
        self._places_of: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._connections)

    def __iter__(self) -> Iterator[Connection]:
        return iter(self._connections)

    def __contains__(self, connection: Connection) -> bool:
        return connection in self._connections

    def everybody(self) -> Collection[Connection]:
        """A view, for use at once."""
        return self._connections.keys()

    def with_ids(self, conn_ids: Iterable[str]) -> set[Connection]:
        return {connection for conn_id in conn_ids for connection in self._by_id.get(conn_id, ())}

    def admit(self, user: str | None, *, draining: bool) -> Refusal | None:
        """Take a place for a connection of a user, or say why there is none."""
        limits = self._limits
        per_user = limits.connections_per_user
        if draining:
            HANDSHAKES.labels("draining").inc()
            return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "this worker is restarting, come back")
        if limits.connections is not None and self._places >= limits.connections:
            HANDSHAKES.labels("worker_full").inc()
            LIMITS_HIT.labels("connections").inc()
            return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "this worker is full, come back later")
        if user is not None and per_user is not None and self._places_of[user] >= per_user:
            HANDSHAKES.labels("user_full").inc()
            LIMITS_HIT.labels("connections_per_user").inc()
            return Refusal(HTTPStatus.TOO_MANY_REQUESTS, f"at most {per_user} connections of a user are taken")
        HANDSHAKES.labels("accepted").inc()
        self._places += 1
        if user is not None:
            self._places_of[user] += 1
        return None

    def cancel(self, user: str | None) -> None:
        """Give back a place that `admit` took."""
        self._places -= 1
        if user is not None:
            self._places_of[user] -= 1
            if not self._places_of[user]:
                del self._places_of[user]

    def add(self, connection: Connection) -> None:
        self._connections[connection] = None
        self._by_id.setdefault(connection.id, []).append(connection)
        CONNECTIONS.inc()

    def remove(self, connection: Connection) -> None:
        del self._connections[connection]
        self._forget_id(connection)
        self.cancel(connection.user)
        CONNECTIONS.dec()

    def rename(self, connection: Connection, conn_id: str) -> None:
        self._forget_id(connection)
        connection.id = conn_id
        self._by_id.setdefault(conn_id, []).append(connection)

    def _forget_id(self, connection: Connection) -> None:
        same_id = self._by_id[connection.id]
        same_id.remove(connection)
        if not same_id:
            del self._by_id[connection.id]

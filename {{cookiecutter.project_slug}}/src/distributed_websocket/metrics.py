"""What is counted, for Prometheus: `ws_...` on a worker, `gateway_...` on a gateway. Each says what to do about it.

Counted once for each batch, not for each message, wherever there is a batch; what only has a size is asked for it when
Prometheus comes (`watch`). No label takes a value that a client could choose.
"""

from __future__ import annotations

from typing import Final, Protocol
from weakref import WeakSet

from prometheus_client import Counter, Gauge, Histogram, Info

from .codes import CloseCode, ErrorCode

# A worker

WORKER = Info(
    "ws_worker",
    "The worker's name, as the log lines and the welcome message have it: join it to the others by instance, where "
    "instance is an address that nobody knows.",
)
CONNECTIONS = Gauge(
    "ws_connections",
    "Open connections of this worker. Scale out before it nears the limit (Limits.connections).",
)
HANDSHAKES = Counter(
    "ws_handshakes",
    "Handshakes by result (accepted, unauthorized, forbidden, not_ready, draining, worker_full, user_full). A storm of "
    "accepted ones: clients reconnect; look for a worker or proxy that ended them. unauthorized: tokens that ran out, "
    "or a gateway with another CHAT_TOKEN_SECRET.",
    ["result"],
)
CLOSED = Counter(
    "ws_closed",
    "Connections that ended, by the close code of whoever closed first. 4001: clients too slow for what they subscribe "
    "to, or a stalled network; 1011: look into the log for the exception; 1006: lost without a word, the network or a "
    "proxy between; 1012: drains, expected at a restart only.",
    ["code"],
)
RECEIVED = Counter(
    "ws_messages_received",
    "Messages from clients, by type. Many subscribe to few send: clients reconnect, see ws_handshakes.",
    ["type"],
)
REFUSED = Counter(
    "ws_messages_refused",
    "Messages answered with an error, by code. rate_limited and invalid_*: a faulty or hostile client; overloaded and "
    "unavailable: the log is slow or gone, look at Redis.",
    ["code"],
)
LIMITS_HIT = Counter(
    "ws_limits_hit",
    "Times that a limit was passed, by its name in Limits. Of one client (message_bytes, messages_per_second, "
    "subscriptions, unsent_bytes): find it in the log. connections: scale out. waiting_bytes: Redis is too slow.",
    ["limit"],
)
DELIVERED = Counter(
    "ws_messages_delivered",
    "Messages written to connections (one message to ten counts ten). Nears what one core can do (docs/scaling.md): "
    "scale out.",
)
BATCH = Histogram(
    "ws_batch_messages",
    "Messages in one batch read from the log. Grows by itself under load; steady above 500: add shards or workers.",
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000),
)
FAN_OUT_SECONDS = Histogram(
    "ws_fan_out_seconds",
    "Time to write one batch to all its receivers; the event loop does nothing else. Above 0.1: fewer connections "
    "for each worker.",
    buckets=(0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0),
)
PUBLISH_SECONDS = Histogram(
    "ws_publish_seconds",
    "From accepting a message to having it stored. Above 0.1: Redis is slow (disk, CPU, network) or the worker is.",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0),
)
LOG_LAG_SECONDS = Gauge(
    "ws_log_lag_seconds",
    "Age of the newest entry when it was read, by Redis's clock against this machine's. Growing: this worker cannot "
    "keep up with what it must read.",
)
APPEND_FAILURES = Counter(
    "ws_append_failures",
    "Times that the log did not take a batch. What has an idempotency key is tried again for some seconds; look at "
    "Redis: its memory, its disk, the way to it.",
)
READER_FAILURES = Counter(
    "ws_reader_failures",
    "Times that this worker did not hear the log and reconnected to Redis. Now and then: network or a Redis restart. "
    "Often: the worker is not ready meanwhile; look at Redis and the way to it.",
)
LOG_LOST = Counter(
    "ws_log_lost",
    "Times that the log had lost entries (flushed, restarted without its data, trimmed before it was read). Clients "
    "were told recovered: false. Always look into it.",
)
RECOVERIES = Counter(
    "ws_recoveries",
    "Subscriptions with since, by result (recovered, lost). lost: clients were away for longer than the log is kept.",
    ["result"],
)
READY = Gauge(
    "ws_ready",
    "1 while this worker hears the log and takes connections, else 0. 0 for longer than a restart takes: /readyz says "
    "why; the balancer sends nobody there meanwhile.",
)
UNSENT_BYTES = Gauge(
    "ws_unsent_bytes",
    "Written, and not taken yet by the clients' sockets, over all connections. Growing: a network that stalls, or "
    "clients that are too slow; each is closed at its own bound. Memory of this worker.",
)
WAITING_BYTES = Gauge(
    "ws_publish_waiting_bytes",
    "Accepted and not stored yet. At the limit (Limits.waiting_bytes) clients get overloaded: Redis is too slow.",
)
PROBE_AGE_SECONDS = Gauge(
    "ws_probe_age_seconds",
    "Since this worker last heard the log, probes of its own included; of its shards the worst. Above 10: it is deaf, "
    "or its event loop is stuck; ws_ready should be 0. If it is not, restart the worker and keep its log.",
)
PRESENT = Gauge(
    "ws_presence",
    "Users in topics by this worker's connections (a user in two topics counts two). Far above ws_connections: each "
    "user is in many topics, and Redis keeps all of them.",
)

# A gateway

PROXIED = Counter(
    "gateway_handshakes",
    "Handshakes by result (accepted, unauthorized, forbidden, refused, unreachable, timed_out). unauthorized: tokens "
    "ran out, or a page with an old one; forbidden: another site's page, or an origin missing in "
    "CHAT_ALLOWED_ORIGINS; refused: the worker said no, see its ws_handshakes; unreachable, timed_out: no worker is "
    "ready, or the balancer between is gone.",
    ["result"],
)
TUNNELS = Gauge(
    "gateway_tunnels",
    "WebSockets open through this gateway. Two file descriptors each: add gateways before process_open_fds nears "
    "process_max_fds.",
)

_LIMIT_OF: Final = {
    ErrorCode.TOO_LARGE: "message_bytes",
    ErrorCode.TOO_MANY_SUBSCRIPTIONS: "subscriptions",
    ErrorCode.OVERLOADED: "waiting_bytes",
}
_LIMITS: Final = (
    *_LIMIT_OF.values(),
    "messages_per_second",
    "unsent_bytes",
    "connections",
    "connections_per_user",
)
_CLOSE_CODES: Final = {str(code) for code in (*range(1000, 1015), *CloseCode)}

# A counter that appears only when it first moves hides that move from `rate` and `increase`.
for _result in ("accepted", "unauthorized", "forbidden", "not_ready", "draining", "worker_full", "user_full"):
    HANDSHAKES.labels(_result)
for _result in ("accepted", "unauthorized", "forbidden", "refused", "unreachable", "timed_out"):
    PROXIED.labels(_result)
for _result in ("recovered", "lost"):
    RECOVERIES.labels(_result)
for _error in ErrorCode:
    REFUSED.labels(_error)
for _limit in _LIMITS:
    LIMITS_HIT.labels(_limit)
for _close in (*CloseCode, 1006):
    CLOSED.labels(str(int(_close)))


def count_refusal(code: ErrorCode) -> None:
    """A message was answered with an error."""
    REFUSED.labels(code).inc()
    limit = _LIMIT_OF.get(code)
    if limit is not None:
        LIMITS_HIT.labels(limit).inc()


def count_end(code: int) -> None:
    """A connection ended. Clients may close with thousands of codes: those that mean nothing here are one."""
    text = str(int(code))
    CLOSED.labels(text if text in _CLOSE_CODES else "other").inc()
    if code == CloseCode.SLOW:
        LIMITS_HIT.labels("unsent_bytes").inc()


class Watched(Protocol):
    """A worker's side of what is asked for when Prometheus comes."""

    @property
    def not_ready_reason(self) -> str | None: ...

    @property
    def unsent_bytes(self) -> int: ...

    @property
    def waiting_bytes(self) -> int: ...

    @property
    def silent_seconds(self) -> float: ...

    @property
    def present(self) -> int: ...


_WATCHED: Final[WeakSet[Watched]] = WeakSet()


def watch(worker: Watched) -> None:
    _WATCHED.add(worker)


def unwatch(worker: Watched) -> None:
    _WATCHED.discard(worker)


READY.set_function(lambda: bool(_WATCHED) and all(worker.not_ready_reason is None for worker in _WATCHED))
UNSENT_BYTES.set_function(lambda: sum(worker.unsent_bytes for worker in _WATCHED))
WAITING_BYTES.set_function(lambda: sum(worker.waiting_bytes for worker in _WATCHED))
PROBE_AGE_SECONDS.set_function(lambda: max((worker.silent_seconds for worker in _WATCHED), default=0.0))
PRESENT.set_function(lambda: sum(worker.present for worker in _WATCHED))

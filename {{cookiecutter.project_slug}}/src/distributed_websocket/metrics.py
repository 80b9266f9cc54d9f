"""What a worker counts, for Prometheus. Each metric says what to do when it moves; `docs/operations.md` lists them.

Counted once for each batch, not for each message, wherever there is a batch.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

CONNECTIONS = Gauge(
    "ws_connections",
    "Open connections of this worker. Scale out before it nears the limit (Limits.connections).",
)
HANDSHAKES = Counter(
    "ws_handshakes",
    "Handshakes by result (accepted, draining, worker_full, user_full). A storm of accepted ones: clients reconnect; "
    "look for a worker or proxy that ended them.",
    ["result"],
)
CLOSED = Counter(
    "ws_closed",
    "Connections ended by this worker, by close code. 4001: clients too slow for what they subscribe to, or a stalled "
    "network; 1011: look into the log for the exception.",
    ["code"],
)
RECEIVED = Counter("ws_messages_received", "Messages from clients, by type.", ["type"])
REFUSED = Counter(
    "ws_messages_refused",
    "Messages answered with an error, by code. rate_limited and invalid_*: a faulty or hostile client; overloaded and "
    "unavailable: the log is slow or gone, look at Redis.",
    ["code"],
)
DELIVERED = Counter("ws_messages_delivered", "Messages written to connections (one message to ten counts ten).")
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
WAITING_BYTES = Gauge("ws_publish_waiting_bytes", "Accepted and not stored yet. At the limit clients get overloaded.")
READER_FAILURES = Counter(
    "ws_reader_failures",
    "Times that this worker did not hear the log and reconnected. Now and then: network or a Redis restart. Often: "
    "the worker is not ready meanwhile; look at Redis and the way to it.",
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

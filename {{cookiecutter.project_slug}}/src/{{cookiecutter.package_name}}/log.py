"""The log of every topic, which the chat workers read, and gateways append to what other services publish."""

from typing import Any

from distributed_websocket import BrokerInterface, create_broker
from distributed_websocket.brokers import PUBSUB_SCHEMES

from .settings import MEMORY, LogSettings

CHANNEL = "chat"
SHARD_LEVELS = 2
"""Each room, `room/NAME`, shares a shard with all that is below it; the rooms spread. Another number is a new log."""


def open_log(settings: LogSettings) -> BrokerInterface:
    """The broker that the settings name. It connects when it is first used."""
    url = settings.broker_url
    if url.startswith(tuple(f"{scheme}:" for scheme in PUBSUB_SCHEMES)):
        return create_broker(url)  # stores nothing: the settings are about what is stored
    options: dict[str, Any] = {
        "shards": settings.shards,
        "shard_levels": SHARD_LEVELS,
        "retention_messages": settings.retention_messages,
    }
    if url != MEMORY:
        options |= {
            "retention_seconds": settings.retention_seconds,
            "idempotency_seconds": settings.idempotency_seconds,
            "durability": settings.durability,
        }
    return create_broker(url, **options)

"""The brokers, and `create_broker`, which chooses one by URL."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from .interface import BrokerInterface, BrokerT, LogBroker, is_valid_broker
from .memory import InMemoryBroker
from .redis_pubsub import RedisPubSubBroker
from .redis_streams import RedisBroker

__all__ = [
    "BrokerInterface",
    "BrokerT",
    "InMemoryBroker",
    "LogBroker",
    "RedisBroker",
    "RedisPubSubBroker",
    "create_broker",
    "is_valid_broker",
]

LOG_SCHEMES: Final = ("redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
PUBSUB_SCHEMES: Final = ("redis+pubsub", "rediss+pubsub")


def create_broker(broker_url: str, **options: Any) -> BrokerInterface:
    """The broker for a URL: `memory://`, `redis://`, `redis+sentinel://`, `redis+cluster://`, `redis+pubsub://`.

    With `rediss` for `redis` over TLS. Options go to the broker's constructor.
    """
    scheme = urlsplit(broker_url).scheme
    if scheme == "memory":
        return InMemoryBroker(**options)
    if scheme in PUBSUB_SCHEMES:
        return RedisPubSubBroker(broker_url, **options)
    if scheme in LOG_SCHEMES:
        return RedisBroker(broker_url, **options)
    raise ValueError(f"no broker for the scheme {scheme!r}; known: memory, {', '.join(LOG_SCHEMES + PUBSUB_SCHEMES)}")

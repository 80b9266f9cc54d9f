"""The brokers, and `create_broker`, which chooses one by URL."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from .interface import BrokerInterface, BrokerT, LogBroker, is_valid_broker
from .memory import InMemoryBroker
from .redis_streams import RedisBroker

__all__ = [
    "BrokerInterface",
    "BrokerT",
    "InMemoryBroker",
    "LogBroker",
    "RedisBroker",
    "create_broker",
    "is_valid_broker",
]


def create_broker(broker_url: str, **options: Any) -> BrokerInterface:
    """The broker for a URL: `memory://`, `redis://`, `rediss://`. Options go to its constructor."""
    scheme = urlsplit(broker_url).scheme
    if scheme == "memory":
        return InMemoryBroker(**options)
    if scheme in ("redis", "rediss"):
        return RedisBroker(broker_url, **options)
    raise ValueError(f"no broker for the scheme {scheme!r}; known: memory, redis, rediss")

"""The client for a URL of Redis: one server, Sentinels, or a Cluster."""

from __future__ import annotations

from typing import Any, Final, NamedTuple
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit, urlunsplit

from redis.asyncio.connection import ConnectionPool, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff

from .redis_client import Address, OneServer, RedisClient
from .redis_cluster import ClusterClient

REDIS_PORT: Final = 6379
SENTINEL_PORT: Final = 26379

CONNECTION_OPTIONS: Final[dict[str, Any]] = {
    # redis-py repeats a failed command by itself: an append that did arrive would be stored twice.
    "retry": Retry(NoBackoff(), 0),
    "protocol": 2,
    "decode_responses": False,  # bodies and names are read as the bytes that they are
    # Its own timeouts, 5 s unless said otherwise since 8.0, end the wait for a message, and before Python 3.12 they may
    # swallow a cancellation (`asyncio.wait_for`). Every exchange here has a deadline around it.
    "socket_timeout": None,
    "socket_connect_timeout": None,
    "socket_keepalive": True,
}
"""What all connections have in common."""

NOT_IN_URLS: Final = frozenset({*CONNECTION_OPTIONS, "max_connections", "connection_class", "ssl", "host", "port"})
"""Options of redis-py that a URL may not set: they are set here, or said by another part of the URL."""


def open_client(url: str, *, answer_seconds: float, max_connections: int) -> RedisClient:
    """The client for a URL. Connects at its first command. Raises `ValueError` for a URL that it cannot read."""
    target = RedisURL.parse(url)
    options = CONNECTION_OPTIONS | {"max_connections": max_connections}
    if target.kind == "cluster":
        return ClusterClient(target.addresses, target.options | options, answer_seconds)
    if target.kind == "sentinel":
        secure = target.options.pop("connection_class", None) is SSLConnection
        seconds = answer_seconds / (len(target.addresses) + 1)  # they are asked one after the other
        of_sentinels = CONNECTION_OPTIONS | {
            "ssl": secure,
            "socket_timeout": seconds,
            "socket_connect_timeout": seconds,
        }
        sentinel = Sentinel(target.addresses, sentinel_kwargs=of_sentinels)  # type: ignore[no-untyped-call]
        pool = SentinelConnectionPool(  # type: ignore[no-untyped-call]
            target.service, sentinel, ssl=secure, **target.options, **options
        )
        return OneServer(pool, answer_seconds, sentinel)
    (address,) = target.addresses
    return OneServer(ConnectionPool(host=address.host, port=address.port, **target.options, **options), answer_seconds)


class RedisURL(NamedTuple):
    """What a URL says: `kind` is "", "sentinel", "cluster" or "pubsub"; `options` are redis-py's, TLS among them."""

    kind: str
    addresses: list[Address]
    options: dict[str, Any]
    service: str

    @classmethod
    def parse(cls, url: str) -> RedisURL:
        """Raises `ValueError` that says what is wrong, without the URL, which may hold a password."""
        parts = _split(url)
        if "@" in f"{parts.path}{parts.query}{parts.fragment}":
            raise ValueError("in a user name or password, / is written %2F, ? is %3F, and # is %23")
        for name in parse_qs(parts.query, keep_blank_values=True):
            if name in NOT_IN_URLS:
                raise ValueError(f"the option {name!r} cannot be set in the URL: leave it out")
        scheme, _, kind = parts.scheme.partition("+")
        if scheme not in ("redis", "rediss") or kind not in ("", "sentinel", "cluster", "pubsub"):
            raise ValueError(f"{parts.scheme!r} is no scheme of a Redis URL")
        credentials, at, hosts = parts.netloc.rpartition("@")
        addresses = [_address(host, SENTINEL_PORT if kind == "sentinel" else REDIS_PORT) for host in hosts.split(",")]
        if len(addresses) > 1 and kind not in ("sentinel", "cluster"):
            raise ValueError("one host and port, not several")
        service, path = "", parts.path
        if kind == "sentinel":
            service, _, database = path.lstrip("/").partition("/")
            path = f"/{database}"
            if not service:
                raise ValueError("the path must name the service that the Sentinels watch: /service/db")
        if kind == "cluster" and path.strip("/0"):
            raise ValueError("a Cluster has no databases but 0")
        rest = SplitResult(scheme, f"{credentials}{at}host", path, parts.query, "")
        options = dict(parse_url(urlunsplit(rest)))
        options.pop("host", None)
        return cls(kind, addresses, options, unquote(service))


def _address(text: str, default_port: int) -> Address:
    parts = _split(f"//{text}")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if not parts.hostname or port == 0:
        raise ValueError("an address is not host:port")
    return Address(parts.hostname, port or default_port)


def _split(url: str) -> SplitResult:
    """`urlsplit`, whose own errors quote what may be a part of a password."""
    try:
        return urlsplit(url)
    except ValueError:
        raise ValueError("not a URL") from None

"""What the URL of a Redis says, and the client that it asks for."""

from pathlib import Path
from typing import Any

import pytest
from redis.asyncio.connection import SSLConnection

from distributed_websocket import RedisBroker, create_broker
from distributed_websocket.brokers.clients import NOT_IN_URLS, RedisURL, open_client
from distributed_websocket.brokers.redis_client import Address, OneServer
from distributed_websocket.brokers.redis_cluster import ClusterClient
from tests.service import load


@pytest.mark.parametrize(
    ("url", "kind", "addresses", "options", "service"),
    [
        ("redis://host", "", [("host", 6379)], {}, ""),
        ("redis://:geh%2Feim@[::1]:1/2", "", [("::1", 1)], {"password": "geh/eim", "db": 2}, ""),
        ("rediss://u:p@host/0", "", [("host", 6379)],
         {"username": "u", "password": "p", "db": 0, "connection_class": SSLConnection}, ""),
        ("redis+pubsub://host:7?client_name=x", "pubsub", [("host", 7)], {"client_name": "x"}, ""),
        ("redis+sentinel://:p@a:1,b/chat/3", "sentinel", [("a", 1), ("b", 26379)], {"password": "p", "db": 3}, "chat"),
        ("redis+sentinel://a/my%20chat", "sentinel", [("a", 26379)], {}, "my chat"),
        ("redis+cluster://u:p@a:1,b,[::1]:3", "cluster", [("a", 1), ("b", 6379), ("::1", 3)],
         {"username": "u", "password": "p"}, ""),
        ("rediss+cluster://a/0", "cluster", [("a", 6379)], {"connection_class": SSLConnection, "db": 0}, ""),
    ],
)  # fmt: skip
def test_a_url_says_where_redis_is_and_how_it_is_reached(
    url: str, kind: str, addresses: list[tuple[str, int]], options: dict[str, object], service: str
) -> None:
    assert RedisURL.parse(url) == (kind, [Address(*address) for address in addresses], options, service)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://host", "'http' is no scheme of a Redis URL"),
        ("redis+magic://host", "'redis\\+magic' is no scheme"),
        ("redis://", "an address is not host:port"),
        ("redis://a,b", "one host and port, not several"),
        ("redis+pubsub://a,b", "one host and port, not several"),
        ("redis://host:0", "an address is not host:port"),
        ("redis://host:http", "an address is not host:port"),
        ("redis://[host]", "not a URL"),
        ("redis+sentinel://host", "must name the service"),
        ("redis+cluster://host/1", "no databases but 0"),
    ],
)
def test_a_url_that_cannot_be_read_is_a_value_error_without_its_password(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as raised:
        RedisURL.parse(url.replace("://", "://:geheim@"))
    assert "geheim" not in str(raised.value)


@pytest.mark.parametrize("scheme", ["redis://h:1", "redis+sentinel://h/s", "redis+cluster://h", "redis+pubsub://h"])
@pytest.mark.parametrize("option", sorted(NOT_IN_URLS))
def test_an_option_that_a_url_cannot_set_is_refused_by_name(scheme: str, option: str) -> None:
    """They passed the settings, and ended with `TypeError: got multiple values for keyword argument`."""
    for query in (f"{option}=1", f"client_name=x&{option}=geheim", f"{option}="):
        with pytest.raises(ValueError, match=f"the option '{option}' cannot be set in the URL: leave it out") as raised:
            RedisURL.parse(f"{scheme}?{query}")
        assert "geheim" not in str(raised.value)


@pytest.mark.parametrize("name", ["CHAT_BROKER_URL", "CHAT_REDIS_URL"])
def test_such_an_option_is_told_when_the_service_starts(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    settings: Any = load("settings")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHAT_TOKEN_SECRET", "an-example-secret-of-enough-characters")
    monkeypatch.setenv(name, "redis://h:6379/0?socket_timeout=3")
    with pytest.raises(SystemExit):
        settings.load(settings.GatewaySettings)
    told = "the option 'socket_timeout' cannot be set in the URL: leave it out. Allowed: URL of the "
    assert f"{name} is 'redis://h:6379/0?socket_timeout=3': {told}" in capsys.readouterr().err


@pytest.mark.parametrize("path", ["", "/0"])
@pytest.mark.parametrize("login", [":geheim{}1x", ":geheim{}geheim", "user:1{}geheim", ":geheim@geheim{}geheim"])
@pytest.mark.parametrize("character", ["/", "?", "#"])
def test_a_password_that_ends_the_address_is_refused_and_not_shown(character: str, login: str, path: str) -> None:
    with pytest.raises(ValueError, match="is written %2F") as raised:
        RedisURL.parse(f"redis://{login.format(character)}@host:6379{path}")
    assert "geheim" not in str(raised.value)


@pytest.mark.parametrize(
    "url", ["redis://:geheim", "redis://u:geheim", "redis://:[geheim]@host", "redis://:geheim\N{ACCOUNT OF}@host"]
)
def test_what_stands_where_a_port_or_an_address_should_is_not_shown(url: str) -> None:
    with pytest.raises(ValueError, match=r"not a URL|not host:port") as raised:
        RedisURL.parse(url)
    assert "geheim" not in str(raised.value)


def test_a_password_may_hold_an_at_or_a_colon() -> None:
    assert RedisURL.parse("redis://:a@b:c@host").options == {"password": "a@b:c"}


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("redis://h", OneServer),
        ("rediss://h", OneServer),
        ("redis+sentinel://h/s", OneServer),
        ("rediss+sentinel://h/s", OneServer),
        ("redis+cluster://h", ClusterClient),
        ("rediss+cluster://h", ClusterClient),
    ],
)
async def test_the_scheme_chooses_the_client_and_every_log_has_one_broker(url: str, kind: type) -> None:
    client = open_client(url, answer_seconds=1, max_connections=10)
    assert isinstance(client, kind)
    await client.close()
    broker = create_broker(url, shards=2)
    assert isinstance(broker, RedisBroker)
    await broker.disconnect()


def test_an_unknown_durability_is_refused() -> None:
    with pytest.raises(ValueError, match="durability must be one of"):
        RedisBroker("redis://h", durability="tape")  # type: ignore[arg-type]

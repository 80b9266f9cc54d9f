"""The service's settings: what is read, what is refused, and what a refusal says."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from distributed_websocket import LogBroker
from tests.processes import service_environment
from tests.service import command, load

settings: Any = load("settings")
log: Any = load("log")

SECRET = "an-example-secret-of-enough-characters"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without `.env`, and an environment without settings but a secret."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ.keys() - service_environment({}).keys():
        monkeypatch.delenv(name)
    monkeypatch.setenv("CHAT_TOKEN_SECRET", SECRET)
    return tmp_path


def complaints(capsys: pytest.CaptureFixture[str], settings_class: Any) -> list[str]:
    with pytest.raises(SystemExit) as stopped:
        settings.load(settings_class)
    assert stopped.value.code == 2
    return capsys.readouterr().err.splitlines()


def test_the_environment_outranks_the_file(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (elsewhere / ".env").write_text("CHAT_BIND_PORT=8021\nCHAT_WORKER_NAME=chat-7\n")
    monkeypatch.setenv("CHAT_BIND_PORT", "8022")
    loaded = settings.load(settings.ChatSettings)
    assert (loaded.bind_port, loaded.worker_name) == (8022, "chat-7")


def test_what_the_file_says_to_others_is_ignored(elsewhere: Path) -> None:
    (elsewhere / ".env").write_text("CHAT_PORT=9000\nCHAT_WORKERS=5\nCHAT_REDIS_PASSWORD=p\nOTHER=1\n")
    assert settings.load(settings.GatewaySettings).bind_port == 8000


def test_an_empty_value_is_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAT_BIND_PORT", "")
    assert settings.load(settings.GatewaySettings).bind_port == 8000


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("CHAT_BIND_PORT", "99999", "is '99999': Input should be less than or equal to 65535. Allowed: 1 to 65535 ("),
        ("CHAT_BIND_PORT", "http", "is 'http': Input should be a valid integer"),
        ("CHAT_LOG_FORMAT", "xml", "is 'xml': Input should be 'text' or 'json'"),
        ("CHAT_PING_INTERVAL_SECONDS", "0", "is '0': Input should be greater than or equal to 1. Allowed: 1 to 300 ("),
        ("CHAT_WORKERS_URL", "http://127.0.0.1:8001/ws", "not a URL ws://host:port/... or wss://"),
        ("CHAT_REDIS_URL", "redis://:geheim@host:x/0", "is 'redis://***@host:x/0': "),
        ("CHAT_REDIS_URL", "localhost", "not a URL redis://"),
        ("CHAT_REDIS_URL", "redis://a,b", "one host and port, not several"),
        ("CHAT_ALLOWED_ORIGINS", "https://a.example, *", "not an origin: '*'"),
    ],
)
def test_a_bad_value_stops_the_start_with_its_name_the_value_and_what_is_allowed(
    name: str, value: str, expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    (line,) = complaints(capsys, settings.GatewaySettings)
    assert line.startswith(f"{name} is ")
    assert expected in line
    assert "Allowed: " in line
    assert "geheim" not in line


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CHAT_WORKER_NAME", "chat 1"),
        ("CHAT_BROKER_URL", "memory"),
        ("CHAT_BROKER_URL", "amqp://host"),
        ("CHAT_BROKER_URL", "redis+sentinel://host"),
        ("CHAT_BROKER_URL", "redis://host:x"),
        ("CHAT_SHARDS", "0"),
        ("CHAT_RETENTION_MESSAGES", "99"),
        ("CHAT_RETENTION_SECONDS", "59"),
        ("CHAT_IDEMPOTENCY_SECONDS", "9"),
        ("CHAT_DURABILITY", "tape"),
    ],
)
def test_a_bad_value_of_a_worker_stops_it(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    (line,) = complaints(capsys, settings.ChatSettings)
    assert line.startswith(f"{name} is {value!r}: ")


@pytest.mark.parametrize("name", ["CHAT_REDIS_URL", "CHAT_BROKER_URL"])
@pytest.mark.parametrize(
    "url",
    [
        "redis://:geheim/1x@host:6379/0",
        "redis://:geheim/geheim@host",
        "redis://geheim:1/geheim@host",
        "redis://:geheim#geheim@host",
        "redis://:geheim?geheim@host",
        "redis://:geheim@geheim:geheim@host:0",
        "redis://:geheim@geheim/geheim@host",
        "redis://:[geheim]@host",
        "redis://:geheim\N{ADDRESSED TO THE SUBJECT}@host",
        "redis://host:geheim@",
        "redis:/:geheim@host",
        ":geheim@host:6379",
        "redis://host:x/0?db=1&password=geheim&x=y",
    ],
)
def test_a_password_is_not_shown_whatever_it_holds(
    name: str, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, url)
    (line,) = complaints(capsys, settings.GatewaySettings)
    assert line.startswith(f"{name} is ")
    assert "***" in line
    assert "geheim" not in line


@pytest.mark.parametrize(
    "url",
    [
        "memory://",
        "redis://:p@host:1/0",
        "rediss://host",
        "redis+sentinel://u:p@a:1,b:2/chat/0",
        "redis+cluster://u:p@a:1,b:2",
        "redis+pubsub://host",
    ],
)
def test_every_kind_of_broker_may_be_chosen(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAT_BROKER_URL", url)
    assert settings.load(settings.ChatSettings).broker_url == url
    assert settings.load(settings.GatewaySettings).broker_url == url


def test_a_gateway_and_a_worker_take_the_same_log_when_neither_is_told_which(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway took that of the users: it said 200 to what no worker heard."""
    monkeypatch.setenv("CHAT_REDIS_URL", "redis://host:1/0")
    gateway, worker = settings.load(settings.GatewaySettings), settings.load(settings.ChatSettings)
    assert gateway.broker_url == worker.broker_url == settings.MEMORY
    assert load("gateway.publish").open_outlet(gateway) is None


async def test_what_the_settings_say_of_the_log_reaches_its_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"SHARDS": "7", "RETENTION_MESSAGES": "100", "RETENTION_SECONDS": "60", "IDEMPOTENCY_SECONDS": "10"}
    for name, value in (given | {"DURABILITY": "disk"}).items():
        monkeypatch.setenv(f"CHAT_{name}", value)

    def opened(url: str) -> Any:
        monkeypatch.setenv("CHAT_BROKER_URL", url)
        return log.open_log(settings.load(settings.ChatSettings))

    broker, in_memory = opened("redis://host"), opened("memory://")
    assert (broker.shards, broker._bounds, broker._durability) == (7, (100, 60, 10), "disk")
    assert in_memory.shards == 7
    assert broker.shard_levels == in_memory.shard_levels == 2
    assert not isinstance(opened("redis+pubsub://host"), LogBroker)


def test_a_missing_secret_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("CHAT_TOKEN_SECRET")
    (line,) = complaints(capsys, settings.GatewaySettings)
    assert line.startswith("CHAT_TOKEN_SECRET is not set: ")
    assert "at least 32 characters" in line


@pytest.mark.parametrize("name", ["CHAT_TOKEN_SECRET", "CHAT_PREVIOUS_TOKEN_SECRET"])
def test_a_short_secret_is_not_shown(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, "geheim")
    (line,) = complaints(capsys, settings.GatewaySettings)
    assert line.startswith(f"{name} is a secret of 6 characters: ")
    assert "geheim" not in line


def test_every_bad_value_has_its_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("CHAT_BIND_PORT", "0")
    monkeypatch.setenv("CHAT_LOG_LEVEL", "loud")
    assert len(complaints(capsys, settings.ChatSettings)) == 2


def test_the_old_secret_verifies_and_the_new_one_is_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAT_PREVIOUS_TOKEN_SECRET", SECRET[::-1])
    assert settings.load(settings.ChatSettings).token_secrets == [SECRET[::-1], SECRET]


@pytest.mark.parametrize("given", ["https://a.example,http://b.example:81", " https://a.example  http://b.example:81,"])
def test_origins_are_a_list(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAT_ALLOWED_ORIGINS", given)
    allowed = settings.load(settings.GatewaySettings).allowed_origins
    assert allowed == ("https://a.example", "http://b.example:81")


def test_settings_do_not_show_their_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAT_REDIS_URL", "redis://:geheim@127.0.0.1:6379/0")
    monkeypatch.setenv("CHAT_BROKER_URL", "redis://:geheim@127.0.0.1:6379/0")
    for settings_class in (settings.GatewaySettings, settings.ChatSettings):
        shown = repr(settings.load(settings_class))
        assert SECRET not in shown
        assert "geheim" not in shown


@pytest.mark.parametrize("process", ["gateway", "chat"])
def test_a_process_with_a_bad_value_exits_with_2_and_says_why(process: str, elsewhere: Path) -> None:
    environment = service_environment({"CHAT_TOKEN_SECRET": SECRET, "CHAT_BIND_PORT": "-1"})
    ended = subprocess.run(
        command(process), env=environment, cwd=elsewhere, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("CHAT_BIND_PORT is '-1': ")
    assert len(ended.stderr.splitlines()) == 1

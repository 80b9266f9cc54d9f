"""A load test's settings: where they come from, and one line for each that is wrong."""

from pathlib import Path

import pytest

from loadtests import settings
from loadtests.settings import BadSettings, Settings, read_settings

SECRET = "s" * 32


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder, and nothing of the outside's settings."""
    for name in {str(field.validation_alias) for field in Settings.model_fields.values()}:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "pyproject.toml").write_text("[tool.deployment]\nworkers = 4\n")
    (tmp_path / ".env").write_text(f"CHAT_TOKEN_SECRET={SECRET}\nCHAT_PORT=9000\nCHAT_REDIS_PASSWORD=x\n")
    monkeypatch.setattr(settings, "PROJECT_ROOT", tmp_path)
    monkeypatch.setitem(Settings.model_config, "env_file", tmp_path / ".env")
    return tmp_path


def test_the_defaults_come_from_the_project() -> None:
    read = read_settings(Settings)
    assert (read.users, read.rooms, read.duration_seconds, read.processes) == (200, 20, 30, 1)
    assert read.url == "ws://127.0.0.1:9000/ws"
    assert read.http_url == "http://127.0.0.1:9000"
    assert read.workers == ["chat-1", "chat-2", "chat-3", "chat-4"]
    assert read.token_secret.get_secret_value() == SECRET


def test_the_environment_wins_over_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAT_PORT", "9100")
    monkeypatch.setenv("CHAT_WORKERS", "2")
    monkeypatch.setenv("LOADTEST_RATE", "12.5")
    read = read_settings(Settings)
    assert (read.port, read.workers, read.rate) == (9100, ["chat-1", "chat-2"], 12.5)


def test_a_secure_address_is_asked_over_https(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOADTEST_URL", "wss://chat.example:8443/ws")
    assert read_settings(Settings).http_url == "https://chat.example:8443"


def test_an_empty_value_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOADTEST_USERS", "")
    assert read_settings(Settings).users == 200


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LOADTEST_USERS", "1"),
        ("LOADTEST_USERS", "many"),
        ("LOADTEST_ROOMS", "0"),
        ("LOADTEST_DURATION_SECONDS", "0.5"),
        ("LOADTEST_DURATION_SECONDS", "nan"),
        ("LOADTEST_RATE", "-3"),
        ("LOADTEST_P99_MS", "inf"),
        ("LOADTEST_SEED", "1.5"),
        ("LOADTEST_PROCESSES", "0"),
        ("LOADTEST_PROCESSES", "33"),
        ("LOADTEST_URL", "http://127.0.0.1/ws"),
        ("LOADTEST_URL", "ws://:8000/ws"),
        ("CHAT_PORT", "65536"),
        ("CHAT_WORKERS", "65"),
    ],
)
def test_a_bad_value_is_refused_with_its_name_and_what_is_allowed(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadSettings) as refused:
        read_settings(Settings)
    assert str(refused.value).startswith(f"{name} is {value!r}, allowed is: ")


def test_every_bad_value_has_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOADTEST_USERS", "0")
    monkeypatch.setenv("LOADTEST_RATE", "fast")
    with pytest.raises(BadSettings) as refused:
        read_settings(Settings)
    assert len(str(refused.value).splitlines()) == 2


def test_a_short_secret_is_refused_without_being_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAT_TOKEN_SECRET", "hush")
    with pytest.raises(BadSettings, match=r"^CHAT_TOKEN_SECRET is \(hidden\), allowed is: .* 32 characters"):
        read_settings(Settings)


def test_a_missing_secret_is_said_to_be_missing(project: Path) -> None:
    (project / ".env").unlink()
    with pytest.raises(BadSettings, match="CHAT_TOKEN_SECRET is not set"):
        read_settings(Settings)

"""Every setting of the service, read once from the environment (`CHAT_...`) and then from `.env`.

A name says the unit, a field says its bounds, and `load` stops the start where a value is outside of them.
"""

import re
import sys
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from annotated_types import Ge, Le, MinLen
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from distributed_websocket.brokers.clients import RedisURL
from distributed_websocket.origin import OriginPolicy

PREFIX = "CHAT_"
INVALID_SETTINGS_EXIT_CODE = 2

MEMORY = "memory://"
"""The URL of a log that each process has for itself: for a worker alone."""

# To the last @, since what was refused may be a password with characters that end the place for one; and as an option.
_PASSWORD_IN_URL = re.compile(r"(?:(?<=://)|^(?!.*://)).*(?=@)|(?<=password=)[^&]*", re.DOTALL)

AnySettings = TypeVar("AnySettings", bound=BaseSettings)


class ProcessSettings(BaseSettings):
    """What the gateway and the chat workers have in common."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
    )

    host: str = Field("127.0.0.1", description="address to listen on")
    bind_port: int = Field(8000, ge=1, le=65535, description="TCP port to listen on")
    trusted_proxies: str = Field("127.0.0.1", description="addresses whose X-Forwarded-* count, with commas between")

    log_format: Literal["text", "json"] = Field("text", description="for people, or one JSON object a line")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="the least that is logged")

    token_secret: SecretStr = Field(min_length=32, description="signs and verifies access tokens")
    previous_token_secret: SecretStr | None = Field(
        None, min_length=32, description="verifies, while `token_secret` is new, the tokens that this one signed"
    )

    max_message_bytes: int = Field(64 * 1024, ge=1024, le=16 * 2**20, description="longest message of a client")
    ping_interval_seconds: float = Field(20, ge=1, le=300, description="pause between pings to a client")
    ping_timeout_seconds: float = Field(20, ge=1, le=300, description="time for its answer, then it counts as gone")
    drain_seconds: float = Field(5, ge=0, le=300, description="time over which a stop spreads its clients' return")
    shutdown_seconds: int = Field(10, ge=1, le=300, description="time for open connections to end at a stop")

    @property
    def token_secrets(self) -> list[str]:
        """All that verify, the newest last."""
        secrets = [self.previous_token_secret, self.token_secret]
        return [secret.get_secret_value() for secret in secrets if secret is not None]


class LogSettings(ProcessSettings):
    """Where messages go, and what is kept of every topic.

    The same for all workers and gateways: they meet in the log, and each of them trims it.
    """

    broker_url: str = Field(
        MEMORY,
        repr=False,
        description="URL of the log: redis, redis+sentinel, redis+cluster (rediss for TLS), redis+pubsub for no log at "
        f"all, or {MEMORY} for a worker alone",
    )
    shards: int = Field(
        4, ge=1, le=64, description="parts of the log, over which the rooms spread; another number begins a new log"
    )
    retention_messages: int = Field(10_000, ge=100, le=10_000_000, description="messages that each shard keeps")
    retention_seconds: int = Field(86_400, ge=60, le=30 * 86_400, description="how long a message is kept")
    idempotency_seconds: int = Field(
        120, ge=10, le=86_400, description="how long a message that is sent again is known to be stored already"
    )
    durability: Literal["memory", "disk", "replica"] = Field(
        "memory", description="where Redis must have a message before its sender gets the ack"
    )

    @field_validator("broker_url")
    @classmethod
    def _is_broker_url(cls, value: str) -> str:
        if value != MEMORY:
            RedisURL.parse(value)
        return value


class GatewaySettings(LogSettings):
    """What the gateway needs besides."""

    workers_url: str = Field("ws://127.0.0.1:8001/ws", description="URL of the chat workers' WebSocket: ws, wss")
    redis_url: str = Field(
        "redis://127.0.0.1:6379/0", repr=False, description="URL of the Redis with the users: redis, rediss"
    )
    service_token: SecretStr | None = Field(
        None, min_length=32, description="what services show that publish over HTTP; without it none may"
    )
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="origins whose pages may connect, with commas between; empty: the gateway's own host"
    )
    connect_timeout_seconds: float = Field(5, ge=0.1, le=60, description="time for a worker to accept a connection")
    max_delivery_bytes: int = Field(2**20, ge=1024, le=64 * 2**20, description="longest message of a worker")
    token_lifetime_seconds: int = Field(8 * 3600, ge=60, le=30 * 86400, description="how long a login lasts")
    password_threads: int = Field(2, ge=1, le=64, description="threads that hash passwords, 64 MiB each")
    max_waiting_passwords: int = Field(500, ge=1, le=100_000, description="logins that may wait for such a thread")

    @field_validator("allowed_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(filter(None, re.split(r"[\s,]+", value))) if isinstance(value, str) else value

    @field_validator("allowed_origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        OriginPolicy(value)
        return value

    @field_validator("workers_url")
    @classmethod
    def _is_websocket_url(cls, value: str) -> str:
        return _url(value, "ws", "wss")

    @field_validator("redis_url")
    @classmethod
    def _is_redis_url(cls, value: str) -> str:
        RedisURL.parse(_url(value, "redis", "rediss"))
        return value


class ChatSettings(LogSettings):
    """What a chat worker needs besides."""

    worker_name: str = Field(
        "chat-1", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$", description="1 to 63 letters, digits, '.', '_', '-'"
    )
    max_unsent_bytes: int = Field(2**20, ge=2**16, le=2**28, description="unread bytes that close a slow connection")


def _url(value: str, *schemes: str) -> str:
    try:
        parts = urlsplit(value)
        valid = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:  # it quotes what may be a part of a password
        valid = False
    if not valid:
        raise ValueError(f"not a URL {' or '.join(f'{scheme}://host:port/...' for scheme in schemes)}")
    return value


def load(settings_class: type[AnySettings]) -> AnySettings:
    """The settings, or an exit with code 2 after one line on stderr for each bad value."""
    try:
        return settings_class()
    except ValidationError as error:
        for line in _complaints(settings_class, error):
            print(line, file=sys.stderr)
        sys.exit(INVALID_SETTINGS_EXIT_CODE)


def _complaints(settings_class: type[BaseSettings], error: ValidationError) -> list[str]:
    lines = []
    for details in error.errors(include_url=False):
        name = str(details["loc"][0])
        field = settings_class.model_fields[name]
        value = "is not set" if details["type"] == "missing" else f"is {_shown(field, details['input'])}"
        problem = details["msg"].removeprefix("Value error, ").rstrip(".")
        lines.append(f"{PREFIX}{name.upper()} {value}: {problem}. Allowed: {_allowed(field)}.")
    return lines


def _shown(field: FieldInfo, value: object) -> str:
    if "SecretStr" in str(field.annotation):
        return f"a secret of {len(value)} characters" if isinstance(value, str) else "a secret"
    return repr(_PASSWORD_IN_URL.sub("***", value) if isinstance(value, str) else value)


def _allowed(field: FieldInfo) -> str:
    bounds: list[Any] = field.metadata
    least = next((bound.ge for bound in bounds if isinstance(bound, Ge)), None)
    most = next((bound.le for bound in bounds if isinstance(bound, Le)), None)
    characters = next((bound.min_length for bound in bounds if isinstance(bound, MinLen)), None)
    if least is not None:
        return f"{least} to {most} ({field.description})"
    if characters is not None:
        return f"at least {characters} characters ({field.description})"
    return str(field.description)

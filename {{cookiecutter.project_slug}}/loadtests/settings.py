"""The settings of a load test, read once: from the environment, then `.env`, then pyproject.toml for the workers."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PROJECT_ROOT = Path(__file__).parents[1]


class BadSettings(Exception):
    """One line for each bad value: its name, what was received, what is allowed."""


class SignedSettings(BaseSettings):
    """What every run needs. A `description` says what is allowed. A value that is set but empty counts as not set."""

    model_config = SettingsConfigDict(
        env_file=PROJECT_ROOT / ".env", env_file_encoding="utf-8", env_ignore_empty=True, extra="ignore", frozen=True
    )

    token_secret: SecretStr = Field(
        default=SecretStr(""),
        min_length=32,
        validation_alias="CHAT_TOKEN_SECRET",
        description="the secret that the stack was started with, at least 32 characters (it is in .env)",
    )


class Settings(SignedSettings):
    """Of the load test."""

    users: int = Field(
        default=200, ge=2, le=20_000, validation_alias="LOADTEST_USERS", description="a whole number from 2 to 20000"
    )
    rooms: int = Field(
        default=20, ge=1, le=10_000, validation_alias="LOADTEST_ROOMS", description="a whole number from 1 to 10000"
    )
    duration_seconds: float = Field(
        default=30,
        ge=1,
        le=86_400,
        validation_alias="LOADTEST_DURATION_SECONDS",
        description="seconds from 1 to 86400",
    )
    rate: float = Field(
        default=200,
        ge=0.1,
        le=100_000,
        validation_alias="LOADTEST_RATE",
        description="messages per second, of all users together, from 0.1 to 100000",
    )
    p99_ms: float = Field(
        default=500,
        ge=1,
        le=60_000,
        validation_alias="LOADTEST_P99_MS",
        description="milliseconds from 1 to 60000",
    )
    seed: int = Field(
        default=1, ge=0, le=2**63, validation_alias="LOADTEST_SEED", description="a whole number that is not negative"
    )
    processes: int = Field(
        default=1,
        ge=1,
        le=32,
        validation_alias="LOADTEST_PROCESSES",
        description="a whole number from 1 to 32",
    )
    given_url: str | None = Field(
        default=None,
        pattern=r"^wss?://[^/\s?#]+(/[^\s?#]*)?$",
        validation_alias="LOADTEST_URL",
        description="ws://HOST:PORT/PATH or wss://HOST:PORT/PATH",
    )
    port: int = Field(
        default=8000, ge=1, le=65_535, validation_alias="CHAT_PORT", description="a whole number from 1 to 65535"
    )
    worker_count: int = Field(
        default_factory=lambda: _workers_of_the_project(),
        ge=1,
        le=64,
        validation_alias="CHAT_WORKERS",
        description="a whole number from 1 to 64",
    )
    report: Path = Field(
        default=PROJECT_ROOT / "loadtests" / "reports" / "latest.json",
        validation_alias="LOADTEST_REPORT",
        description="the path of the file to write",
    )

    @field_validator("given_url")
    @classmethod
    def _has_a_host(cls, url: str | None) -> str | None:
        if url is not None and (not urlsplit(url).hostname or urlsplit(url).port == 0):
            raise ValueError("the address names no host")
        return url

    @property
    def url(self) -> str:
        return self.given_url or f"ws://127.0.0.1:{self.port}/ws"

    @property
    def http_url(self) -> str:
        """Where the gateway answers HTTP: scheme, host and port of `url`."""
        parts = urlsplit(self.url)
        return f"{'https' if parts.scheme == 'wss' else 'http'}://{parts.netloc}"

    @property
    def workers(self) -> list[str]:
        """The names of the workers that must take part."""
        return [f"chat-{number}" for number in range(1, self.worker_count + 1)]

    @property
    def message_count(self) -> int:
        return int(self.rate * self.duration_seconds)

    def circumstances(self) -> dict[str, str | int | float]:
        """What must be the same before two runs can be compared."""
        return {
            "users": self.users,
            "rooms": self.rooms,
            "duration_seconds": self.duration_seconds,
            "rate": self.rate,
            "p99_ms": self.p99_ms,
            "seed": self.seed,
            "processes": self.processes,
            "url": self.url,
        }


AnySettings = TypeVar("AnySettings", bound=SignedSettings)


def read_settings(settings_class: type[AnySettings]) -> AnySettings:
    """Raises `BadSettings`."""
    try:
        return settings_class()
    except ValidationError as error:
        raise BadSettings("\n".join(_lines(settings_class, error))) from None


def _lines(settings_class: type[SignedSettings], error: ValidationError) -> list[str]:
    lines = []
    for problem in error.errors():
        place = problem["loc"][0]  # the variable's name, or the field's where its default is refused
        name, field = next(
            (str(field.validation_alias), field)
            for attribute, field in settings_class.model_fields.items()
            if place in (attribute, field.validation_alias)
        )
        if field.annotation is not SecretStr:
            value = repr(problem["input"])
        else:
            value = "not set" if place != name else "(hidden)"
        lines.append(f"{name} is {value}, allowed is: {field.description}")
    return lines


def _workers_of_the_project() -> int:
    deployment = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["deployment"]
    return int(deployment["workers"])

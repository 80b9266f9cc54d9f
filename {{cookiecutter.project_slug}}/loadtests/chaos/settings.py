"""The settings of a chaos run, read once from the environment, then `.env`. Where the stack is, its own record says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from ..settings import PROJECT_ROOT, SignedSettings
from .schedule import FaultName


class ChaosSettings(SignedSettings):
    seed: int = Field(
        default=1, ge=0, le=2**63, validation_alias="CHAOS_SEED", description="a whole number that is not negative"
    )
    faults: Annotated[tuple[FaultName, ...], NoDecode] = Field(
        default=tuple(FaultName),
        min_length=1,
        validation_alias="CHAOS_FAULTS",
        description=f"names with commas between, of: {', '.join(FaultName)}",
    )
    users: int = Field(
        default=100, ge=4, le=2000, validation_alias="CHAOS_USERS", description="a whole number from 4 to 2000"
    )
    rooms: int = Field(
        default=10,
        ge=1,
        validation_alias="CHAOS_ROOMS",
        description="a whole number from 1 to half of the number of users",
    )
    rate: float = Field(
        default=40,
        ge=1,
        le=1000,
        validation_alias="CHAOS_RATE",
        description="messages per second, of all clients together, from 1 to 1000",
    )
    fault_seconds: float = Field(
        default=10,
        ge=1,
        le=300,
        validation_alias="CHAOS_FAULT_SECONDS",
        description="seconds from 1 to 300: how long what can last shall last",
    )
    recovers: bool = Field(
        default=True,
        validation_alias="CHAOS_RECOVERY",
        description="on, or off: clients that come back do not ask for what they missed",
    )
    report: Path = Field(
        default=PROJECT_ROOT / "loadtests" / "reports" / "chaos.json",
        validation_alias="CHAOS_REPORT",
        description="the path of the file to write",
    )

    @field_validator("rooms")
    @classmethod
    def _are_shared(cls, rooms: int, info: ValidationInfo) -> int:
        if rooms > info.data.get("users", rooms * 2) / 2:
            raise ValueError("somebody would be alone in a room")
        return rooms

    @field_validator("faults", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(filter(None, re.split(r"[\s,]+", value))) if isinstance(value, str) else value

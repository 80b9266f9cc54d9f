"""The settings of a saturation run: those of the load test but its rate and its duration, and how the steps go."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from ..settings import PROJECT_ROOT, Settings


class SaturationSettings(Settings):
    first_rate: float = Field(
        default=100,
        ge=1,
        le=100_000,
        validation_alias="SATURATE_RATE",
        description="messages per second of the first step, of all users together, from 1 to 100000",
    )
    factor: float = Field(
        default=1.5,
        ge=1.01,
        le=10,
        validation_alias="SATURATE_FACTOR",
        description="how much faster each step is than the one before it, from 1.01 to 10",
    )
    step_seconds: float = Field(
        default=8,
        ge=1,
        le=3600,
        validation_alias="SATURATE_STEP_SECONDS",
        description="seconds from 1 to 3600: how long each step is measured",
    )
    warmup_seconds: float = Field(
        default=2,
        ge=0,
        le=600,
        validation_alias="SATURATE_WARMUP_SECONDS",
        description="seconds from 0 to 600: how long each step goes before it is measured",
    )
    max_steps: int = Field(
        default=20, ge=1, le=100, validation_alias="SATURATE_STEPS", description="a whole number from 1 to 100"
    )
    report: Path = Field(
        default=PROJECT_ROOT / "loadtests" / "reports" / "saturation.json",
        validation_alias="SATURATE_REPORT",
        description="the path of the file to write",
    )

"""The settings of Locust's page: those of the load test, and its port. The page asks for the number of users."""

from __future__ import annotations

from pydantic import Field

from ..settings import Settings

PORT_OFFSET = 5
"""From the stack's public port."""


class LocustSettings(Settings):
    given_ui_port: int | None = Field(
        default=None,
        ge=1,
        le=65_535,
        validation_alias="LOADTEST_UI_PORT",
        description="a whole number from 1 to 65535",
    )

    @property
    def ui_port(self) -> int:
        return self.given_ui_port or self.port + PORT_OFFSET

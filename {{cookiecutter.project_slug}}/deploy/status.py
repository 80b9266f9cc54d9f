"""The table of `ps`: what each part of the stack is, and whether it works, in its own view and in Traefik's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

from deploy.balancer import UP

HEADINGS = ("NAME", "STATE", "PID", "UPTIME", "PORT", "TRAEFIK", "READY")


@dataclass(frozen=True)
class Row:
    name: str
    state: str
    pid: str
    uptime: str
    port: str
    traefik: str
    """UP or DOWN; a dash for what Traefik does not balance over."""
    ready: str
    """"yes", or why not."""

    @property
    def works(self) -> bool:
        return self.ready == "yes" and self.traefik in (UP, "-")


def table(found: Sequence[Row]) -> str:
    lines = [HEADINGS, *(astuple(row) for row in found)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def uptime(seconds: float) -> str:
    minutes, seconds = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"

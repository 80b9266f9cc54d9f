"""`LocalRuntime`: the stack as processes of this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from deploy.errors import WrongState
from deploy.loadtest import become_loadtest, where_it_runs
from deploy.local import down, logs, records, status, up
from deploy.local.fleet import LocalFleet
from deploy.local.layout import read_layout
from deploy.lock import exclusive
from deploy.say import Say
from deploy.status import table


class LocalRuntime:
    """Implements `Runtime`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def runs(self) -> bool:
        return records.read_stack(self._root) is not None or bool(records.live_processes(self._root))

    def up(self, environment: Mapping[str, str], say: Say) -> None:
        up.up(read_layout(self._root, environment), environment, say)

    def down(self, say: Say) -> None:
        down.down(self._root, say)

    def clean(self, say: Say) -> None:
        down.down(self._root, say)
        shutil.rmtree(self._root / "var" / "redis", ignore_errors=True)
        say("The data is removed.")

    def list_processes(self, say: Say) -> bool:
        found = status.rows(self._root)
        if not found:
            say("Nothing runs.")
            return False
        say(table(found))
        if any(row.state == "orphan" for row in found):
            say("\nsupervisord is gone, nothing restarts these. `make down` stops them; `make up` starts afresh.")
        return all(row.works for row in found)

    def follow_logs(self, name: str | None, say: Say) -> None:
        record = records.read_stack(self._root)
        layout = record.layout if record else read_layout(self._root, os.environ)
        names = [process.name for process in layout.processes]
        if name and name not in names:
            raise WrongState(f"There is no process {name!r}, only: {' '.join(names)}")
        logs.follow([layout.log_path(each) for each in ([name] if name else names)], say)

    def restart(self, name: str, say: Say) -> None:
        up.restart(self._root, name, say)

    @contextmanager
    def fleet(self, say: Say) -> Iterator[LocalFleet]:
        with exclusive(self._root):
            yield LocalFleet(up.running(self._root))

    def loadtest(self, environment: Mapping[str, str]) -> int:
        """Does not return."""
        up.running(self._root)
        become_loadtest({**environment, **where_it_runs(self._root)})

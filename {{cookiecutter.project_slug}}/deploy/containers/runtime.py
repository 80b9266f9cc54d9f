"""`ContainerRuntime`: the stack in containers of this machine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from deploy.containers import status, up
from deploy.containers.compose import Compose
from deploy.containers.engine import missing_reason
from deploy.containers.files import write_files
from deploy.containers.fleet import ContainerFleet
from deploy.containers.layout import ContainerLayout, own_environment, read_layout, read_record
from deploy.errors import EngineMissing, WrongState
from deploy.lock import exclusive
from deploy.status import table

LAST_LINES = 10
REPORTS = "loadtests/reports"

Say = Callable[[str], None]


class ContainerRuntime:
    """Implements `Runtime`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def runs(self) -> bool:
        return read_record(self._root) is not None

    def up(self, environment: Mapping[str, str], say: Say) -> None:
        self._raise_without_engine()
        up.up(read_layout(self._root, environment), environment, say)

    def down(self, say: Say) -> None:
        if not self.runs():
            say("Nothing runs.")
            return
        self._raise_without_engine()
        up.down(self._root, say)

    def clean(self, say: Say) -> None:
        if self.runs():
            self._raise_without_engine()
            up.down(self._root, say, volumes=True)
        elif (self._root / "var" / "containers").is_dir() and missing_reason() is None:
            layout = read_layout(self._root, os.environ)
            write_files(layout)
            Compose(layout).down(volumes=True)

    def list_processes(self, say: Say) -> bool:
        layout = read_record(self._root)
        if layout is None:
            say("Nothing runs.")
            return False
        self._raise_without_engine()
        found = status.rows(layout)
        say(table(found))
        return all(row.works for row in found)

    def follow_logs(self, name: str | None, say: Say) -> None:
        layout = self._running()
        if name and name not in layout.services:
            raise WrongState(f"There is no service {name!r}, only: {' '.join(layout.services)}")
        names = [name] if name else []
        command = Compose(layout).command("logs", "--follow", "--tail", str(LAST_LINES), *names)
        subprocess.run(command, env=own_environment(), check=False)

    def restart(self, name: str, say: Say) -> None:
        layout = self._running()
        self._build(layout, say)
        up.restart(self._root, name, say)

    @contextmanager
    def fleet(self, say: Say) -> Iterator[ContainerFleet]:
        with exclusive(self._root):
            layout = self._running()
            self._build(layout, say)
            yield ContainerFleet(layout)

    def loadtest(self, environment: Mapping[str, str]) -> int:
        """In a container of its own, beside the others. Its report is copied out."""
        layout = self._running()
        if layout.tls:
            raise WrongState(
                "Inside, Traefik's name is none that a certificate is for. Load it from outside: "
                "make loadtest LOADTEST_URL=wss://YOUR.NAME/ws"
            )
        compose = Compose(layout)
        compose.build("loadtest", profile="loadtest")
        name = f"{layout.project}-loadtest-run"
        self._remove(name)
        given = {key: value for key, value in environment.items() if key.startswith("LOADTEST_")}
        command = compose.command("--profile", "loadtest", "run", "--no-deps", "--name", name, "loadtest")
        done = subprocess.run(command, env={**own_environment(), **given}, check=False)
        (self._root / REPORTS).mkdir(parents=True, exist_ok=True)
        subprocess.run(["docker", "cp", "--quiet", f"{name}:/reports/.", str(self._root / REPORTS)], check=False)
        self._remove(name)
        return done.returncode

    def _remove(self, name: str) -> None:
        subprocess.run(["docker", "rm", "--force", name], capture_output=True, check=False)

    def _build(self, layout: ContainerLayout, say: Say) -> None:
        """What is started from now on is made of the sources as they are now."""
        say("Building the image")
        Compose(layout).build("chat-1")

    def _running(self) -> ContainerLayout:
        self._raise_without_engine()
        return up.running(self._root)

    def _raise_without_engine(self) -> None:
        if reason := missing_reason():
            raise EngineMissing(f"Containers cannot be run: {reason}. RUNTIME=local needs none.")

"""`ContainerRuntime`: the stack in containers of this machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from deploy.containers import status, up
from deploy.containers.compose import Compose
from deploy.containers.engine import missing_reason
from deploy.containers.files import write_files
from deploy.containers.fleet import ContainerFleet
from deploy.containers.layout import ContainerLayout, own_environment, read_layout, read_record
from deploy.errors import BadSetting, EngineMissing, WrongState
from deploy.interrupts import passed_on, undisturbed
from deploy.lock import exclusive, only_load_test
from deploy.say import Say
from deploy.settings import read_values
from deploy.status import table

LAST_LINES = 10
REPORT = "loadtests/reports/latest.json"
LOCUST_WORKER = "loadtest-worker"
COULD_NOT_RUN = 2
"""The load test's exit code."""
PROCESSES = 2
"""Locust workers, where nothing else is asked for. The same number is in compose.yaml."""


class ContainerRuntime:
    """Implements `Runtime`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def runs(self) -> bool:
        return read_record(self._root) is not None

    def has_run(self) -> bool:
        """Whether volumes may have stayed."""
        return (self._root / "var" / "containers").is_dir()

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
        """Once `var` is removed nobody knows of the volumes: so where they cannot be, this fails."""
        if not self.runs() and not self.has_run():
            say("Nothing was started in containers.")
            return
        if reason := missing_reason():
            raise EngineMissing(
                f"The data of the containers is in volumes, which cannot be removed: {reason}. Start the engine and "
                "repeat the command. To leave them where they are: rm -rf var/containers var/run/containers.json"
            )
        if self.runs():
            up.down(self._root, say, volumes=True)
            return
        layout = read_layout(self._root, os.environ)
        write_files(layout)
        Compose(layout).down(volumes=True)
        say("The volumes of the containers are removed.")

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
        up.build(self._running(), say)
        up.restart(self._root, name, say)

    @contextmanager
    def fleet(self, say: Say) -> Iterator[ContainerFleet]:
        with exclusive(self._root):
            layout = self._running()
            up.build(layout, say)
            yield ContainerFleet(layout)

    def loadtest(self, environment: Mapping[str, str]) -> int:
        """In containers of its own, beside the others: Locust's master and workers. The report is copied out."""
        layout = self._running()
        if layout.tls:
            raise WrongState(
                "Inside, Traefik's name is none that a certificate is for. Load it from outside: "
                "make loadtest LOADTEST_URL=wss://YOUR.NAME/ws"
            )
        given = {
            name: value for name, value in read_values(self._root, environment).items() if name.startswith("LOADTEST_")
        }
        report = self._root / given.pop("LOADTEST_REPORT", REPORT)
        processes = given.setdefault("LOADTEST_PROCESSES", str(PROCESSES))
        if not re.fullmatch(r"[1-9]|[12]\d|3[0-2]", processes):  # before compose reads it, who says it less clearly
            raise BadSetting("LOADTEST_PROCESSES", processes, "a whole number from 1 to 32")
        with only_load_test(self._root):
            return self._load(layout, given, report)

    def _load(self, layout: ContainerLayout, given: Mapping[str, str], report: Path) -> int:
        compose = Compose(layout)
        compose.build("loadtest", profile="loadtest")
        name, scale = f"{layout.project}-loadtest-run", f"{LOCUST_WORKER}={given['LOADTEST_PROCESSES']}"
        self._remove(name)  # of one that was killed
        try:
            compose.run(
                *("up", "--detach", "--no-build", "--no-deps", "--scale", scale, LOCUST_WORKER), profile="loadtest"
            )
            code = self._run_master(compose, name, {**own_environment(), **given})
            if code != COULD_NOT_RUN:  # else what lies there is another run's
                self._fetch_report(name, report)
        finally:
            with undisturbed():
                self._remove(name)
                compose.run("rm", "--stop", "--force", LOCUST_WORKER, profile="loadtest")
        return code

    def _fetch_report(self, name: str, report: Path) -> None:
        """And the page beside it."""
        report.parent.mkdir(parents=True, exist_ok=True)
        for inside, path in (("latest.json", report), ("latest.html", report.with_suffix(".html"))):
            subprocess.run(["docker", "cp", "--quiet", f"{name}:/reports/{inside}", str(path)], check=False)

    def _run_master(self, compose: Compose, name: str, environment: Mapping[str, str]) -> int:
        """Ctrl-C is for the program inside, which then says what it has measured so far."""
        terminal = sys.stdin.isatty() and sys.stdout.isatty()  # then a Ctrl-C is typed in there
        options = ["--no-deps", "--use-aliases", "--name", name, *([] if terminal else ["--no-TTY"])]
        process = subprocess.Popen(
            compose.command("--profile", "loadtest", "run", *options, "loadtest"),
            env=dict(environment),
            stdin=None if terminal else subprocess.DEVNULL,
            start_new_session=not terminal,  # compose itself would leave at once
        )
        with passed_on(lambda number: self._signal(name, number)):
            return process.wait()

    def _signal(self, name: str, number: str) -> None:
        subprocess.run(["docker", "kill", "--signal", number, name], capture_output=True, check=False)

    def _remove(self, name: str) -> None:
        subprocess.run(["docker", "rm", "--force", name], capture_output=True, check=False)

    def _running(self) -> ContainerLayout:
        self._raise_without_engine()
        return up.running(self._root)

    def _raise_without_engine(self) -> None:
        if reason := missing_reason():
            raise EngineMissing(f"Containers cannot be run: {reason}. RUNTIME=local needs none.")

"""`Compose`: the calls to `docker compose` for one stack."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from deploy.containers.layout import ContainerLayout, own_environment
from deploy.errors import ComposeFailed

BUILD_SECONDS = 1800
MONITORING = "deploy/monitoring/compose.yaml"
"""In a profile of its own. Not every project has it."""


class Compose:
    """Every call raises `ComposeFailed`, which quotes what compose wrote."""

    def __init__(self, layout: ContainerLayout) -> None:
        self._layout = layout

    def build(self, *services: str, profile: str | None = None) -> None:
        self.run("build", *services, profile=profile, seconds=BUILD_SECONDS)

    def up(self, *services: str, recreate: bool, seconds: int) -> None:
        """Start services; all where none is named, each when what it depends on is healthy."""
        which = ["--force-recreate" if recreate else "--no-recreate", *(["--no-deps"] if services else [])]
        self.run("up", "--detach", "--no-build", *which, *services, seconds=seconds + self._layout.stop_seconds)

    def stop(self, *services: str) -> None:
        """SIGTERM, and SIGKILL after the stop_grace_period."""
        self.run("stop", *services, seconds=self._layout.stop_seconds + 120)

    def remove(self, *services: str) -> None:
        self.run("rm", "--force", *services)

    def down(self, *, volumes: bool = False) -> None:
        options = ["--volumes", "--rmi", "local"] if volumes else []
        self.run("--profile", "*", "down", "--remove-orphans", *options, seconds=self._layout.stop_seconds + 120)

    def last_log_lines(self, service: str, count: int) -> list[str]:
        done = self._start("logs", "--no-color", "--no-log-prefix", "--tail", str(count), service, seconds=60)
        return done.stdout.splitlines()

    def run(self, *arguments: str, profile: str | None = None, seconds: float = 120) -> str:
        done = self._start(*(["--profile", profile] if profile else []), *arguments, seconds=seconds)
        if done.returncode:
            raise ComposeFailed(arguments, done.stdout)
        return done.stdout

    def command(self, *arguments: str) -> list[str]:
        layout = self._layout
        files = [layout.root / "compose.yaml", layout.servers_path, layout.root / MONITORING]
        return [
            *("docker", "compose", "--project-name", layout.project, "--project-directory", str(layout.root)),
            *("--env-file", str(layout.compose_env_path)),
            *(argument for file in files if file.exists() for argument in ("--file", str(file))),
            *arguments,
        ]

    def _start(self, *arguments: str, seconds: float) -> subprocess.CompletedProcess[str]:
        command: Sequence[str] = self.command("--progress", "plain", *arguments)
        try:
            return subprocess.run(
                command,
                env=own_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=seconds,
            )
        except subprocess.TimeoutExpired as late:
            output = late.stdout.decode("utf-8", "replace") if isinstance(late.stdout, bytes) else late.stdout or ""
            raise ComposeFailed(arguments, f"{output}\nnot done within {seconds:.0f} s") from late

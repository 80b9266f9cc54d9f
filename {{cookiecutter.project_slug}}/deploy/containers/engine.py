"""The container engine: whether there is one, and what it says about this stack's containers."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from deploy.errors import EngineMissing

ANSWER_SECONDS = 20
WORKING_DIRECTORY_LABEL = "com.docker.compose.project.working_dir"
PROJECT_LABEL = "com.docker.compose.project"
SERVICE_LABEL = "com.docker.compose.service"

KILL_THE_PROGRAM = ("sh", "-c", "kill -9 $(cat /proc/1/task/1/children)")
"""For `docker exec`, as if the program had crashed: a container's first process is its init, which ends with it."""
KILL_EXIT_CODES = (0, 137)
"""The shell that kills may end with its container, before it is done."""


def missing_reason() -> str | None:
    """Why containers cannot be run here, in a sentence; None where they can."""
    if shutil.which("docker") is None:
        return "there is no `docker` on the PATH"
    needed = (
        (["info", "--format", "{{.ServerVersion}}"], "no container engine answers"),
        (["compose", "version", "--short"], "the compose plugin of Docker is missing"),
        (["buildx", "version"], "the buildx plugin of Docker is missing"),
    )
    for arguments, complaint in needed:
        try:
            answer = _docker(*arguments)
        except subprocess.TimeoutExpired:
            return f"`docker {arguments[0]}` does not answer within {ANSWER_SECONDS} s"
        # `docker info` ends with 0 where only the client is there, and prints no version then.
        if answer.returncode or not answer.stdout.strip():
            return complaint
    return None


@dataclass(frozen=True)
class Container:
    """What the engine says of one container."""

    id: str
    service: str
    state: str
    """created, running, paused, restarting, exited, dead"""
    health: str
    """healthy, unhealthy, starting; empty without a health check"""
    health_output: str
    """Of the last check."""
    exit_code: int
    restarts: int
    """How often the engine has brought it back."""
    pid: int
    started: datetime
    folder: str
    """Of the project that it belongs to."""


def containers(project: str) -> list[Container]:
    """All of a compose project, running or not. Raises `EngineMissing` where the engine does not say which."""
    listed = _answer("ps", "--all", "--quiet", "--no-trunc", "--filter", f"label={PROJECT_LABEL}={project}").split()
    inspected = _answer("inspect", "--type", "container", *listed) if listed else ""
    return [_container(facts) for facts in json.loads(inspected or "[]")]


def _container(facts: dict[str, Any]) -> Container:
    state, labels = facts["State"], facts["Config"]["Labels"]
    health = state.get("Health") or {}
    checks = health.get("Log") or [{}]
    return Container(
        id=facts["Id"],
        service=labels[SERVICE_LABEL],
        state=state["Status"],
        health=health.get("Status", ""),
        health_output=checks[-1].get("Output", "").strip(),
        exit_code=state["ExitCode"],
        restarts=facts["RestartCount"],
        pid=state["Pid"],
        # Nanoseconds are more than a datetime holds.
        started=datetime.fromisoformat(state["StartedAt"][:19] + "+00:00"),
        folder=labels.get(WORKING_DIRECTORY_LABEL, ""),
    )


def _answer(*arguments: str) -> str:
    """Raises `EngineMissing`."""
    try:
        answer = _docker(*arguments)
    except subprocess.TimeoutExpired:
        failure = f"does not answer within {ANSWER_SECONDS} s"
    else:
        # A container may have gone since it was listed, which is an error for the engine; the others are printed.
        if not answer.returncode or "no such" in answer.stderr.lower():
            return answer.stdout
        failure = f"failed: {answer.stderr.strip()}"
    raise EngineMissing(f"`docker {arguments[0]}` {failure}\nRepeat the command when the engine answers.")


def _docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=ANSWER_SECONDS)

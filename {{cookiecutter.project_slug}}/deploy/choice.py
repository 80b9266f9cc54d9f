"""Which of the two ways a command is about: the one that runs, else the one asked for, else what this machine can."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from deploy.containers.engine import missing_reason
from deploy.containers.runtime import ContainerRuntime
from deploy.errors import BadSetting, WrongState
from deploy.local.runtime import LocalRuntime
from deploy.runtime import Runtime
from deploy.say import Say
from deploy.settings import read_values

CONTAINERS, LOCAL = "containers", "local"
DESCRIPTIONS = {CONTAINERS: "in containers", LOCAL: "as local processes"}


class BothRuntimes(LocalRuntime):
    """For `clean` where the stack has run in containers: however it runs now, their volumes are still there."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._containers = ContainerRuntime(root)

    def clean(self, say: Say) -> None:
        """Nothing is removed where the containers' side cannot be."""
        self._containers.clean(say)
        super().clean(say)


def choose(root: Path, command: str, environment: Mapping[str, str], say: Say) -> Runtime:
    """Raises `StackError`. On `up` it says which one and why."""
    containers = ContainerRuntime(root)
    runtimes: dict[str, Runtime] = {CONTAINERS: containers, LOCAL: LocalRuntime(root)}
    asked = read_values(root, environment).get("CHAT_RUNTIME")
    if asked is not None and asked not in runtimes:
        raise BadSetting("CHAT_RUNTIME", asked, f"{CONTAINERS} or {LOCAL}")
    if command == "clean" and containers.has_run():
        return BothRuntimes(root)
    running = next((name for name, runtime in runtimes.items() if runtime.runs()), None)
    if running:
        if asked and asked != running and command == "up":
            raise WrongState(f"The stack runs {DESCRIPTIONS[running]}: `make down` first.")
        return runtimes[running]
    if asked:
        name, why = asked, "as asked for"
    elif command != "up":
        # Nothing runs, and both say so alike.
        name, why = LOCAL, ""
    elif reason := missing_reason():
        name, why = LOCAL, f"because {reason}"
    else:
        name, why = CONTAINERS, "because a container engine answers (RUNTIME=local runs plain processes)"
    if command == "up":
        say(f"Running {DESCRIPTIONS[name]}, {why}.")
    return runtimes[name]

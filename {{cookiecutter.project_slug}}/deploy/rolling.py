"""A restart of the chat workers one after the other, so that all but one serve at any time."""

from __future__ import annotations

from deploy.errors import RollStopped, StackError, WrongState
from deploy.fleet import Fleet
from deploy.say import Say


def rolling_restart(fleet: Fleet, say: Say) -> None:
    """Raises `StackError` at the first worker that does not come back. The next call begins with that one."""
    everyone = fleet.workers
    for name in sorted(everyone, key=lambda name: fleet.unready_reason(name) is None):
        others = [other for other in everyone if other != name]
        if fleet.unready_reason(name) is None:
            _raise_if_unready(fleet, others, name)
        restart_one(fleet, name, say)
    say(f"All {len(everyone)} chat workers were restarted." if len(everyone) > 1 else "The chat worker was restarted.")


def restart_one(fleet: Fleet, name: str, say: Say) -> None:
    everyone = fleet.workers
    if len(everyone) == 1:
        say("There is one chat worker: nobody can connect while it restarts.")
    fleet.balance([other for other in everyone if other != name])
    say(f"{name} gets no new connections, and drains")
    try:
        fleet.restart(name)
    except StackError as error:
        raise RollStopped(name, error) from error
    fleet.balance(everyone)
    say(f"{name} is back and gets connections")


def _raise_if_unready(fleet: Fleet, others: list[str], name: str) -> None:
    for other in others:
        if reason := fleet.unready_reason(other):
            raise WrongState(
                f"{other} is not ready ({reason}), so {name} stays: the others should take over from it. "
                f"`make restart NAME={other}`, then repeat the command."
            )

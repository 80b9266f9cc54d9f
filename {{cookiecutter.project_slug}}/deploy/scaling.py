"""More or fewer chat workers while people talk: who comes gets connections once it is ready, who leaves drains."""

from __future__ import annotations

from deploy.fleet import Fleet, worker_names
from deploy.say import Say


def scale(fleet: Fleet, count: int, say: Say) -> None:
    """Raises `StackError` at the first worker that fails; to go on, the same call is repeated."""
    wanted, present = worker_names(count), fleet.workers
    coming = [name for name in wanted if name not in present]
    leaving = [name for name in present if name not in wanted]
    staying = [name for name in present if name in wanted]
    # All that leave are taken out before the first one drains: nobody shall be sent from one to the next.
    fleet.balance(staying)
    if not coming and not leaving:
        say(f"{len(present)} chat workers run, as asked for.")
        return
    for name in coming:
        say(f"{name} starts")
        fleet.launch(name)
        staying.append(name)
        fleet.balance(staying)
        say(f"{name} is ready and gets connections")
    for name in reversed(leaving):
        say(f"{name} gets no new connections, and drains")
        fleet.retire(name)
        say(f"{name} has ended")
    say(f"{len(wanted)} chat workers run, before there were {len(present)}.")

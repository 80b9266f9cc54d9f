"""One generator process: a load test of its share, in step with the others.

The master says `join`, `begin` and `end`. This process answers `joined`, tells what goes on as `progress` and `beat`,
and ends with its `part`. It leaves when the master does: Locust asks every second whether it is still there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import gevent
from gevent.event import Event
from gevent.queue import Queue
from locust import events, runners
from locust.env import Environment
from locust.runners import WorkerRunner

from .. import locust_stats
from ..broadcast import CONNECTS_PER_SECOND, Broadcast, BroadcastUser
from ..files import raise_file_limit
from ..login import LoginFailed, NobodyAnswers, sign_up_and_in
from ..part import Beat, pack, pack_beat
from ..run import LoadTest
from ..settings import Settings
from .share import Share

ORPHANED_SECONDS = 20
"""Without a sign of life of the master."""


class ShareSettings(Settings):
    share: Share | None = None

    @property
    def message_count(self) -> int:
        return self.share.messages if self.share else super().message_count


def settings_of(share: Share, settings: Settings) -> ShareSettings:
    """Those of this process, with what the share says: it was checked where it was made."""
    given = {name: value for name, value in share.to_message().items() if name in Settings.model_fields}
    return ShareSettings.model_construct(**{**settings.__dict__, **given, "share": share})


class ShareOfBroadcast(Broadcast):
    settings: ShareSettings

    def __init__(self, settings: Settings, login_token: str) -> None:
        super().__init__(settings, login_token)
        share = cast(ShareSettings, settings).share
        if share is None:
            raise ValueError("no share was given")
        self._run = f"{share.run}-{share.number}"
        self._first_user = share.first_user

    def name_of(self, number: int) -> str:
        return super().name_of(self._first_user + number)


class GeneratorProcess(LoadTest):
    """The phases are those of every load test; only its beginning and end wait for the master's word."""

    scenario_class = ShareOfBroadcast

    def __init__(self, settings: Settings, login_token: str, runner: WorkerRunner) -> None:
        super().__init__(settings, login_token)
        self.begun = Event()
        self._runner = runner

    @contextmanager
    def _members(self) -> Iterator[None]:
        raise_file_limit()
        locust_stats.use_fine_buckets()
        BroadcastUser.scenario, BroadcastUser.url = self.scenario, self.settings.url
        spawning = gevent.spawn(self._spawn)
        try:
            yield
        finally:
            self.scenario.stopped.set()
            spawning.kill()
            self._runner.stop()

    def _spawn(self) -> None:
        for _ in range(self.settings.users):
            self._runner.spawn_users({BroadcastUser.__name__: 1})
            gevent.sleep(1 / CONNECTS_PER_SECOND)

    def _join(self) -> bool:
        if not super()._join():
            return False
        self._runner.send_message("joined")
        gevent.wait([self.begun, self.interrupted], count=1)
        return self.begun.is_set()

    def _watch(self, begin: float) -> None:
        """The master does."""

    def _note(self, beat: Beat) -> None:
        self.timeline.append(beat)
        self._runner.send_message("beat", pack_beat(beat))

    def _progress(self, text: str) -> None:
        self._runner.send_message("progress", {"text": text})

    def _say(self, text: str) -> None:
        self._progress(text)


def serve(settings: Settings, host: str, port: int) -> int:
    """Until the master says that it is over, or is gone. Returns the exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    cast(Any, runners).MASTER_HEARTBEAT_TIMEOUT = ORPHANED_SECONDS
    environment = Environment(user_classes=[BroadcastUser], events=events)
    runner = environment.create_worker_runner(host, port)
    orders: Queue[tuple[str, Any]] = Queue()

    def note(msg: Any, **_: Any) -> None:
        orders.put((msg.type, msg.data))

    for kind in ("join", "begin", "end"):
        runner.register_message(kind, note)
    # Locust ends its greenlets when the master says `quit` or was silent for too long.
    gevent.spawn(runner.greenlet.join).link(lambda _: orders.put(("quit", None)))
    test: GeneratorProcess | None = None
    while (order := orders.get())[0] != "quit":
        if order[0] == "join":
            share = Share(**order[1])
            own = settings_of(share, settings)
            try:
                test = GeneratorProcess(own, sign_up_and_in(own.http_url), runner)
            except (LoginFailed, NobodyAnswers) as error:
                print(f"Generator {share.number}: sign-up and sign-in do not work: {error}", flush=True)
                return 1
            gevent.spawn(_measure, test, runner)
        elif test is not None and order[0] == "begin":
            test.begun.set()
        elif test is not None:
            test.interrupted.set()
    return 0


def _measure(test: GeneratorProcess, runner: WorkerRunner) -> None:
    runner.send_message("part", pack(test.measure()))

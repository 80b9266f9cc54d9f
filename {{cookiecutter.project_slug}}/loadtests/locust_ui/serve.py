"""The page, and a new scenario for every test that is started on it."""

from __future__ import annotations

import signal
import sys
from argparse import Namespace
from typing import Any, cast

import gevent
from gevent.event import Event
from locust import events, stats
from locust.env import Environment

from deploy.local.ports import taken_ports

from .. import locust_stats
from ..audit import Audit, audit
from ..broadcast import CONNECTS_PER_SECOND, BroadcastUser
from ..files import raise_file_limit
from ..start import COULD_NOT_RUN
from .scenario import LocustUser, OpenEnd
from .settings import LocustSettings
from .tab import DeliveryTab

HOST = "127.0.0.1"
"""Whoever reaches the page may load the stack."""


def serve(settings: LocustSettings, login_token: str) -> int:
    """Until Ctrl-C. Returns the exit code."""
    for taken in taken_ports({settings.ui_port: "Locust's page"}):
        print(f"{taken} LOADTEST_UI_PORT names another one.", file=sys.stderr)
        return COULD_NOT_RUN
    raise_file_limit()
    locust_stats.use_fine_buckets()
    stats.PERCENTILES_TO_CHART[:] = [0.5, 0.95, 0.99]
    tests = Tests(settings, login_token)
    environment = Environment(user_classes=[LocustUser], events=events, host=settings.url)
    environment.parsed_options = Namespace(  # what the form begins with
        num_users=settings.users,
        spawn_rate=CONNECTS_PER_SECOND,
        run_time=None,
        stats_history_enabled=False,
        headless=False,
    )
    runner = environment.create_local_runner()
    page: Any = environment.create_web_ui(HOST, settings.ui_port, delayed_start=True)
    DeliveryTab(page, tests.judge)
    untyped = cast(Any, events)  # as of Locust 2.47
    untyped.test_start.add_listener(tests.start)
    untyped.spawning_complete.add_listener(tests.all_are_spawned)
    untyped.test_stop.add_listener(tests.stop)
    history = gevent.spawn(stats.stats_history, runner)
    stopped = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        gevent.signal_handler(number, stopped.set)
    page.start()
    print(
        f"Locust: http://{HOST}:{settings.ui_port}/\n"
        f"It loads {settings.url} with {settings.rate:,.0f} messages/s in {settings.rooms:,} rooms once all users are "
        "there. Its tab Delivery says who reached whom. Ctrl-C ends it.",
        flush=True,
    )
    stopped.wait()
    runner.quit()
    page.stop()
    history.kill()
    return 0


class Tests:
    """The scenario of the test that runs, or of the last one."""

    __test__ = False

    def __init__(self, settings: LocustSettings, login_token: str) -> None:
        self._settings = settings
        self._login_token = login_token
        self._scenario: OpenEnd | None = None
        self._conductor: gevent.Greenlet[[], None] | None = None

    def start(self, **_: Any) -> None:
        self._scenario = OpenEnd(self._settings, self._login_token)
        BroadcastUser.scenario, BroadcastUser.url = self._scenario, self._settings.url

    def all_are_spawned(self, **_: Any) -> None:
        """Comes again when the number of users is changed; the rooms are dealt once."""
        if self._scenario and self._conductor is None:
            self._conductor = gevent.spawn(self._scenario.conduct)

    def stop(self, **_: Any) -> None:
        if self._conductor is not None:
            self._conductor.kill()
            self._conductor = None

    def judge(self) -> Audit | None:
        return audit(self._scenario.ledger) if self._scenario else None

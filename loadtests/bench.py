"""`Bench`: takes one measurement, of one contender under one workload."""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from .contender import Contender, Conversation, load
from .load_client import MAX_CLIENT_CPU, Answer, ClientFailed, Load, LoadClient
from .search import Verdict, highest_rate
from .stack import Cores, Server, Stack, StartFailed
from .workloads import Kind, Workload

SPARE_FILES: Final = 200

LEAST_MESSAGES: Final = 5
"""Published in one step."""

FIRST_CLIENT_SECONDS: Final = 10.0

MAX_CORE_SHARE: Final = 0.97
"""With what is beside the client, its core must not be full either."""

DIRECT: Final = "direct"
"""Stands for no gateway: the client speaks with the worker itself."""


@dataclass(frozen=True)
class Effort:
    """How long each part of a measurement takes, and how near a search comes to its end."""

    warm_seconds: float
    step_seconds: float
    confirm_seconds: float
    idle_seconds: float
    tolerance: float
    storm: int
    big: int
    """At most so many connections."""


FULL = Effort(
    warm_seconds=0.7, step_seconds=3, confirm_seconds=10, idle_seconds=10, tolerance=0.07, storm=3000, big=9000
)
QUICK = Effort(
    warm_seconds=0.3, step_seconds=1, confirm_seconds=1.5, idle_seconds=2, tolerance=0.3, storm=500, big=1500
)


@dataclass
class Measurement:
    contender: str
    workload: str
    figures: dict[str, float] = field(default_factory=dict)
    failure: str = ""
    """Why there are no figures."""
    note: str = ""
    """What was wrong although there are figures."""
    client_limited: bool = False
    """The search was ended by the client, not by the server: the server can do more."""
    steps: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Running:
    client: LoadClient
    server: Server
    """The one that is measured."""
    beside: tuple[Server, ...]
    """Those on the client's core."""

    def core_share(self, answer: Answer) -> float:
        """How busy the client's core was with the client and what is beside it."""
        beside = sum(answer.cpu_seconds(one.pids) for one in self.beside)
        return answer.client_cpu + beside / float(answer["seconds"])


class Session:
    """A contender under load, with what it needs, for as long as its answers can be trusted."""

    def __init__(
        self, contender: Contender | None, behind: Contender | None, cores: Cores, folder: Path, binary: Path
    ) -> None:
        self._contender = contender
        self._behind = behind
        self._cores = cores
        self._folder = folder
        self._binary = binary

    @contextlib.contextmanager
    def opened(self, load: Load, *, joined: bool = True) -> Iterator[Running]:
        """No connection is open yet."""
        first = self._contender or self._behind
        assert first is not None
        with Stack(self._cores, self._folder) as stack:
            beside = [stack.start_redis()] if first.redis else []
            server = None
            if self._behind is not None:
                server = stack.start(self._behind, self._cores.client)
            if self._contender is not None:
                beside += [server] if server else []
                server = stack.start(self._contender, self._cores.server, server)
            assert server is not None
            wait_for_first_client(self._binary, self._cores.client, server.port, first.conversation)
            watch = [pid for one in (server, *beside) for pid in one.pids]
            with LoadClient(
                self._binary, self._cores.client, server.port, load, first.conversation, joined=joined, watch=watch
            ) as client:
                yield Running(client, server, tuple(beside))


def ended_by_client(steps: Sequence[Mapping[str, Any]], rate: float) -> bool:
    """Whether what came just above the highest rate that held was invalid, rather than failed."""
    missed = [one for one in steps if one["verdict"] is not Verdict.HELD and one["rate"] >= rate]
    return bool(missed) and min(missed, key=lambda one: one["rate"])["verdict"] is Verdict.INVALID


class Bench:
    def __init__(
        self, cores: Cores, folder: Path, binary: Path, effort: Effort, say: Callable[[str], None] = print
    ) -> None:
        self._cores = cores
        self._folder = folder
        self._binary = binary
        self._effort = effort
        self._say = say

    def measure(self, contender: Contender | None, workload: Workload, hint: float | None = None) -> Measurement:
        """Never raises for what a contender does: a measurement without figures says why.

        `contender` is `None` for the gateway workloads' direct way. `hint` is the rate that an earlier round found.
        """
        name = contender.name if contender else DIRECT
        measurement = Measurement(name, workload.name)
        behind = load(contender.behind if contender else "template") if workload.gateway else None
        session = Session(contender, behind, self._cores, self._folder / name, self._binary)
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if self._load(workload).connections + SPARE_FILES > files:
            measurement.failure = f"skipped: only {files} open files are allowed (ulimit -n)"
            return measurement
        try:
            match workload.kind:
                case Kind.SEARCH:
                    self._search(session, workload, measurement, hint or workload.start)
                case Kind.FIXED:
                    self._fixed(session, workload, measurement)
                case Kind.IDLE:
                    self._idle(session, workload, measurement)
                case Kind.STORM:
                    self._storm(session, workload, measurement)
        except (StartFailed, ClientFailed) as exc:
            measurement.failure = str(exc)
        return measurement

    def _load(self, workload: Workload) -> Load:
        most = self._effort.storm if workload.kind is Kind.STORM else self._effort.big
        planned = workload.load
        return Load(min(planned.connections, most), planned.rooms, planned.publishers, planned.body_bytes)

    def _search(self, session: Session, workload: Workload, measurement: Measurement, start: float) -> None:
        load = self._load(workload)
        with contextlib.ExitStack() as open_things:
            current: list[Running] = []

            def step(rate: float, seconds: float) -> tuple[Answer, Verdict]:
                if not current:
                    current.append(open_things.enter_context(session.opened(load)))
                    ready(current[0])
                seconds = max(seconds, LEAST_MESSAGES / rate)
                answer = current[0].client.step(rate, warm=self._effort.warm_seconds, seconds=seconds)
                verdict = self._judge(measurement, workload.p99_limit_ms, answer, current[0])
                measurement.figures = figures_of(answer, current[0])
                if not answer.left_nothing:  # the next rate deserves a server that has nothing to catch up with
                    open_things.close()
                    current.clear()
                return answer, verdict

            def attempt(rate: float) -> Verdict:
                return step(rate, self._effort.step_seconds)[1]

            rate = highest_rate(attempt, start, least=workload.least, tolerance=self._effort.tolerance)
            while rate is not None and rate >= workload.least:  # what held for a moment must hold for a while
                if step(rate, self._effort.confirm_seconds)[1] is Verdict.HELD:
                    measurement.client_limited = ended_by_client(measurement.steps, rate)
                    return
                rate *= 1 - self._effort.tolerance
            measurement.figures = {}
            measurement.failure = f"not even {workload.least:g} messages/s held: {measurement.steps[-1]['fault']}"

    def _fixed(self, session: Session, workload: Workload, measurement: Measurement) -> None:
        with session.opened(self._load(workload)) as running:
            ready(running)
            answer = running.client.step(
                workload.start, warm=self._effort.warm_seconds, seconds=self._effort.confirm_seconds, give_up_ms=5000
            )
            verdict = self._judge(measurement, float("inf"), answer, running)
            if verdict is Verdict.INVALID:
                measurement.failure = "invalid: the client was the bottleneck"
                return
            measurement.figures = figures_of(answer, running)
            measurement.note = answer.fault(float("inf"))

    def _idle(self, session: Session, workload: Workload, measurement: Measurement) -> None:
        load = self._load(workload)
        with session.opened(load) as running:
            pids = running.server.pids
            opened = ready(running)
            time.sleep(self._effort.idle_seconds / 5)
            rested = must(running.client.idle(self._effort.idle_seconds), "idling")
            grown = rested.total("rss_after", pids) - opened.total("rss_before", pids)
            measurement.figures = {
                "bytes_per_connection": grown / load.connections,
                "cpu": rested.cpu_seconds(pids) / rested["seconds"],
            }
            self._say(f"{grown / load.connections / 1024:.1f} KiB per connection")

    def _storm(self, session: Session, workload: Workload, measurement: Measurement) -> None:
        load = self._load(workload)
        with session.opened(load, joined=False) as running:
            opened = must(running.client.open(), "opening")
            if running.core_share(opened) > MAX_CLIENT_CPU:
                measurement.failure = "invalid: the client was the bottleneck"
                return
            measurement.figures = {
                "handshakes_per_second": opened["ready"] / opened["seconds"],
                "cpu_us_per_handshake": opened.cpu_seconds(running.server.pids) / opened["ready"] * 1e6,
                "client_cpu": opened.client_cpu,
            }
            self._say(f"{measurement.figures['handshakes_per_second']:,.0f} handshakes/s")

    def _judge(self, measurement: Measurement, p99_limit_ms: float, answer: Answer, running: Running) -> Verdict:
        fault, core_share = answer.fault(p99_limit_ms), running.core_share(answer)
        verdict = Verdict.FAILED if fault else Verdict.HELD
        # A core that is full of Redis and the worker can only hurt what is measured: what held all the same, held.
        if answer.client_cpu > MAX_CLIENT_CPU or (fault and core_share > MAX_CORE_SHARE):
            verdict = Verdict.INVALID
        measurement.steps.append({**answer.figures, "core_share": core_share, "verdict": verdict, "fault": fault})
        self._say(
            f"{answer['rate']:,.0f} msg/s in, {answer.deliveries_per_second:,.0f} deliveries/s, "
            f"p99 {answer['p99_ms']:.1f} ms, client {answer.client_cpu:.0%}, its core {core_share:.0%}: "
            f"{verdict}{fault and f' ({fault})'}"
        )
        return verdict


def wait_for_first_client(binary: Path, core: int, port: int, conversation: Conversation) -> None:
    """Some servers listen before they are ready (nchan: before it has Redis), most do more for the first client."""
    deadline = time.monotonic() + FIRST_CLIENT_SECONDS
    while True:
        with LoadClient(binary, core, port, Load(connections=1, rooms=1, publishers=0), conversation) as client:
            opened = client.open(patience_seconds=FIRST_CLIENT_SECONDS)
        if opened["ready"]:
            return
        if time.monotonic() > deadline:
            raise StartFailed(f"no connection could be opened: {opened['first_loss'] or 'no answer'}")
        time.sleep(0.1)


def must(answer: Answer, what: str) -> Answer:
    if answer["lost_connections"]:
        raise StartFailed(f"{what}: {answer['lost_connections']} connections failed: {answer['first_loss']}")
    return answer


def ready(running: Running) -> Answer:
    """All connections are open, and everybody hears everything. Returns what opening them took."""
    opened = must(running.client.open(), "opening")
    if not must(running.client.settle(), "settling")["settled"]:
        raise StartFailed("not everybody heard everything, however slowly it was published")
    return opened


def figures_of(answer: Answer, running: Running) -> dict[str, float]:
    pids = running.server.pids
    delivered, writes, cpu = answer["delivered_measured"] or 1, answer.total("writes", pids), answer.cpu_seconds(pids)
    return {
        "messages_per_second": answer["rate"],
        "deliveries_per_second": answer.deliveries_per_second,
        **{name: answer[name] for name in ("p50_ms", "p95_ms", "p99_ms", "p999_ms", "max_ms")},
        "cpu": cpu / answer["seconds"],
        "cpu_us_per_delivery": cpu / delivered * 1e6,
        "deliveries_per_core": delivered / cpu if cpu else 0.0,
        # 0 where the event loop uses send, which the kernel does not count
        "deliveries_per_write": delivered / writes if writes > delivered / 1000 else 0.0,
        "bytes_per_delivery": answer["bytes_measured"] / delivered,
        "client_cpu": answer.client_cpu,
        "client_core_share": running.core_share(answer),
    }

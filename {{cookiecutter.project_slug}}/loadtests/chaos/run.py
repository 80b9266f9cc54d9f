"""One chaos run, fault by fault. For each of them:

the talking begins, the fault strikes, everything and everybody comes back, the talking ends, and the ledger is judged.
So whatever is lost, double or out of order belongs to one fault.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import psutil
from redis.exceptions import RedisError

from deploy.errors import StackError
from deploy.settings import PROJECT_ROOT

from ..audit import Audit, audit
from ..circumstances import machine, versions
from ..files import raise_file_limit
from ..processes import ProcessWatch
from ..publish import publish
from ..report import Second, latency, matrix, percentiles
from . import page, report, table
from .crowd import Crowd, NotBack
from .faults import FAULTS, Scene, why_in_doubt
from .report import ChaosReport, Difference, FaultRow
from .schedule import FaultName, Planned, plan
from .settings import ChaosSettings
from .stack import FaultFailed, Stack, find_stack, until_ready

READY_SECONDS = 60
"""At most this long after a fault every process must work again."""
BACK_SECONDS = 60
"""At most this long after that every client must be back."""
NOTICE_SECONDS = 1.0
"""After a fault, before anybody asks whether all are back: so long it may take to notice that one is away."""
SETTLE_SECONDS = 30
"""At most this long what is on its way is waited for."""
TROUBLES = (FaultFailed, NotBack, StackError, psutil.Error, RedisError, OSError, subprocess.SubprocessError)
PASSED, FAILED, COULD_NOT_RUN, INTERRUPTED = 0, 1, 2, 130


def run(settings: ChaosSettings) -> int:
    """Returns the exit code."""
    try:
        stack = find_stack(PROJECT_ROOT)
    except StackError as error:
        print(error, file=sys.stderr)
        return COULD_NOT_RUN
    raise_file_limit()
    try:
        written = asyncio.run(ChaosRun(settings, stack).run())
    except TROUBLES as error:
        print(error, file=sys.stderr)
        return COULD_NOT_RUN
    publish(written, page.render(written, settings.report.name), table.render(written), settings.report)
    return {"passed": PASSED, "failed": FAILED, "interrupted": INTERRUPTED}[written["verdict"]["outcome"]]


class ChaosRun:
    def __init__(self, settings: ChaosSettings, stack: Stack) -> None:
        self.settings = settings
        self.stack = stack
        self.interrupted = False
        self.rows: list[FaultRow] = []
        self.timeline: list[Second] = []
        self.watch = ProcessWatch(stack.url)
        self._troubles: list[str] = []
        self._judged: Audit | None = None
        self._began = time.monotonic()
        self._phases: asyncio.Task[None] | None = None

    async def run(self) -> ChaosReport:
        """Raises `FaultFailed`, `NotBack` and `StackError` where the run could not begin."""
        settings, stack = self.settings, self.stack
        started_at = datetime.now(UTC).isoformat(timespec="seconds")
        planned = plan(
            settings.seed,
            settings.faults,
            workers=stack.workers,
            gateways=stack.gateways,
            users=settings.users,
            rooms=settings.rooms,
        )
        self._say(
            f"{settings.users:,} clients in {settings.rooms:,} rooms at {stack.url}, {settings.rate:g} messages/s, "
            f"seed {settings.seed}: " + ", ".join(f"{one.fault} {one.target}".rstrip() for one in planned)
        )
        if idle := await stack.not_ready():
            raise FaultFailed(f"{', '.join(idle)} does not work: see `make ps`")
        crowd = Crowd(
            stack.url,
            settings.token_secret.get_secret_value(),
            users=settings.users,
            rooms=settings.rooms,
            rate=settings.rate,
            seed=settings.seed,
            recovers=settings.recovers,
            run=secrets.token_hex(3),
            context=stack.tls_context,
        )
        self._phases = asyncio.create_task(self._all(crowd, planned))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._interrupt)
        try:
            await self._phases
        except asyncio.CancelledError:
            pass
        except TROUBLES as error:
            if not self.rows:
                raise
            self._troubles.append(str(error))
        return self._report(crowd, planned, started_at)

    def _interrupt(self) -> None:
        """What is still on is undone on the way out; who asks twice must not keep it from that."""
        if not self.interrupted and self._phases is not None:
            self.interrupted = True
            self._say("Interrupted: undoing what is still on.")
            self._phases.cancel()

    async def _all(self, crowd: Crowd, planned: list[Planned]) -> None:
        async with AsyncExitStack() as undo:
            undo.push_async_callback(self._mend)
            await undo.enter_async_context(self.stack.prepared(planned))
            await undo.enter_async_context(crowd)
            await crowd.until_back(BACK_SECONDS)
            self._say("all are there: " + ", ".join(f"{w} {n:,}" for w, n in sorted(crowd.by_worker.items())))
            self._began = time.monotonic()
            watching = asyncio.create_task(self._watch(crowd))
            try:
                for one in planned:
                    await self._phase(crowd, one)
                    if self.interrupted:
                        break
            finally:
                watching.cancel()
                await asyncio.wait([watching])

    async def _watch(self, crowd: Crowd) -> None:
        """What happens second by second, and what it costs."""
        psutil.cpu_percent()  # begins its interval
        crowd.books.ledger.tick()
        used, at = time.process_time(), time.monotonic()
        while True:
            await asyncio.sleep(1)
            interval, now, cpu = crowd.books.ledger.tick(), time.monotonic(), time.process_time()
            self.timeline.append(
                Second(
                    at_seconds=round(now - self._began, 3),
                    sent=interval.sent,
                    acknowledged=interval.acknowledged,
                    delivered=interval.delivered,
                    same_worker=percentiles(interval.same),
                    other_worker=percentiles(interval.other),
                    generator_cpu=round((cpu - used) / (now - at), 3),
                    machine_cpu=psutil.cpu_percent() / 100,
                )
            )
            used, at = cpu, now
            # In a thread: what is frozen answers late, and the clients must not wait for it.
            await asyncio.to_thread(self.watch.sample, now - self._began)

    async def _mend(self) -> None:
        """A restart that was interrupted leaves a process out."""
        if self.interrupted and await until_ready(self.stack, NOTICE_SECONDS):
            await self.stack.command("up")

    async def _phase(self, crowd: Crowd, planned: Planned) -> None:
        scene = Scene(
            self.stack,
            crowd,
            planned,
            seconds=self.settings.fault_seconds,
            say=lambda text: self._say(f"{planned.fault}: {text}"),
        )
        problems: list[str] = []
        crowd.watch()
        talking = asyncio.create_task(crowd.talk())
        try:
            if planned.target in self.stack.workers:
                await crowd.fill(planned.target, len(self.stack.workers), BACK_SECONDS)
            await asyncio.sleep(planned.calm_seconds)
            await FAULTS[planned.fault](scene)
            if idle := await until_ready(self.stack, READY_SECONDS):
                problems.append(f"{', '.join(idle)} did not come back within {READY_SECONDS} s")
            await asyncio.sleep(NOTICE_SECONDS)
            await crowd.until_back(BACK_SECONDS)
        except asyncio.CancelledError:
            problems.append("interrupted")
        except TROUBLES as error:
            problems.append(str(error))
        talking.cancel()
        (said,) = await asyncio.gather(talking, return_exceptions=True)
        if not isinstance(said, asyncio.CancelledError):
            problems.append(f"the talking ended: {said!r}")
        lasted = time.monotonic() - (scene.struck_at or time.monotonic())
        judged = await crowd.settle(SETTLE_SECONDS)
        if scene.struck_at is not None:
            row = self._row(scene, judged, lasted, problems)
            self.rows.append(row)
            self._say(f"{planned.fault}: {_told(row)}")
        elif not self.interrupted:
            raise FaultFailed(f"{planned.fault}: {'; '.join(problems)}")
        self._judged = judged

    def _row(self, scene: Scene, judged: Audit, lasted_seconds: float, problems: list[str]) -> FaultRow:
        crowd, planned = scene.crowd, scene.planned
        lost = crowd.those(lambda member: member.session.times_lost > 0)
        meant = set(scene.hit)
        hit = crowd.those(lambda member: member in meant or member.session.times_lost > 0)
        waits_ms = crowd.waits_ms(hit)
        doubt = why_in_doubt(
            planned.fault,
            seconds=scene.seconds,
            messages=scene.seconds * crowd.rate,
            lost=len(lost),
            longest_wait_ms=max(waits_ms, default=0),
        )
        if doubt and not self.interrupted:
            problems.append(doubt)
        return report.row(
            fault=planned.fault,
            target=planned.target,
            at_seconds=(scene.struck_at or 0) - self._began,
            lasted_seconds=lasted_seconds,
            waits_ms=waits_ms,
            lost_connection=len(lost),
            not_back=sum(not member.is_there for member in crowd.members),
            difference=Difference(self._judged, judged),
            tally=crowd.books.tally,
            workers=len(self.stack.workers),
            is_roll=planned.fault is FaultName.ROLL_WORKERS,
            problems=problems,
        )

    def _report(self, crowd: Crowd, planned: list[Planned], started_at: str) -> ChaosReport:
        settings, judged = self.settings, self._judged
        whole = judged or audit(crowd.books.ledger)
        return ChaosReport(
            schema=report.SCHEMA,
            verdict=report.judge(
                self.rows,
                [one.fault for one in planned],
                troubles=self._troubles,
                said_late_p99_ms=crowd.lag.percentile(0.99),
                interrupted=self.interrupted,
            ),
            started_at=started_at,
            settings={
                "seed": settings.seed,
                "faults": ",".join(settings.faults),
                "users": settings.users,
                "rooms": settings.rooms,
                "rate": settings.rate,
                "fault_seconds": settings.fault_seconds,
                "recovery": "on" if settings.recovers else "off",
                "workers": len(self.stack.workers),
                "gateways": len(self.stack.gateways),
            },
            rows=self.rows,
            sent=judged.sent if judged else 0,
            acknowledged=judged.acknowledged if judged else 0,
            expected=judged.expected if judged else 0,
            delivered=judged.delivered if judged else 0,
            said_late_p99_ms=crowd.lag.percentile(0.99),
            versions=versions("uvloop", "websockets", "redis"),
            machine=machine(),
            matrix=matrix(whole),
            same_worker=latency(whole, same_worker=True),
            other_worker=latency(whole, same_worker=False),
            timeline=self.timeline,
            processes=self.watch.figures(),
        )

    def _say(self, text: str) -> None:
        print(f"{time.monotonic() - self._began:5.0f} s  {text}", flush=True)


def _told(row: FaultRow) -> str:
    longest = row["back_ms"]["max"]
    return (
        f"{row['hit']:,} hit, the last one back after {'-' if longest is None else f'{longest / 1000:.1f}'} s; "
        f"{row['sent']:,} sent, {row['lost']:,} lost, {row['duplicated']:,} duplicated, {row['out_of_order']:,} out of "
        f"order; {row['recovered']:,} recovered, {row['unrecovered']:,} not"
    )

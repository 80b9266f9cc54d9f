"""What each process of the stack costs while it is loaded: processor, memory, connections, messages, once a second.

Measured where the stack runs as processes of this machine. Elsewhere the report says that it was not.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.request import urlopen

import psutil
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from .report import ProcessFigures, ProcessSecond, ProcessSeries
from .settings import PROJECT_ROOT

if TYPE_CHECKING:
    from deploy.local.layout import Layout, Process

TIMEOUT_SECONDS = 0.5
"""What does not answer within this time, because it is frozen for instance, has no connections in this second."""
GENERATOR = "load generator"
CONNECTION_METRICS = ("ws_connections", "gateway_tunnels", "traefik_open_connections")
MESSAGE_METRIC = "ws_messages_delivered_total"


class ProcessWatch:
    """Notes what the stack's processes cost, each time that it is asked to."""

    def __init__(self, url: str) -> None:
        """`url` is what is loaded: another stack than that is not watched."""
        self.note = ""
        self.generators = {GENERATOR: psutil.Process()}
        """The load generator's own processes, by name."""
        self._layout: Layout | None = None
        self._series: dict[str, list[ProcessSecond]] = {}
        self._processes: dict[str, psutil.Process] = {}
        self._delivered: dict[str, tuple[float, float]] = {}  # (when, how many)
        try:
            from deploy.local import records  # not there in the load test's own container
        except ModuleNotFoundError:
            self.note = "Not measured: the stack is not one of processes of this machine."
            return
        record = records.read_stack(PROJECT_ROOT)
        if record is None or record.layout.ws_url != url:
            self.note = "Not measured: the stack is not one of processes of this machine (`make up RUNTIME=local`)."
            return
        self._layout = record.layout

    def sample(self, at_seconds: float) -> None:
        """Takes some milliseconds, and longer where a process does not answer."""
        if self._layout is None:
            return
        for process in self._layout.processes:
            with suppress(psutil.Error):
                self._note(process.name, self._find(process.name), at_seconds, process)
        for name, generator in self.generators.items():
            with suppress(psutil.Error):
                self._note(name, generator, at_seconds, None)

    def figures(self) -> ProcessFigures:
        series = [ProcessSeries(name=name, seconds=seconds) for name, seconds in self._series.items()]
        return ProcessFigures(note=self.note, series=series)

    def _find(self, name: str) -> psutil.Process:
        from deploy.local import records

        known = self._processes.get(name)
        if known is None or not known.is_running():
            known = records.live_process(PROJECT_ROOT, name)
            if known is None:
                raise psutil.NoSuchProcess(0, name)
            self._processes[name] = known
        return known

    def _note(self, name: str, process: psutil.Process, at_seconds: float, stacked: Process | None) -> None:
        first = name not in self._series
        cpu = process.cpu_percent() / 100  # since it was last asked; 0.0 of a process that is new
        connections, messages = self._ask(stacked) if stacked else (None, None)
        seconds = self._series.setdefault(name, [])
        if first:
            return  # the interval begins here
        seconds.append(
            ProcessSecond(
                at_seconds=round(at_seconds, 3),
                cpu=round(cpu, 3),
                memory_bytes=process.memory_info().rss,
                connections=connections,
                messages=messages,
            )
        )

    def _ask(self, process: Process) -> tuple[int | None, float | None]:
        layout = self._layout
        if layout is None:
            return None, None
        if process == layout.redis:
            return self._redis_clients(layout), None
        metrics = ""
        with suppress(OSError), urlopen(f"http://127.0.0.1:{process.port}/metrics", timeout=TIMEOUT_SECONDS) as answer:
            metrics = answer.read().decode()
        found = [value for name in CONNECTION_METRICS if (value := total(metrics, name)) is not None]
        delivered, now = total(metrics, MESSAGE_METRIC), time.monotonic()
        rate = None
        if delivered is not None and process in layout.chat_workers:
            then, before = self._delivered.get(process.name, (now, delivered))
            if now > then and delivered >= before:  # fewer: it was started again
                rate = round((delivered - before) / (now - then), 1)
            self._delivered[process.name] = (now, delivered)
        return (round(found[0]) if found else None), rate

    def _redis_clients(self, layout: Layout) -> int | None:
        redis = Redis(
            port=layout.redis_port,
            password=layout.redis_password,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        try:
            return int(redis.info("clients")["connected_clients"])
        except (RedisError, OSError):
            return None
        finally:
            redis.close()


def total(metrics: str, name: str) -> float | None:
    """The sum over all labels of one metric in Prometheus's text format; `None` where there is none.

    Traefik counts connections by entry point: those of the public one are meant.
    """
    found = re.findall(rf"^{name}(\{{[^}}]*\}})? (\S+)$", metrics, re.MULTILINE)
    values = [float(value) for labels, value in found if "entrypoint" not in labels or 'entrypoint="web"' in labels]
    return sum(values) if values else None

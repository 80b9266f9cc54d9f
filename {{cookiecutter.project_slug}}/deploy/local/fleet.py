"""`LocalFleet`: the chat workers as processes under supervision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from deploy.errors import ProcessFailed, WrongState
from deploy.interrupts import undisturbed
from deploy.local import down, ports, records, supervision
from deploy.local.launches import write_launch_like
from deploy.local.layout import Layout, Process
from deploy.local.readiness import ReadinessWait, start_seconds, unready_reason
from deploy.local.records import StackRecord
from deploy.local.supervision import Supervisor


class LocalFleet:
    """Implements `Fleet`."""

    def __init__(self, record: StackRecord) -> None:
        self._layout = record.layout
        self._socket = record.socket
        self._supervisor = Supervisor(record.socket)

    @property
    def workers(self) -> list[str]:
        return [process.name for process in self._layout.chat_workers]

    def unready_reason(self, name: str) -> str | None:
        return unready_reason(self._layout, self._process(name))

    def launch(self, name: str) -> None:
        before, after = self._layout, replace(self._layout, workers=self._layout.workers + 1)
        worker = after.chat_workers[-1]
        assert worker.name == name
        if taken := ports.taken_ports({worker.port: name}):
            raise WrongState(f"{taken[0]}\nStop what holds it, then repeat the command.")
        try:
            write_launch_like(after, worker, before.chat_workers[0])
            self._become(after)
            self._start(worker)
        except BaseException:
            with undisturbed():
                self._drop(worker, before)
            raise

    def restart(self, name: str) -> None:
        worker = self._process(name)
        down.stop_by_supervisor(self._layout.root, self._supervisor, [worker])
        self._start(worker)

    def retire(self, name: str) -> None:
        worker = self._layout.chat_workers[-1]
        assert worker.name == name
        self._drop(worker, replace(self._layout, workers=self._layout.workers - 1))

    def balance(self, names: Sequence[str]) -> None:
        layout = self._layout
        workers = [process.url for process in layout.chat_workers if process.name in names]
        layout.balancer.balance([process.url for process in layout.gateway_processes], workers)

    def _process(self, name: str) -> Process:
        return next(process for process in self._layout.chat_workers if process.name == name)

    def _start(self, worker: Process) -> None:
        wait = ReadinessWait(self._layout, self._supervisor, lambda _: None, start_seconds(self._layout))
        self._supervisor.start(worker.name)
        try:
            wait.until_ready([worker])
        except ProcessFailed:
            # It would be tried again and again, and come up behind the back of whoever reads why it failed.
            down.stop_by_supervisor(self._layout.root, self._supervisor, [worker])
            raise

    def _drop(self, worker: Process, without: Layout) -> None:
        down.stop_by_supervisor(without.root, self._supervisor, [worker])
        self._become(without)
        records.forget_process(without.root, worker.name)

    def _become(self, layout: Layout) -> None:
        """The record comes first: whatever happens then, `down` and `up` know of every process."""
        records.write_stack(layout, self._socket)
        supervision.write_configuration(layout, self._socket)
        self._supervisor.follow_configuration()
        self._layout = layout

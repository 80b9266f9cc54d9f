"""`ContainerFleet`: the chat workers as containers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from deploy.containers.compose import Compose
from deploy.containers.files import write_servers, write_service_settings
from deploy.containers.layout import ContainerLayout, service_url, write_record
from deploy.containers.readiness import start, unready_reason
from deploy.errors import StackError
from deploy.interrupts import undisturbed


class ContainerFleet:
    """Implements `Fleet`."""

    def __init__(self, layout: ContainerLayout) -> None:
        self._layout = layout

    @property
    def workers(self) -> list[str]:
        return self._layout.worker_names

    def unready_reason(self, name: str) -> str | None:
        return unready_reason(self._layout, name)

    def launch(self, name: str) -> None:
        before, after = self._layout, replace(self._layout, workers=self._layout.workers + 1)
        assert name == after.worker_names[-1]
        try:
            self._become(after)
            start(after, [name], recreate=True)
        except BaseException:
            with undisturbed():
                self._drop(name, before)
            raise

    def restart(self, name: str) -> None:
        """From the image as it is now: that is how a new version gets in."""
        write_service_settings(self._layout)
        try:
            start(self._layout, [name], recreate=True)
        except StackError:
            # It would be tried again and again, and come up behind the back of whoever reads why it failed.
            Compose(self._layout).stop(name)
            raise

    def retire(self, name: str) -> None:
        assert name == self._layout.worker_names[-1]
        self._drop(name, replace(self._layout, workers=self._layout.workers - 1))

    def balance(self, names: Sequence[str]) -> None:
        layout = self._layout
        workers = [service_url(name) for name in layout.worker_names if name in names]
        layout.balancer.balance([service_url(name) for name in layout.gateway_names], workers)

    def _drop(self, name: str, without: ContainerLayout) -> None:
        """Compose knows it as long as it is in servers.yaml."""
        compose = Compose(self._layout)
        compose.stop(name)
        compose.remove(name)
        self._become(without)

    def _become(self, layout: ContainerLayout) -> None:
        """The record comes first: whatever happens then, `down` and `up` know of every container."""
        write_record(layout)
        write_servers(layout)
        write_service_settings(layout)
        self._layout = layout

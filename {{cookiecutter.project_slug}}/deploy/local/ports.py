"""Who listens on the ports that the stack needs."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import psutil

from deploy.probe import HOST


@dataclass(frozen=True)
class TakenPort:
    port: int
    purpose: str
    holder: psutil.Process | None
    """None where the system does not tell, which is usual for processes of other users."""

    def __str__(self) -> str:
        try:
            who = f"{self.holder.name()} (pid {self.holder.pid})" if self.holder else "a process of another user"
        except psutil.Error:
            who = "a process that has just ended"
        return f"Port {self.port} ({self.purpose}) is taken: {who} holds it."


def is_free(port: int) -> bool:
    """Whether nobody listens there. Who may open it is another question: 443 is the container engine's to open."""
    with socket.socket() as probe:
        # As every server of the stack does: a port whose last connections are still in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            return error.errno != errno.EADDRINUSE
        return True


def taken_ports(purposes: Mapping[int, str]) -> list[TakenPort]:
    taken = [port for port in purposes if not is_free(port)]
    holders = _listeners() if taken else {}
    return [TakenPort(port, purposes[port], holders.get(port)) for port in sorted(taken)]


def next_free_base(base_port: int, last_offset: int) -> int:
    """The next base at which every port of the stack is free, for a message that can be acted upon."""
    bases = [*range(base_port + 100, 65535 - last_offset, 100), *range(1100, base_port, 100)]
    return next((base for base in bases if all(is_free(base + offset) for offset in range(last_offset + 1))), base_port)


def _listeners() -> dict[int, psutil.Process]:
    found: dict[int, psutil.Process] = {}
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.pid:
                with suppress(psutil.NoSuchProcess):
                    found.setdefault(connection.laddr.port, psutil.Process(connection.pid))
    except psutil.AccessDenied:  # macOS tells only root
        pass
    return found

"""Runs an app of the service with uvicorn until it is told to stop."""

import asyncio
import gc
import socket
import sys
from collections.abc import Awaitable, Callable

import uvicorn
from fastapi import FastAPI

from distributed_websocket.server import QuickUpgrade

from . import logging
from .settings import ProcessSettings

_START_FAILED_EXIT_CODE = 3


def spare_the_garbage_collector() -> None:
    """Collect less often, and never what was loaded at the start.

    Connections are made and dropped together, which looks like garbage to the collector: at its defaults it takes a
    third of the time of a storm of handshakes. What it finds less often is cycles only, which are rare here.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 50, 1_000)


class _Server(uvicorn.Server):
    """Does what is to be done before uvicorn closes every connection at once: meanwhile it still answers."""

    def __init__(self, config: uvicorn.Config, before_stop: Callable[[], Awaitable[None]] | None) -> None:
        super().__init__(config)
        self._before_stop = before_stop

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._before_stop is not None:
            await self._before_stop()
        await super().shutdown(sockets)


def serve(
    app: FastAPI,
    settings: ProcessSettings,
    ws: type[asyncio.Protocol] | str,
    before_stop: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Blocks. Exits with code 3 if the start fails. `ws` is uvicorn's WebSocket implementation."""
    logging.configure(settings.log_format, settings.log_level)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.bind_port,
        http=QuickUpgrade,
        ws=ws,
        ws_max_size=settings.max_message_bytes,
        ws_per_message_deflate=False,  # 50 KB for each connection, and CRIME
        ws_ping_interval=settings.ping_interval_seconds,
        ws_ping_timeout=settings.ping_timeout_seconds,
        timeout_graceful_shutdown=settings.shutdown_seconds,
        lifespan="on",
        log_config=None,
        server_header=False,
        forwarded_allow_ips=settings.trusted_proxies,
    )
    spare_the_garbage_collector()
    server = _Server(config, before_stop)
    try:
        server.run()
    except KeyboardInterrupt:
        return
    if not server.started:
        sys.exit(_START_FAILED_EXIT_CODE)

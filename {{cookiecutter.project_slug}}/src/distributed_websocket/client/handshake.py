"""`Handshake`: one try to connect, with a fresh token where there is a source of them."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from ..auth import SUBPROTOCOL
from ..exceptions import InvalidToken
from .errors import ConnectionEnded

logger = logging.getLogger(__name__)

Token = str | Callable[[], Awaitable[str]]
"""A bearer token, or what gives a fresh one."""

OPEN_SECONDS: Final = 10.0
"""How long a handshake may take."""

CLOSE_SECONDS: Final = 1.0
"""How long the server may take to answer a close frame."""

MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024
"""A page of history is one message."""


class Handshake:
    """Connects to one URL, again and again."""

    def __init__(self, url: str, token: Token | None, heartbeat_seconds: float) -> None:
        self._url = url
        self._token = token
        self._heartbeat_seconds = heartbeat_seconds
        self._unauthorized = False

    async def attempt(self) -> ClientConnection | None:
        """A new connection; None when it is worth another try. Raises `ConnectionEnded` when it is not."""
        try:
            token = await self._token() if callable(self._token) else self._token
        except InvalidToken as exc:
            raise ConnectionEnded(f"there is no token: {exc}") from exc
        except Exception as exc:
            logger.warning("no fresh token: %r; trying again", exc)
            return None
        try:
            connection = await connect(
                self._url,
                additional_headers={} if token is None else {"Authorization": f"Bearer {token}"},
                subprotocols=[Subprotocol(SUBPROTOCOL)],
                compression=None,
                proxy=None,
                open_timeout=OPEN_SECONDS,
                close_timeout=CLOSE_SECONDS,
                ping_interval=self._heartbeat_seconds,
                ping_timeout=self._heartbeat_seconds,
                max_size=MAX_MESSAGE_BYTES,
            )
        except InvalidStatus as exc:
            self._judge(exc.response.status_code, (exc.response.body or b"")[:200].decode(errors="replace"))
            return None
        except (OSError, InvalidHandshake) as exc:  # a TimeoutError is an OSError
            logger.info("cannot connect: %r; trying again", exc)
            return None
        self._unauthorized = False
        return connection

    def _judge(self, status: int, body: str) -> None:
        # The token may have expired on the way. A source of tokens gets one more chance to give a good one.
        expired = status == HTTPStatus.UNAUTHORIZED and callable(self._token) and not self._unauthorized
        self._unauthorized = status == HTTPStatus.UNAUTHORIZED
        if not (expired or may_repeat_handshake(status)):
            raise ConnectionEnded(f"the handshake was refused with {status}: {body}".rstrip(": "), status=status)
        logger.info("the handshake was refused with %d: %s; trying again", status, body)


def may_repeat_handshake(status: int) -> bool:
    """Whether a handshake that was refused with this HTTP status is worth another try, after a while.

    A proxy without a worker behind it (5xx) is, and so are too many connections (429): one's own lost one may count.
    """
    return status >= 500 or status in (408, 425, 429)

"""What every HTTP answer of the gateway says to browsers, and how long a request may be."""

from collections.abc import Mapping
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 16 * 1024
MAX_DISCARDED_BYTES = 2**20

# Scripts, styles and connections of this site alone, nothing inline; 'self' includes ws and wss (CSP 3 §6.7.2.8).
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


class SecurityHeaders:
    """Adds `SECURITY_HEADERS` where the app has not set them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def protected_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, protected_send if scope["type"] == "http" else send)


class BodyLimit:
    """Answers 413 to a request that announces more than `MAX_BODY_BYTES`, and 411 to one that does not announce it.

    `larger` gives paths a limit of their own. The server holds requests to what they announce (RFC 9112 §6.3).
    """

    def __init__(self, app: ASGIApp, larger: Mapping[str, int]) -> None:
        self._app = app
        self._larger = larger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            announced = headers.get("content-length", "0")
            most = self._larger.get(scope["path"], MAX_BODY_BYTES)
            if "transfer-encoding" in headers:
                return await _refuse(HTTPStatus.LENGTH_REQUIRED, most, scope, receive, send)
            if not announced.isdecimal() or int(announced) > most:
                return await _refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, most, scope, receive, send)
        await self._app(scope, receive, send)


async def _refuse(status: HTTPStatus, most: int, scope: Scope, receive: Receive, send: Send) -> None:
    # Closing before a body is read resets the connection, and the answer may be lost. Too much is not read.
    unread = MAX_DISCARDED_BYTES
    more = True
    while more and unread > 0:
        message = await receive()
        unread -= len(message.get("body", b""))
        more = message.get("more_body", False)
    response = PlainTextResponse(f"a body of at most {most} bytes\n", status, {"Connection": "close"})
    await response(scope, receive, send)

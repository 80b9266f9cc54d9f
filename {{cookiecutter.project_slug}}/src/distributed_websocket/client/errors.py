"""What a client raises: both are in the library's tree of exceptions."""

from __future__ import annotations

from ..codes import ErrorCode
from ..exceptions import WebSocketException


class ConnectionEnded(WebSocketException):
    """The client is closed and does not come back.

    `close_code` is why the server closed it, `status` why it refused the handshake; both None when neither did.
    """

    def __init__(self, message: str, *, close_code: int | None = None, status: int | None = None) -> None:
        super().__init__(message)
        self.close_code = close_code
        self.status = status


class RequestRefused(WebSocketException):
    """The server answered a request with an error that trying again does not mend; `code` says which."""

    def __init__(self, code: str, detail: str) -> None:
        known = ErrorCode(code) if code in set(ErrorCode) else ErrorCode.INTERNAL_ERROR
        super().__init__(f"{code}: {detail}", code=known)

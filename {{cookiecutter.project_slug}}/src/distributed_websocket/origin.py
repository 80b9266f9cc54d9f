"""`OriginPolicy`: which sites' pages may connect. Knows headers, nothing of users and tokens."""

import re
from collections.abc import Iterable

from starlette.requests import HTTPConnection

_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?", re.ASCII)
_HOST = re.compile(r"([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?", re.ASCII)
_DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}


class OriginPolicy:
    """Which sites' pages may connect (cross-site WebSocket hijacking, CWE-1385).

    `allowed` holds origins, `scheme://host` or `scheme://host:port`, compared whole; without any, a page may connect to
    the host that it came from (the Host header). Clients that send no Origin are no browsers and pass: they hold no
    cookies that another site could use.
    """

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._allowed = frozenset(_allowed_origin(origin) for origin in allowed)

    def allows(self, origin: str | None, *, host: str | None, scheme: str) -> bool:
        """`origin` and `host` are the headers, None where absent; `scheme` is the connection's: http(s) or ws(s)."""
        if origin is None:
            return True
        parsed = _parse_origin(origin)
        if parsed is None:
            return False
        if self._allowed:
            return parsed in self._allowed
        origin_scheme, origin_host, origin_port = parsed
        if origin_scheme not in ("http", "https") or (scheme in ("https", "wss") and origin_scheme != "https"):
            return False
        # A server behind a TLS terminator sees ws, so a Host without port means the default of the page's scheme.
        named = _HOST.fullmatch((host or "").lower())
        if named is None:
            return False
        port = int(named[2]) if named[2] else _DEFAULT_PORTS[origin_scheme]
        return (named[1], port) == (origin_host, origin_port)

    def allows_connection(self, connection: HTTPConnection) -> bool:
        """`allows`, for the headers of a handshake or request. Several Origin headers are no browser's: refused."""
        origins = connection.headers.getlist("origin")
        if len(origins) > 1:
            return False
        origin = origins[0] if origins else None
        return self.allows(origin, host=connection.headers.get("host"), scheme=connection.scope["scheme"])


def _parse_origin(origin: str) -> tuple[str, str, int | None] | None:
    """Scheme, host, port of a serialized origin (RFC 6454 §6.2); None if it is not one, as `null` is not."""
    match = _ORIGIN.fullmatch(origin.lower())
    if match is None:
        return None
    scheme, host, port = match.groups()
    return scheme, host, int(port) if port else _DEFAULT_PORTS.get(scheme)


def _allowed_origin(origin: str) -> tuple[str, str, int | None]:
    parsed = _parse_origin(origin)
    if parsed is None:
        raise ValueError(f"not an origin: {origin!r}; expected scheme://host or scheme://host:port, without wildcards")
    return parsed

"""Which headers a proxy passes on: of the client's handshake to the upstream, and of the upstream's answer back."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus

from starlette.requests import HTTPConnection
from websockets.datastructures import Headers
from websockets.http11 import Response

# RFC 9110 §7.6.1, and what the handshake with the upstream has of its own.
_HOP_BY_HOP = frozenset(
    [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ]
)
_OWN_HANDSHAKE = frozenset(("host", "content-length", "content-type", "expect"))
_ANSWERS_HANDSHAKE = frozenset(("sec-websocket-accept", "sec-websocket-protocol", "sec-websocket-extensions"))
_OWN_RESPONSE = frozenset(("content-length", "date", "server"))
# What a client says here about itself is what a proxy would say about it, so a service behind might believe it.
_FORGEABLE = frozenset(("forwarded", "via", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "true-client-ip"))
_FORGEABLE_PREFIXES = ("x-forwarded-", "x-auth-", "x-authenticated-", "x-remote-", "x-user", "x-client-cert", "remote-")


def request_headers(client: HTTPConnection, own: Mapping[str, str]) -> list[tuple[str, str]]:
    """The headers of the handshake with the upstream: `own`, X-Forwarded-*, and what of the client's may travel.

    Left out are hop-by-hop headers, those of the client's own handshake, those that `own` replaces, and those that
    claim an identity or an address. Names with `_` too, which many servers take for `-`.
    """
    replaced = {name.lower() for name in own}
    connection_names = _listed(client.headers.getlist("connection"))
    travelling = []
    for raw_name, raw_value in client.headers.raw:
        name = raw_name.decode("latin-1").lower()
        if (
            name in _HOP_BY_HOP
            or name in _OWN_HANDSHAKE
            or name in _FORGEABLE
            or name in replaced
            or name in connection_names
            or "_" in name
            or name.startswith("sec-websocket-")
            or name.startswith(_FORGEABLE_PREFIXES)
        ):
            continue
        travelling.append((name, raw_value.decode("latin-1")))
    return [*travelling, *_forwarded(client), *own.items()]


def _forwarded(client: HTTPConnection) -> list[tuple[str, str]]:
    secure = client.scope["scheme"] in ("https", "wss")
    forwarded = [("X-Forwarded-Proto", "https" if secure else "http")]
    if client.client is not None:
        forwarded.append(("X-Forwarded-For", client.client.host))
    if host := client.headers.get("host"):
        forwarded.append(("X-Forwarded-Host", host))
    return forwarded


def without_cookie(headers: Iterable[tuple[str, str]], cookie: str) -> list[tuple[str, str]]:
    """The same headers, but for one of the cookies in them."""
    kept = []
    for name, value in headers:
        if name.lower() == "cookie":
            pairs = [pair.strip() for pair in value.split(";")]
            value = "; ".join(pair for pair in pairs if pair.partition("=")[0].strip() != cookie)
        if value:
            kept.append((name, value))
    return kept


def switching_protocols(response: Response) -> bytes:
    """The upstream's `101` for a client whose own handshake it answers; hop-by-hop headers stay here."""
    headers = Headers()
    headers["Upgrade"] = "websocket"
    headers["Connection"] = "Upgrade"
    for name, value in response.headers.raw_items():
        if name.lower() in _ANSWERS_HANDSHAKE:
            headers[name] = value
    for raw_name, raw_value in response_headers(response):
        headers[raw_name.decode("latin-1")] = raw_value.decode("latin-1")
    status = HTTPStatus.SWITCHING_PROTOCOLS
    return Response(status, status.phrase, headers).serialize()


def response_headers(response: Response | None) -> list[tuple[bytes, bytes]]:
    """The headers of the upstream's answer that may travel to the client, cookies among them."""
    if response is None:
        return []
    dropped = _HOP_BY_HOP | _OWN_RESPONSE | _listed(response.headers.get_all("connection"))
    return [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in response.headers.raw_items()
        if name.lower() not in dropped and not name.lower().startswith("sec-websocket-")
    ]


def _listed(values: Iterable[str]) -> frozenset[str]:
    return frozenset(name.strip().lower() for value in values for name in value.split(","))

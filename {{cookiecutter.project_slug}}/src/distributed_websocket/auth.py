"""Who may connect: bearer tokens, their verification, and `Authenticator`, which checks the Origin as well.

Relies on PyJWT and FastAPI; knows nothing of connections and brokers. Tokens come from a header, a subprotocol or a
cookie and never from the URL, which every server and proxy on the way writes into its log.
"""

import hashlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import NoReturn

import jwt
from fastapi import HTTPException, WebSocket, WebSocketDisconnect
from fastapi import WebSocketException as RefusedWebSocket
from fastapi.responses import JSONResponse
from fastapi.security import OAuth2PasswordBearer
from fastapi.security.utils import get_authorization_scheme_param
from prometheus_client import Counter
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocketState

from .codes import CloseCode, ErrorCode
from .exceptions import InvalidToken
from .origin import OriginPolicy

ALGORITHM = "HS256"
ISSUER = "chat"
AUDIENCE = "chat"
ACCESS_TOKEN_COOKIE = "access_token"
SUBPROTOCOL = "chat.v1"
BEARER_SUBPROTOCOL_PREFIX = "bearer."
MIN_SECRET_CHARACTERS = 32  # RFC 7518 §3.2: an HS256 key has at least 256 bits
MAX_TOKEN_CHARACTERS = 4096

_REQUIRED_CLAIMS = ("exp", "iat", "iss", "aud", "sub")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a verified token speaks for, until `expires_at` (seconds since the epoch)."""

    user: str
    expires_at: float
    token: str = field(repr=False)


def key_id(secret: str) -> str:
    """The `kid` of a shared secret: 64 bits of a hash, so that no one has to name keys by hand."""
    return hashlib.sha256(b"kid:" + secret.encode()).hexdigest()[:16]


def issue_token(
    subject: str,
    *,
    secret: str,
    lifetime_seconds: float,
    issuer: str = ISSUER,
    audience: str = AUDIENCE,
    kid: str | None = None,
) -> str:
    """A signed token for the user `subject`. `kid` names the key for a `TokenVerifier` whose mapping names its own."""
    now = int(time.time())
    claims = {"sub": subject, "iss": issuer, "aud": audience, "iat": now, "exp": now + int(lifetime_seconds)}
    return jwt.encode(claims, secret, algorithm=ALGORITHM, headers={"kid": kid or key_id(secret)})


class TokenVerifier:
    """Verifies tokens against the shared secrets `keys`, a mapping of `kid` to secret.

    The last key is the newest, which also judges tokens without a `kid`. To rotate: add the new secret at the end, sign
    with it, and remove the old one once the tokens that it signed have expired. Plain secrets get `key_id` as `kid`.

    Only HS256 is allowed, whatever a token's header says, so neither `none` nor a public key used as a secret passes.
    """

    def __init__(
        self,
        keys: str | Iterable[str] | Mapping[str, str],
        *,
        issuer: str = ISSUER,
        audience: str = AUDIENCE,
        leeway_seconds: float = 0,
    ) -> None:
        if isinstance(keys, str):
            keys = [keys]
        self._keys = dict(keys) if isinstance(keys, Mapping) else {key_id(secret): secret for secret in keys}
        if not self._keys:
            raise ValueError("no key: every token would be refused")
        for kid, secret in self._keys.items():
            if len(secret) < MIN_SECRET_CHARACTERS:
                raise ValueError(
                    f"key {kid!r} has {len(secret)} characters, at least {MIN_SECRET_CHARACTERS} are needed"
                )
        self._newest = next(reversed(self._keys.values()))
        self._issuer = issuer
        self._audience = audience
        self._leeway_seconds = leeway_seconds

    def verify(self, token: str) -> Identity:
        """The identity that `token` proves.

        Raises `InvalidToken`: not a token, wrong key or algorithm, expired, for another audience or by another issuer.
        """
        if len(token) > MAX_TOKEN_CHARACTERS:
            raise InvalidToken(f"the token has {len(token)} characters, at most {MAX_TOKEN_CHARACTERS} are allowed")
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            secret = self._newest if kid is None else self._keys.get(kid)
            if secret is None:
                raise InvalidToken("the token is signed with an unknown key")
            claims = jwt.decode(
                token,
                secret,
                algorithms=[ALGORITHM],
                audience=self._audience,
                issuer=self._issuer,
                leeway=self._leeway_seconds,
                options={"require": list(_REQUIRED_CLAIMS), "strict_aud": True},
            )
            user, expires_at = claims["sub"], float(claims["exp"])
        except jwt.ExpiredSignatureError:
            raise InvalidToken("the token has expired", code=ErrorCode.TOKEN_EXPIRED) from None
        except jwt.InvalidAudienceError:
            raise InvalidToken("the token is for another audience") from None
        except jwt.InvalidIssuerError:
            raise InvalidToken("the token is from another issuer") from None
        except jwt.MissingRequiredClaimError as error:
            raise InvalidToken(f"the token has no claim {error.claim!r}") from None
        # The cause is left out: its text may quote the token.
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError):
            raise InvalidToken("the token is not valid") from None
        if not user:
            raise InvalidToken("the token names no user")
        return Identity(user=user, expires_at=expires_at, token=token)


def token_from(connection: HTTPConnection, *, cookie: str | None = ACCESS_TOKEN_COOKIE) -> str | None:
    """The bearer token that came with a handshake or request, unverified; None without one.

    Looked for in this order: `Authorization: Bearer T` (RFC 6750 §2.1), `Sec-WebSocket-Protocol: chat.v1, bearer.T`
    (all that a browser's WebSocket can set), the cookie named `cookie` (None: cookies do not count).
    """
    scheme, token = get_authorization_scheme_param(connection.headers.get("authorization"))
    if scheme.lower() == "bearer" and token:
        return token
    for offered in offered_subprotocols(connection):
        if offered.startswith(BEARER_SUBPROTOCOL_PREFIX) and offered != BEARER_SUBPROTOCOL_PREFIX:
            return offered.removeprefix(BEARER_SUBPROTOCOL_PREFIX)
    return (connection.cookies.get(cookie) or None) if cookie is not None else None


def offered_subprotocols(connection: HTTPConnection) -> list[str]:
    """What the client offers in `Sec-WebSocket-Protocol`; none for a plain request."""
    return list(connection.scope.get("subprotocols") or ())


def negotiate_subprotocol(connection: HTTPConnection) -> str | None:
    """`chat.v1` where the client offers it, else None: a token is never echoed (RFC 6455 §4.2.2)."""
    return SUBPROTOCOL if SUBPROTOCOL in offered_subprotocols(connection) else None


async def refuse(websocket: WebSocket, status: HTTPStatus, detail: str) -> NoReturn:
    """End the handshake with an HTTP status, or an accepted connection with 1008, and do not return.

    What is raised ends an endpoint too. Starlette's exception middleware answers for it; without that middleware
    (a bare ASGI app) the answer is sent here. A server without the denial response extension of ASGI answers 403.
    """
    accepted = websocket.application_state is not WebSocketState.CONNECTING
    deniable = "websocket.http.response" in websocket.scope.get("extensions", {})
    headers = {"WWW-Authenticate": "Bearer"} if status is HTTPStatus.UNAUTHORIZED else None
    if "starlette.exception_handlers" in websocket.scope:
        if accepted or not deniable:
            raise RefusedWebSocket(CloseCode.POLICY_VIOLATION, detail)
        raise HTTPException(status, detail, headers)
    if accepted or not deniable:
        await websocket.close(CloseCode.POLICY_VIOLATION, detail)
    else:
        await websocket.send_denial_response(JSONResponse({"detail": detail}, status, headers))
    raise WebSocketDisconnect(CloseCode.POLICY_VIOLATION, detail)


class WebSocketOAuth2PasswordBearer(OAuth2PasswordBearer):
    """FastAPI's `OAuth2PasswordBearer`, as a dependency of WebSocket routes.

    Called with a WebSocket it returns the token: the value of the *Authorization* header without its scheme word, or
    the same from where `token_from` finds it. Without a token it returns None if `auto_error` is False, else it
    raises what ends the handshake with 401 (an accepted connection with 1008), and the endpoint does not run.
    Whether the token is good is `TokenVerifier`'s to say. Called with a plain request it does what FastAPI's does.

    `cookie=None` for services behind a gateway: without a credential that a browser sends by itself, no page of
    another site can use one, and no Origin check is needed.
    """

    def __init__(
        self,
        token_url: str,
        scheme_name: str | None = None,
        scopes: dict[str, str] | None = None,
        description: str | None = None,
        auto_error: bool = True,
        *,
        cookie: str | None = ACCESS_TOKEN_COOKIE,
    ) -> None:
        super().__init__(token_url, scheme_name, scopes, description, auto_error)
        self.cookie = cookie

    async def __call__(self, websocket: HTTPConnection) -> str | None:
        if not isinstance(websocket, WebSocket):
            return await super().__call__(websocket)
        token = token_from(websocket, cookie=self.cookie)
        if token is None and self.auto_error:
            await refuse(websocket, HTTPStatus.UNAUTHORIZED, "not authenticated")
        return token


class Authenticator:
    """A dependency that gives a WebSocket route its caller's `Identity`, or ends the handshake with 401 or 403.

    `origins=None` leaves the Origin unchecked, for services that take no cookies. `refusals` counts by the label
    `result` whom it turned away: `unauthorized` or `forbidden`.
    """

    def __init__(
        self,
        bearer: WebSocketOAuth2PasswordBearer,
        verifier: TokenVerifier,
        origins: OriginPolicy | None,
        refusals: Counter | None = None,
    ) -> None:
        self._bearer = bearer
        self._verifier = verifier
        self._origins = origins
        self._refusals = refusals

    async def __call__(self, websocket: WebSocket) -> Identity:
        if self._origins is not None and not self._origins.allows_connection(websocket):
            self._count("forbidden")
            await refuse(websocket, HTTPStatus.FORBIDDEN, "this origin may not connect")
        try:
            token = await self._bearer(websocket)
        except Exception:  # whatever a bearer raises to end a handshake
            self._count("unauthorized")
            raise
        try:
            if token is not None:
                return self._verifier.verify(token)
            detail = "not authenticated"
        except InvalidToken as error:
            detail = error.message
        self._count("unauthorized")
        await refuse(websocket, HTTPStatus.UNAUTHORIZED, detail)

    def _count(self, result: str) -> None:
        if self._refusals is not None:
            self._refusals.labels(result).inc()

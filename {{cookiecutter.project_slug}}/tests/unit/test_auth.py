"""`distributed_websocket.auth`: where tokens come from, which of them prove something, and which pages may connect."""

import base64
import hmac
import json
import time
from collections.abc import Callable
from typing import Annotated, Any

import jwt
import pytest
from fastapi import Depends, FastAPI, WebSocket, WebSocketDisconnect
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry, Counter
from starlette.requests import HTTPConnection
from starlette.testclient import WebSocketDenialResponse
from starlette.types import Receive, Scope, Send

from distributed_websocket.auth import (
    Authenticator,
    Identity,
    TokenVerifier,
    WebSocketOAuth2PasswordBearer,
    issue_token,
    key_id,
    negotiate_subprotocol,
    token_from,
)
from distributed_websocket.codes import ErrorCode
from distributed_websocket.exceptions import InvalidToken
from distributed_websocket.origin import OriginPolicy

SECRET = "an-example-secret-of-enough-characters"
OTHER_SECRET = "another-example-secret-of-enough-characters"
PUBLIC_KEY = """-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
"""


def connection(subprotocols: list[str] | None = None, **headers: str) -> HTTPConnection:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return HTTPConnection({"type": "websocket", "headers": raw, "subprotocols": subprotocols or []})


def claims(**changes: object) -> dict[str, object]:
    now = int(time.time())
    return {"sub": "alice", "iss": "chat", "aud": "chat", "iat": now, "exp": now + 60, **changes}


def encode_part(part: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


# Transports


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_token_comes_from_the_authorization_header(scheme: str) -> None:
    assert token_from(connection(authorization=f"{scheme} T")) == "T"


def test_the_token_comes_from_the_subprotocol() -> None:
    assert token_from(connection(["chat.v1", "bearer.a.b.c"])) == "a.b.c"


def test_the_token_comes_from_the_login_cookie() -> None:
    assert token_from(connection(cookie="theme=dark; access_token=T")) == "T"


def test_the_header_outranks_the_subprotocol_and_the_subprotocol_the_cookie() -> None:
    assert token_from(connection(["bearer.S"], authorization="Bearer H", cookie="access_token=C")) == "H"
    assert token_from(connection(["bearer.S"], cookie="access_token=C")) == "S"


def test_the_cookie_does_not_count_where_it_is_switched_off() -> None:
    assert token_from(connection(cookie="access_token=T"), cookie=None) is None


@pytest.mark.parametrize("headers", [{}, {"authorization": "Basic T"}, {"authorization": "Bearer"}, {"cookie": "a=b"}])
def test_without_a_bearer_token_there_is_none(headers: dict[str, str]) -> None:
    assert token_from(connection(["chat.v1", "bearer."], **headers)) is None


def test_the_token_is_never_echoed_as_subprotocol() -> None:
    assert negotiate_subprotocol(connection(["bearer.T", "chat.v1"])) == "chat.v1"
    assert negotiate_subprotocol(connection(["bearer.T"])) is None


# The dependency


def app_with(dependency: Callable[..., Any]) -> tuple[TestClient, list[object]]:
    """A client of an app whose `/ws` depends on `dependency`, and what the endpoint ran with."""
    app = FastAPI()
    ran: list[object] = []

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket, given: Annotated[Any, Depends(dependency)]) -> None:
        ran.append(given)
        await websocket.accept(negotiate_subprotocol(websocket))
        await websocket.close()

    return TestClient(app), ran


def test_the_endpoint_gets_the_token() -> None:
    client, ran = app_with(WebSocketOAuth2PasswordBearer("/api/token"))
    with client.websocket_connect("/ws", headers={"Authorization": "Bearer T"}):
        pass
    assert ran == ["T"]


def test_the_server_answers_the_offered_protocol() -> None:
    client, ran = app_with(WebSocketOAuth2PasswordBearer("/api/token"))
    with client.websocket_connect("/ws", subprotocols=["chat.v1", "bearer.T"]) as websocket:
        assert websocket.accepted_subprotocol == "chat.v1"
    assert ran == ["T"]


def test_a_token_in_the_url_is_no_token_and_the_endpoint_does_not_run() -> None:
    client, ran = app_with(WebSocketOAuth2PasswordBearer("/api/token"))
    with (
        pytest.raises(WebSocketDenialResponse) as refused,
        client.websocket_connect("/ws?token=T&access_token=T&authorization=Bearer%20T"),
    ):
        pass
    assert refused.value.status_code == 401
    assert refused.value.headers["www-authenticate"] == "Bearer"
    assert ran == []


def test_without_auto_error_the_endpoint_runs_with_none() -> None:
    client, ran = app_with(WebSocketOAuth2PasswordBearer("/api/token", auto_error=False))
    with client.websocket_connect("/ws"):
        pass
    assert ran == [None]


def test_a_server_without_denial_responses_gets_a_close_before_accept() -> None:
    client, ran = app_with(WebSocketOAuth2PasswordBearer("/api/token"))
    app = client.app

    async def without_extension(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "extensions": {}}, receive, send)

    with (
        pytest.raises(WebSocketDisconnect) as refused,
        TestClient(without_extension).websocket_connect("/ws"),
    ):
        pass
    assert refused.value.code == 1008
    assert ran == []


@pytest.mark.parametrize("framework", ["fastapi", "bare"])
def test_an_accepted_connection_is_closed_with_1008_and_the_endpoint_does_not_run_on(framework: str) -> None:
    """The original closed the socket and let the endpoint run on with a dead connection and no token."""
    bearer = WebSocketOAuth2PasswordBearer("/api/token")
    ran_on: list[str | None] = []

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        ran_on.append(await bearer(websocket))

    async def bare(scope: Scope, receive: Receive, send: Send) -> None:
        with pytest.raises(WebSocketDisconnect):
            await endpoint(WebSocket(scope, receive, send))

    app = FastAPI()
    app.websocket("/ws")(endpoint)
    client = TestClient(app if framework == "fastapi" else bare)
    with client.websocket_connect("/ws") as websocket, pytest.raises(WebSocketDisconnect) as closed:
        websocket.receive_text()
    assert closed.value.code == 1008
    assert ran_on == []


def test_a_bare_app_answers_401_as_well() -> None:
    async def bare(scope: Scope, receive: Receive, send: Send) -> None:
        with pytest.raises(WebSocketDisconnect):
            await WebSocketOAuth2PasswordBearer("/api/token")(WebSocket(scope, receive, send))

    with pytest.raises(WebSocketDenialResponse) as refused, TestClient(bare).websocket_connect("/ws"):
        pass
    assert refused.value.status_code == 401


def test_a_plain_request_is_judged_by_its_header_alone() -> None:
    """A cookie on a plain request would open every POST of an app to pages of other sites."""
    app = FastAPI()

    @app.get("/me")
    async def me(token: Annotated[str, Depends(WebSocketOAuth2PasswordBearer("/api/token"))]) -> str:
        return token

    client = TestClient(app)
    assert client.get("/me", headers={"Authorization": "Bearer T"}).json() == "T"
    assert client.get("/me", headers={"Cookie": "access_token=T"}).status_code == 401


# Verification


def test_an_issued_token_proves_its_user() -> None:
    token = issue_token("alice", secret=SECRET, lifetime_seconds=60)
    identity = TokenVerifier(SECRET).verify(token)
    assert identity.user == "alice"
    assert identity.token == token
    assert 0 < identity.expires_at - time.time() <= 60
    assert token not in repr(identity)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"exp": 1}, "expired"),
        ({"aud": "shop"}, "another audience"),
        ({"aud": ["chat", "shop"]}, "another audience"),
        ({"iss": "elsewhere"}, "another issuer"),
        ({"sub": ""}, "names no user"),
        ({"sub": 7}, "not valid"),
        ({"exp": "soon"}, "not valid"),
        ({"exp": None}, "no claim 'exp'"),
        ({"aud": None}, "no claim 'aud'"),
        ({"iss": None}, "no claim 'iss'"),
        ({"sub": None}, "no claim 'sub'"),
    ],
)
def test_a_token_with_a_bad_claim_is_refused(change: dict[str, object], reason: str) -> None:
    changed = {name: value for name, value in claims(**change).items() if value is not None}
    with pytest.raises(InvalidToken, match=reason):
        TokenVerifier(SECRET).verify(jwt.encode(changed, SECRET, "HS256"))


def test_an_expired_token_has_a_code_of_its_own() -> None:
    with pytest.raises(InvalidToken) as refused:
        TokenVerifier(SECRET).verify(issue_token("alice", secret=SECRET, lifetime_seconds=-1))
    assert refused.value.code is ErrorCode.TOKEN_EXPIRED


def test_another_secret_is_refused() -> None:
    token = issue_token("alice", secret=OTHER_SECRET, lifetime_seconds=60, kid=key_id(SECRET))
    with pytest.raises(InvalidToken, match="not valid"):
        TokenVerifier(SECRET).verify(token)


def test_an_unsigned_token_is_refused() -> None:
    token = f"{encode_part({'alg': 'none', 'typ': 'JWT'})}.{encode_part(claims())}."
    with pytest.raises(InvalidToken):
        TokenVerifier(SECRET).verify(token)


def test_another_algorithm_of_the_same_family_is_refused() -> None:
    with pytest.raises(InvalidToken):
        TokenVerifier(SECRET).verify(jwt.encode(claims(), SECRET * 2, "HS512"))


def test_a_token_that_claims_a_public_key_algorithm_is_refused() -> None:
    """RS/HS confusion: what is signed with a published key must never pass."""
    for algorithm in ("RS256", "HS256"):
        signed = f"{encode_part({'alg': algorithm, 'typ': 'JWT'})}.{encode_part(claims())}"
        mac = hmac.digest(PUBLIC_KEY.encode(), signed.encode(), "sha256")
        forged = f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
        with pytest.raises(InvalidToken):
            TokenVerifier({"public": PUBLIC_KEY}).verify(forged)


def test_both_keys_are_accepted_while_they_rotate_and_the_old_one_no_longer_afterwards() -> None:
    old = issue_token("alice", secret=OTHER_SECRET, lifetime_seconds=60)
    new = issue_token("alice", secret=SECRET, lifetime_seconds=60)
    rotating = TokenVerifier([OTHER_SECRET, SECRET])
    assert rotating.verify(old).user == rotating.verify(new).user == "alice"
    with pytest.raises(InvalidToken, match="unknown key"):
        TokenVerifier(SECRET).verify(old)


def test_keys_can_be_named_by_hand() -> None:
    token = issue_token("alice", secret=SECRET, lifetime_seconds=60, kid="2026-11")
    assert TokenVerifier({"2026-10": OTHER_SECRET, "2026-11": SECRET}).verify(token).user == "alice"


def test_the_newest_key_judges_tokens_without_a_kid() -> None:
    verifier = TokenVerifier([OTHER_SECRET, SECRET])
    assert verifier.verify(jwt.encode(claims(), SECRET, "HS256")).user == "alice"
    with pytest.raises(InvalidToken):
        verifier.verify(jwt.encode(claims(), OTHER_SECRET, "HS256"))


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "a.b.c",
        "\x00",
        "é.ü.ß",
        "\ud800",
        f"{encode_part([])}.e30.",
        f"{encode_part({'alg': 'HS256', 'kid': ['x']})}.e30.",
        f"{base64.urlsafe_b64encode(b'[' * 3000).decode()}.e30.",
        "a" * 100_000,
    ],
    ids=lambda token: ascii(token[:12]),
)
def test_garbage_is_refused_and_not_quoted(token: str) -> None:
    with pytest.raises(InvalidToken) as refused:
        TokenVerifier(SECRET).verify(token)
    assert len(token) < 3 or token not in str(refused.value)


@pytest.mark.parametrize("keys", ["short", [], {}, {"a": "short"}])
def test_a_verifier_needs_keys_of_enough_characters(keys: Any) -> None:
    with pytest.raises(ValueError, match="key"):
        TokenVerifier(keys)


# Origins


def authenticated() -> tuple[TestClient, list[object], dict[str, str]]:
    bearer = WebSocketOAuth2PasswordBearer("/api/token")
    client, ran = app_with(Authenticator(bearer, TokenVerifier(SECRET), OriginPolicy()))
    return client, ran, {"Cookie": f"access_token={issue_token('alice', secret=SECRET, lifetime_seconds=60)}"}


def test_a_page_of_the_same_site_connects_with_its_cookie() -> None:
    client, ran, headers = authenticated()
    with client.websocket_connect("/ws", headers={**headers, "Origin": "http://testserver"}):
        pass
    assert [identity.user for identity in ran if isinstance(identity, Identity)] == ["alice"]


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://testserver.evil.example"])
def test_a_cross_site_page_is_refused_although_the_browser_sends_the_cookie(origin: str) -> None:
    client, ran, headers = authenticated()
    with (
        pytest.raises(WebSocketDenialResponse) as refused,
        client.websocket_connect("/ws", headers={**headers, "Origin": origin}),
    ):
        pass
    assert refused.value.status_code == 403
    assert ran == []


def test_a_token_that_does_not_verify_ends_the_handshake_with_its_reason() -> None:
    client, ran, _ = authenticated()
    expired = issue_token("alice", secret=SECRET, lifetime_seconds=-1)
    with (
        pytest.raises(WebSocketDenialResponse) as refused,
        client.websocket_connect("/ws", headers={"Authorization": f"Bearer {expired}"}),
    ):
        pass
    assert refused.value.status_code == 401
    assert refused.value.json() == {"detail": "the token has expired"}
    assert ran == []


@pytest.mark.parametrize(
    ("headers", "status", "result"),
    [
        ({"Origin": "http://evil.example"}, 403, "forbidden"),
        ({}, 401, "unauthorized"),
        ({"Authorization": "Bearer forged"}, 401, "unauthorized"),
    ],
    ids=["another site", "no token", "a forged token"],
)
@pytest.mark.parametrize("auto_error", [True, False])
def test_whoever_is_turned_away_is_counted(headers: dict[str, str], status: int, result: str, auto_error: bool) -> None:
    """Also where the bearer leaves it to the `Authenticator` to refuse who has no token."""
    refusals = Counter("refusals", "Handshakes refused", ["result"], registry=CollectorRegistry())
    bearer = WebSocketOAuth2PasswordBearer("/api/token", auto_error=auto_error)
    client, ran = app_with(Authenticator(bearer, TokenVerifier(SECRET), OriginPolicy(), refusals))
    with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect("/ws", headers=headers):
        pass
    assert refused.value.status_code == status
    assert ran == []
    counted = {sample.labels["result"]: sample.value for metric in refusals.collect() for sample in metric.samples
               if sample.name == "refusals_total"}  # fmt: skip
    assert counted == {result: 1.0}

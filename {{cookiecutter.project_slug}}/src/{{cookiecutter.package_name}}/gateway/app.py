"""The gateway's app: authenticates WebSockets and passes them to the workers, and puts the other routes together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Annotated

from fastapi import Depends, FastAPI, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from redis.exceptions import RedisError

from distributed_websocket import WebSocketOAuth2PasswordBearer, WebSocketProxy
from distributed_websocket.asyncapi import add_asyncapi
from distributed_websocket.auth import Authenticator, Identity, TokenVerifier
from distributed_websocket.metrics import PROXIED
from distributed_websocket.origin import OriginPolicy

from ..metrics import WORKER_PREFIX, metrics_route
from ..settings import GatewaySettings
from .accounts import account_routes
from .metrics import STORE_FAILURES
from .page import page_routes
from .passwords import Passwords
from .protection import BodyLimit, SecurityHeaders
from .publish import MAX_BODY_BYTES as MAX_PUBLISH_BYTES
from .publish import PATH as PUBLISH_PATH
from .publish import open_outlet, publish_routes
from .rooms import RoomStore, room_routes
from .session import SignedIn, session_routes
from .users import UserStore

_STICKY_COOKIE = "chat_worker"  # as in deploy/traefik/dynamic.yaml


def create_app(settings: GatewaySettings) -> FastAPI:
    users = UserStore(settings.redis_url)
    rooms = RoomStore(settings.redis_url)
    outlet = open_outlet(settings)
    passwords = Passwords(settings.password_threads, settings.max_waiting_passwords)
    origins = OriginPolicy(settings.allowed_origins)
    bearer = WebSocketOAuth2PasswordBearer("/api/token")
    verifier = TokenVerifier(settings.token_secrets)
    authenticate = Authenticator(bearer, verifier, origins, refusals=PROXIED)
    signed_in = SignedIn(verifier)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await users.close()
        await rooms.close()
        if outlet is not None:
            await outlet.close()
        passwords.close()

    # No /docs: that page needs scripts of other sites, which the security headers forbid.
    app = FastAPI(title="Chat", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url="/api/openapi.json")
    app.add_middleware(BodyLimit, larger={PUBLISH_PATH: MAX_PUBLISH_BYTES})
    app.add_middleware(SecurityHeaders)
    app.include_router(account_routes(settings, users, passwords, origins))
    app.include_router(session_routes(signed_in))
    app.include_router(room_routes(rooms, signed_in, origins))
    app.include_router(publish_routes(settings, outlet))
    app.include_router(page_routes())
    app.include_router(metrics_route(without=WORKER_PREFIX))
    add_asyncapi(app, bearer=bearer)

    @app.websocket("/ws")
    async def websocket_proxy(websocket: WebSocket, identity: Annotated[Identity, Depends(authenticate)]) -> None:
        await WebSocketProxy(
            websocket,
            settings.workers_url,
            headers={"Authorization": f"Bearer {identity.token}"},
            sticky_cookie=_STICKY_COOKIE,
            connect_timeout_seconds=settings.connect_timeout_seconds,
            max_message_bytes=settings.max_delivery_bytes,
        )()

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz")
    async def readyz(response: Response) -> dict[str, str | bool | None]:
        """200 once Redis has answered. A Redis lost later stops logins, not those who hold a token: still ready."""
        reason = None if await users.reached() else "the user store has not answered yet"
        if reason is not None:
            response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
        return {"ready": reason is None, "reason": reason}

    @app.exception_handler(RedisError)
    async def user_store_failed(request: Request, error: RedisError) -> JSONResponse:
        STORE_FAILURES.inc()
        return JSONResponse(
            {"detail": "accounts and rooms are not available, try again"},
            HTTPStatus.SERVICE_UNAVAILABLE,
            {"Retry-After": "1"},
        )

    @app.exception_handler(RequestValidationError)
    async def invalid_request(request: Request, error: RequestValidationError) -> JSONResponse:
        """FastAPI's own answer quotes the input, and with it passwords."""
        faults = [{"loc": fault["loc"], "msg": fault["msg"]} for fault in error.errors()]
        return JSONResponse({"detail": faults}, HTTPStatus.UNPROCESSABLE_ENTITY)

    return app

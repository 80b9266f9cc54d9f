"""The chat worker's app: one WebSocket endpoint, and what the balancer asks."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Annotated
from uuid import uuid4

from fastapi import Depends, FastAPI, Response, WebSocket

from distributed_websocket import Limits, WebSocketManager, WebSocketOAuth2PasswordBearer
from distributed_websocket.auth import Authenticator, Identity, TokenVerifier, negotiate_subprotocol, refuse
from distributed_websocket.metrics import HANDSHAKES, WORKER

from ..log import CHANNEL, open_log
from ..metrics import GATEWAY_PREFIX, metrics_route
from ..settings import ChatSettings
from .policy import ChatPolicy


def create_app(settings: ChatSettings) -> FastAPI:
    verifier = TokenVerifier(settings.token_secrets)
    manager = WebSocketManager(
        CHANNEL,
        broker=open_log(settings),
        worker=settings.worker_name,
        policy=ChatPolicy(),
        limits=Limits(message_bytes=settings.max_message_bytes, unsent_bytes=settings.max_unsent_bytes),
        verify=verifier.verify,
    )
    # The gateway has verified the token already, but nothing here trusts the network. A worker takes no cookie, so
    # there is nothing that a page of another site could use, and no Origin to check.
    bearer = WebSocketOAuth2PasswordBearer("/api/token", cookie=None)
    authenticate = Authenticator(bearer, verifier, origins=None, refusals=HANDSHAKES)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with manager:
            yield

    app = FastAPI(title="Chat worker", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.manager = manager
    WORKER.info({"worker": settings.worker_name})
    app.include_router(metrics_route(without=GATEWAY_PREFIX))

    @app.websocket("/ws")
    async def chat(websocket: WebSocket, identity: Annotated[Identity, Depends(authenticate)]) -> None:
        if manager.not_ready_reason is not None:
            HANDSHAKES.labels("draining" if manager.draining else "not_ready").inc()
            await refuse(websocket, HTTPStatus.SERVICE_UNAVAILABLE, "this worker is not ready")
        connection = await manager.new_connection(
            websocket,
            uuid4().hex,
            user=identity.user,
            expires_at=identity.expires_at,
            subprotocol=negotiate_subprotocol(websocket),
        )
        await manager.serve(connection)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz")
    async def readyz(response: Response) -> dict[str, str | bool | None]:
        """200 only while the log is heard: new connections belong on a worker that hears the others."""
        reason = manager.not_ready_reason
        if reason is not None:
            response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
        return {"ready": reason is None, "worker": settings.worker_name, "reason": reason}

    return app

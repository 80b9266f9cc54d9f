"""Who asks, and from which page."""

import time
from http import HTTPStatus

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, Field

from distributed_websocket.auth import Identity, TokenVerifier, token_from
from distributed_websocket.exceptions import InvalidToken
from distributed_websocket.origin import OriginPolicy


class SignedIn:
    """A dependency that gives a route its caller's `Identity`, by header or cookie, or answers 401."""

    def __init__(self, verifier: TokenVerifier) -> None:
        self._verifier = verifier

    async def __call__(self, request: Request) -> Identity:
        token = token_from(request)
        try:
            if token is None:
                raise InvalidToken("not authenticated")
            return self._verifier.verify(token)
        except InvalidToken as error:
            headers = {"WWW-Authenticate": "Bearer"}
            raise HTTPException(HTTPStatus.UNAUTHORIZED, error.message, headers) from None


class OwnPage:
    """A dependency for what has an effect: a page of another site, which gets 403, could act for who is signed in."""

    def __init__(self, origins: OriginPolicy) -> None:
        self._origins = origins

    async def __call__(self, request: Request) -> None:
        if not self._origins.allows_connection(request):
            raise HTTPException(HTTPStatus.FORBIDDEN, "this origin may not connect")


class Session(BaseModel):
    username: str | None
    expires_in: float | None = Field(description="seconds")


def session_routes(signed_in: SignedIn) -> APIRouter:
    routes = APIRouter(prefix="/api")

    @routes.get("/session")
    async def session(request: Request) -> Session:
        """For the page: no script can look into the cookie, nor see why a handshake failed. Nulls for nobody."""
        try:
            identity = await signed_in(request)
        except HTTPException:
            return Session(username=None, expires_in=None)
        return Session(username=identity.user, expires_in=identity.expires_at - time.time())

    return routes

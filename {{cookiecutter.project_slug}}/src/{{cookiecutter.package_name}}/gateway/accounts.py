"""Sign-up, login and logout."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.security import OAuth2PasswordRequestForm
from pydantic import BaseModel, Field, SecretStr

from distributed_websocket.auth import ACCESS_TOKEN_COOKIE, issue_token
from distributed_websocket.origin import OriginPolicy

from ..settings import GatewaySettings
from .metrics import LOGINS, SIGN_UPS
from .passwords import MAX_PASSWORD_CHARACTERS, MIN_PASSWORD_CHARACTERS, Passwords, PasswordsBusy
from .session import OwnPage
from .users import User, UserStore

# ASCII, so that no name looks like another one's; no colon or slash, so that it can stand in keys and topics.
USERNAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$"


class SignUp(BaseModel):
    """A new account. `username`: 1 to 32 letters, digits, `.`, `_`, `-`; its case is kept but does not distinguish."""

    username: str = Field(pattern=USERNAME_PATTERN)
    password: SecretStr = Field(min_length=MIN_PASSWORD_CHARACTERS, max_length=MAX_PASSWORD_CHARACTERS)


class Account(BaseModel):
    username: str


class Token(BaseModel):
    """RFC 6749 §5.1."""

    access_token: str
    token_type: str = "bearer"
    expires_in: int = Field(description="seconds")


def account_routes(
    settings: GatewaySettings, users: UserStore, passwords: Passwords, origins: OriginPolicy
) -> APIRouter:
    routes = APIRouter(prefix="/api", dependencies=[Depends(OwnPage(origins))])

    @routes.post("/users", status_code=HTTPStatus.CREATED)
    async def sign_up(new: SignUp) -> Account:
        taken = HTTPException(HTTPStatus.CONFLICT, "this name is taken")
        if await users.find(new.username) is not None:
            SIGN_UPS.labels("taken").inc()
            raise taken
        try:
            password_hash = await passwords.hash(new.password.get_secret_value())
        except PasswordsBusy:
            SIGN_UPS.labels("busy").inc()
            raise _busy() from None
        if not await users.create(User(new.username, password_hash)):
            SIGN_UPS.labels("taken").inc()
            raise taken
        SIGN_UPS.labels("created").inc()
        return Account(username=new.username)

    @routes.post("/token")
    async def login(
        form: Annotated[OAuth2PasswordRequestForm, Depends()], request: Request, response: Response
    ) -> Token:
        user = await users.find(form.username)
        try:
            # Asked for unknown users too, so that the time of the answer does not tell who has an account.
            verified = await passwords.verify(form.password, user.password_hash if user is not None else None)
        except PasswordsBusy:
            LOGINS.labels("busy").inc()
            raise _busy() from None
        if user is None or not verified:
            LOGINS.labels("wrong").inc()
            headers = {"WWW-Authenticate": "Bearer"}
            raise HTTPException(HTTPStatus.UNAUTHORIZED, "wrong user name or password", headers)
        LOGINS.labels("ok").inc()
        lifetime_seconds = settings.token_lifetime_seconds
        secret = settings.token_secret.get_secret_value()
        token = issue_token(user.name, secret=secret, lifetime_seconds=lifetime_seconds)
        secure = request.scope["scheme"] == "https"
        response.set_cookie(
            ACCESS_TOKEN_COOKIE, token, max_age=lifetime_seconds, httponly=True, samesite="lax", secure=secure
        )
        return Token(access_token=token, expires_in=lifetime_seconds)

    @routes.delete("/token", status_code=HTTPStatus.NO_CONTENT)
    async def logout(response: Response) -> None:
        """Takes the cookie from the browser, which no script can; the token itself stays good until it expires."""
        response.delete_cookie(ACCESS_TOKEN_COOKIE, httponly=True, samesite="lax")

    return routes


def _busy() -> HTTPException:
    return HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, "too many logins at once, try again", {"Retry-After": "1"})

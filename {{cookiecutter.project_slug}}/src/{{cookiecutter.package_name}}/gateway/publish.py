"""`POST /api/publish`: other services put messages into topics, without a WebSocket and without an account.

They show the service token (`CHAT_SERVICE_TOKEN`); without one set there is no such route. A message that was stored
has an `id`, and every subscriber gets it, on every worker. It has no `from`: that names users.
"""

import asyncio
import hmac
import secrets
from collections.abc import Callable, Coroutine, Sequence
from hashlib import blake2b
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, HTTPException, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from pydantic import BaseModel, Field, JsonValue, SecretStr, field_validator

from distributed_websocket import BrokerInterface, ErrorCode, LogBroker, Message, WebSocketException
from distributed_websocket.brokers.interface import Record
from distributed_websocket.message import stamped
from distributed_websocket.publishing import Publisher
from distributed_websocket.topics import validate_topic

from ..log import CHANNEL, open_log
from ..settings import MEMORY, GatewaySettings
from .metrics import PUBLISHED

PATH = "/api/publish"
MAX_MESSAGES = 100
MAX_BODY_BYTES = 2**20
MAX_KEY_CHARACTERS = 128
STOP_SECONDS = 2.0


class NewMessage(BaseModel):
    """`key`: the same key on the same topic is stored once, and gets the same `id`, for `CHAT_IDEMPOTENCY_SECONDS`."""

    topic: str
    data: JsonValue = None
    key: str | None = Field(None, min_length=1, max_length=MAX_KEY_CHARACTERS)

    @field_validator("topic")
    @classmethod
    def _is_topic(cls, topic: str) -> str:
        try:
            validate_topic(topic)
        except WebSocketException as error:
            raise ValueError(error.message) from None
        if topic.startswith("$"):
            raise ValueError("topics that begin with $ belong to the server")
        return topic


class Batch(BaseModel):
    messages: list[NewMessage] = Field(min_length=1, max_length=MAX_MESSAGES)


class Result(BaseModel):
    """`id`: its position, null where the broker keeps none. `error`: why it is not known to be stored."""

    id: str | None = None
    error: ErrorCode | None = None


class Results(BaseModel):
    """One for each message, in their order."""

    results: list[Result]


class Outlet:
    """Where records go: the log, or the channel of a broker that keeps none."""

    def __init__(self, broker: BrokerInterface) -> None:
        self._broker = broker
        self._publisher = Publisher(broker, CHANNEL, lambda _: None) if isinstance(broker, LogBroker) else None

    async def publish(self, records: Sequence[Record]) -> list[Result]:
        """One result for each record, in their order.

        A log takes all of them on their way or none: were a later one stored without an earlier one of its topic,
        sending both again would store the earlier one behind it.
        """
        if self._publisher is None:
            return [await self._pass_on(record) for record in records]
        if not self._publisher.has_room(sum(len(record.body) for record in records)):
            return [Result(error=ErrorCode.OVERLOADED) for _ in records]
        publishing = [self._publisher.publish(record) for record in records]
        return [_result(end) for end in await asyncio.gather(*publishing, return_exceptions=True)]

    async def _pass_on(self, record: Record) -> Result:
        try:
            await self._broker.publish(CHANNEL, record.body.decode())
        except WebSocketException as error:
            return _result(error)
        return Result()

    async def close(self) -> None:
        if self._publisher is not None:
            await self._publisher.close(STOP_SECONDS)
        await self._broker.disconnect()


def _result(end: str | BaseException) -> Result:
    if isinstance(end, str):
        return Result(id=end)
    if isinstance(end, WebSocketException):
        return Result(error=end.code)
    raise end


def open_outlet(settings: GatewaySettings) -> Outlet | None:
    """None where the workers keep their log in memory: what is published here would reach nobody."""
    return None if settings.broker_url == MEMORY else Outlet(open_log(settings))


def publish_routes(settings: GatewaySettings, outlet: Outlet | None) -> APIRouter:
    """No routes where no service token is set."""
    if settings.service_token is None:
        return APIRouter()
    bearer = HTTPBearer(auto_error=False, description="CHAT_SERVICE_TOKEN")
    # As a dependency the bearer refuses nobody: it is there for the OpenAPI document.
    routes = APIRouter(route_class=_route_with(settings.service_token, bearer), dependencies=[Depends(bearer)])

    @routes.post(PATH, responses={HTTPStatus.SERVICE_UNAVAILABLE: {"model": Results}})
    async def publish(
        batch: Batch,
        response: Response,
        idempotency_key: Annotated[str | None, Header(min_length=1, max_length=MAX_KEY_CHARACTERS)] = None,
    ) -> Results:
        """Store up to 100 messages. 200: all are stored. 503: some may not be; the same request, with keys, may follow.

        The header `Idempotency-Key` gives a key to every message that has none.
        """
        if outlet is None:
            raise HTTPException(
                HTTPStatus.SERVICE_UNAVAILABLE, "this gateway shares no log with the workers: CHAT_BROKER_URL"
            )
        try:
            records = [_record(number, new, idempotency_key) for number, new in enumerate(batch.messages)]
        except WebSocketException as error:
            raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, error.message) from None
        for number, record in enumerate(records):
            if len(record.body) > settings.max_message_bytes:
                raise HTTPException(
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                    f"message {number} is longer than {settings.max_message_bytes} bytes",
                )
        results = await outlet.publish(records)
        failed = sum(result.error is not None for result in results)
        PUBLISHED.labels("stored").inc(len(results) - failed)
        PUBLISHED.labels("failed").inc(failed)
        if failed:
            response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
            response.headers["Retry-After"] = "1"
        return Results(results=results)

    return routes


def _route_with(token: SecretStr, bearer: HTTPBearer) -> type[APIRoute]:
    """A route that answers 401 without the token, before it reads anything.

    FastAPI asks dependencies when it has read and parsed the body: 30 ms of everybody's time for a MiB of nobody's.
    """
    expected = token.get_secret_value().encode()

    class TokenFirst(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def judge_and_handle(request: Request) -> Response:
                credentials = await bearer(request)
                given = credentials.credentials.encode() if credentials is not None else b""
                if not hmac.compare_digest(given, expected):
                    raise HTTPException(
                        HTTPStatus.UNAUTHORIZED, "the service token is missing or wrong", {"WWW-Authenticate": "Bearer"}
                    )
                return await handle(request)

            return judge_and_handle

    return TokenFirst


def _record(number: int, new: NewMessage, header_key: str | None) -> Record:
    if new.key is not None:
        key = f"key\n{new.key}"
    elif header_key is not None:
        key = f"header\n{number}\n{header_key}"
    else:  # so that it can be tried again here, while Redis does not answer
        key = secrets.token_hex(12)
    body = stamped(Message(topic=new.topic, data={"data": new.data}).body())
    name = f"service\n{new.topic}\n{key}".encode("utf-8", "surrogatepass")  # JSON may hold half a character
    return Record(new.topic, body, (), blake2b(name, digest_size=12).hexdigest())

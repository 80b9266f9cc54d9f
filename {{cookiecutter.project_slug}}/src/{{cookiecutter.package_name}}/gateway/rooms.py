"""The list of rooms: a sorted set in Redis, so that names are found by their beginning however many there are.

A room that is not in the list exists too: a room is a topic, and the list is how people find it.
"""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Query, Response
from pydantic import BaseModel, Field
from redis.asyncio import Redis

from distributed_websocket.auth import Identity
from distributed_websocket.origin import OriginPolicy

from ..rooms import ROOM_NAME_PATTERN
from .session import OwnPage, SignedIn
from .users import ANSWER_SECONDS

MAX_ROOMS = 10_000
MAX_ROOMS_OF_USER = 100
PAGE = 100
_KEY = "chat:rooms"
_ADDED = "chat:rooms:added"
"""A hash: user to the number of rooms that this user has added."""

_AFTER_ALL_NAMES = "\xff"


class RoomStore:
    """All methods raise `RedisError` where Redis does not answer."""

    def __init__(self, redis_url: str) -> None:
        self._redis = Redis.from_url(
            redis_url, decode_responses=True, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=ANSWER_SECONDS
        )

    async def find(self, beginning: str, limit: int) -> list[str]:
        """Up to `limit` names that begin so, in the order of the alphabet."""
        found = await self._redis.zrangebylex(_KEY, f"[{beginning}", f"({beginning}{_AFTER_ALL_NAMES}", 0, limit)
        return [str(name) for name in found]

    async def count(self) -> int:
        return int(await self._redis.zcard(_KEY))

    async def has(self, name: str) -> bool:
        return name in await self.find(name, 1)

    async def count_of(self, user: str) -> int:
        """How many this user has added."""
        return int(await self._redis.hget(_ADDED, user) or 0)

    async def add(self, name: str, user: str) -> bool:
        """False if it is there already."""
        if not await self._redis.zadd(_KEY, {name: 0}):
            return False
        await self._redis.hincrby(_ADDED, user, 1)
        return True

    async def close(self) -> None:
        await self._redis.aclose()


class Room(BaseModel):
    name: str = Field(pattern=ROOM_NAME_PATTERN, description="1 to 40 small letters, digits, `-`")


class Rooms(BaseModel):
    """At most 100 names; `more` says whether others begin the same."""

    rooms: list[str]
    more: bool


def room_routes(rooms: RoomStore, signed_in: SignedIn, origins: OriginPolicy) -> APIRouter:
    routes = APIRouter(prefix="/api", dependencies=[Depends(OwnPage(origins))])

    @routes.get("/rooms")
    async def find_rooms(
        _: Annotated[Identity, Depends(signed_in)],
        beginning: Annotated[str, Query(pattern="^[a-z0-9-]{0,40}$")] = "",
    ) -> Rooms:
        found = await rooms.find(beginning, PAGE + 1)
        return Rooms(rooms=found[:PAGE], more=len(found) > PAGE)

    @routes.post("/rooms", status_code=HTTPStatus.CREATED)
    async def add_room(identity: Annotated[Identity, Depends(signed_in)], room: Room, response: Response) -> Room:
        """201 for a new one, 200 for one that was there, 409 where there are too many."""
        if not await rooms.has(room.name):
            if await rooms.count() >= MAX_ROOMS:
                raise HTTPException(HTTPStatus.CONFLICT, f"there are {MAX_ROOMS} rooms already; go into one of them")
            if await rooms.count_of(identity.user) >= MAX_ROOMS_OF_USER:
                raise HTTPException(HTTPStatus.CONFLICT, f"you have added {MAX_ROOMS_OF_USER} rooms; that is the most")
        if not await rooms.add(room.name, identity.user):
            response.status_code = HTTPStatus.OK
        return room

    return routes

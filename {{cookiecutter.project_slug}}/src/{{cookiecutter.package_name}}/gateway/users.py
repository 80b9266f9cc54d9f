"""The users, one Redis hash each."""

import time
from dataclasses import dataclass, field

from redis.asyncio import Redis
from redis.exceptions import RedisError

ANSWER_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class User:
    name: str
    password_hash: str = field(repr=False)


class UserStore:
    """Finds and creates users. All methods but `reached` raise `RedisError` where Redis does not answer."""

    def __init__(self, redis_url: str) -> None:
        self._redis = Redis.from_url(
            redis_url, decode_responses=True, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=ANSWER_SECONDS
        )
        self._reached = False

    async def reached(self) -> bool:
        """Whether Redis has ever answered."""
        if not self._reached:
            try:
                self._reached = bool(await self._redis.ping())
            except RedisError:
                return False
        return self._reached

    async def find(self, name: str) -> User | None:
        key = _key(name)
        if key is None:
            return None
        fields = await self._redis.hgetall(key)
        if "password_hash" not in fields:
            return None
        return User(str(fields.get("name", name)), str(fields["password_hash"]))

    async def create(self, user: User) -> bool:
        """False if the name is taken, whatever its case. Of several at once, one wins."""
        key = _key(user.name)
        if key is None or not await self._redis.hsetnx(key, "password_hash", user.password_hash):
            return False
        await self._redis.hset(key, mapping={"name": user.name, "created_at": int(time.time())})
        return True

    async def close(self) -> None:
        await self._redis.aclose()


def _key(name: str) -> str | None:
    """None for what cannot be a name: it comes from outside, and a key of any length would be looked up."""
    return f"chat:user:{name.lower()}" if name.isascii() and 0 < len(name) <= 32 else None

"""`websockets.broadcast`, as its guide to broadcasting ends up, with Redis pub/sub between processes."""

import os
from collections import defaultdict

import uvloop
from redis.asyncio import Redis
from websockets.asyncio.server import ServerConnection, broadcast, serve

rooms: defaultdict[str, set[ServerConnection]] = defaultdict(set)
redis = Redis.from_url(os.environ["REDIS_URL"], decode_responses=True)


async def handler(connection: ServerConnection) -> None:
    room = connection.request.path.removeprefix("/ws/")
    rooms[room].add(connection)
    try:
        async for message in connection:
            await redis.publish(f"room:{room}", message)
    finally:
        rooms[room].remove(connection)


async def listen() -> None:
    async with redis.pubsub() as pubsub:
        await pubsub.psubscribe("room:*")
        async for event in pubsub.listen():
            if event["type"] == "pmessage":
                broadcast(rooms[event["channel"].removeprefix("room:")], event["data"])


async def main() -> None:
    async with serve(handler, "127.0.0.1", int(os.environ["PORT"])):
        await listen()


uvloop.run(main())

"""What most FastAPI projects do: the manager of FastAPI's guide to WebSockets, and Redis pub/sub between workers."""

import asyncio
import os
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from redis.asyncio import Redis


class ConnectionManager:
    def __init__(self) -> None:
        self.rooms: defaultdict[str, list[WebSocket]] = defaultdict(list)

    async def connect(self, room: str, websocket: WebSocket) -> None:
        await websocket.accept()
        self.rooms[room].append(websocket)

    def disconnect(self, room: str, websocket: WebSocket) -> None:
        self.rooms[room].remove(websocket)

    async def broadcast(self, room: str, message: str) -> None:
        for connection in self.rooms[room]:
            await connection.send_text(message)


manager = ConnectionManager()
redis = Redis.from_url(os.environ["REDIS_URL"], decode_responses=True)


async def listen() -> None:
    async with redis.pubsub() as pubsub:
        await pubsub.psubscribe("room:*")
        async for event in pubsub.listen():
            if event["type"] == "pmessage":
                await manager.broadcast(event["channel"].removeprefix("room:"), event["data"])


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    listener = asyncio.create_task(listen())
    yield
    listener.cancel()
    await redis.aclose()


app = FastAPI(lifespan=lifespan)


@app.websocket("/ws/{room}")
async def endpoint(websocket: WebSocket, room: str) -> None:
    await manager.connect(room, websocket)
    try:
        while True:
            await redis.publish(f"room:{room}", await websocket.receive_text())
    except WebSocketDisconnect:
        manager.disconnect(room, websocket)

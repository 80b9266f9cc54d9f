"""fastapi-distributed-websocket 0.2.0, as its README shows it."""

import itertools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from distributed_websocket import Connection, WebSocketManager
from fastapi import FastAPI, WebSocket

manager = WebSocketManager("channel:1", broker_url=os.environ["REDIS_URL"])
numbers = itertools.count()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    await manager.startup()
    yield
    await manager.shutdown()


app = FastAPI(lifespan=lifespan)


@app.websocket("/ws")
async def websocket_endpoint(ws: WebSocket) -> None:
    connection: Connection = await manager.new_connection(ws, str(next(numbers)))
    async for msg in connection.iter_json():
        await manager.receive(connection, msg)
    manager.remove_connection(connection)

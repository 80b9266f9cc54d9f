"""This template's worker: the library as its README shows it."""

import gc
import itertools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from distributed_websocket import Limits, WebSocketManager
from fastapi import FastAPI, WebSocket

# Ten publishers stand for hundreds of people: what one connection may send is no question here.
manager = WebSocketManager("chat", broker_url=os.environ["REDIS_URL"], limits=Limits(messages_per_second=None))
numbers = itertools.count()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # As the generated project's serve.py does before it serves.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 50, 1_000)
    await manager.startup()
    yield
    await manager.shutdown()


app = FastAPI(lifespan=lifespan)


@app.websocket("/ws")
async def endpoint(websocket: WebSocket) -> None:
    await manager.serve(await manager.new_connection(websocket, str(next(numbers))))

"""python-socketio as its guide has it: rooms, and `AsyncRedisManager` between the workers."""

import os
from typing import Any

import socketio

sio = socketio.AsyncServer(async_mode="asgi", client_manager=socketio.AsyncRedisManager(os.environ["REDIS_URL"]))
app = socketio.ASGIApp(sio)


@sio.event
async def join(sid: str, room: str) -> None:
    await sio.enter_room(sid, room)


@sio.event
async def message(sid: str, data: dict[str, Any]) -> None:
    await sio.emit("message", data, room=data["topic"])

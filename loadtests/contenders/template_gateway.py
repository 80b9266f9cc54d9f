"""This template's `WebSocketProxy`, as its README shows it."""

import os

from distributed_websocket import WebSocketProxy
from fastapi import FastAPI, WebSocket

app = FastAPI()


@app.websocket("/ws")
async def websocket_proxy(websocket: WebSocket) -> None:
    await WebSocketProxy(websocket, os.environ["UPSTREAM"])()

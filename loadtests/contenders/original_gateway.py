"""The `WebSocketProxy` of fastapi-distributed-websocket 0.2.0, as its README shows it."""

import os

from distributed_websocket import WebSocketProxy
from fastapi import FastAPI, WebSocket

app = FastAPI()


@app.websocket("/ws")
async def websocket_proxy(websocket: WebSocket) -> None:
    await websocket.accept()
    ws_proxy = WebSocketProxy(websocket, os.environ["UPSTREAM"])
    await ws_proxy()

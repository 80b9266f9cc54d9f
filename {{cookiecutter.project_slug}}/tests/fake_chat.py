"""A stand-in for the whole stack, with faults: `python tests/fake_chat.py PORT`, then ws://127.0.0.1:PORT/FAULT/ws.

One process that speaks the chat's protocol and poses as three workers behind a sticky load balancer, so that the load
test can be judged by what it says about a service that is wrong in a known way.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from collections import Counter, defaultdict
from enum import StrEnum
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect

from distributed_websocket.auth import TokenVerifier, issue_token
from distributed_websocket.exceptions import InvalidToken

SECRET = "a secret that only the tests of the load test know"
WORKERS = ("chat-1", "chat-2", "chat-3")
HIT_EVERY = 20
"""Of the deliveries to a worker with a fault, one in so many is hit."""
CROWD = 18
LATE_SECONDS = 3.0
"""So long that no threshold for it is anywhere near what a busy machine adds."""
FIRST_WORDS = 12
"""Messages. Of a crowd of 18 that says 30 in turn, whoever speaks after these speaks for the last time."""


class Fault(StrEnum):
    NONE = "none"
    UNRELIABLE = "unreliable"
    """chat-1 drops, chat-2 repeats, chat-3 reorders."""
    SPLIT = "split"
    """The workers share nothing."""
    LATE = "late"
    """Deliveries to chat-2 take `LATE_SECONDS`, and the balancer sends whoever comes back to another worker."""
    HANG_UP = "hang-up"
    """chat-2 closes one connection behind the ack of a message of its own, and answers `recovered: false` to those that
    come back."""
    SHY = "shy"
    """Takes no message before `CROWD` members have been there at once."""


class Client:
    """A connection of one worker; its frames leave in the order of the queue."""

    def __init__(self, websocket: WebSocket, worker: str) -> None:
        self.websocket = websocket
        self.worker = worker
        self.queue: asyncio.Queue[str | None] = asyncio.Queue()
        """`None` closes the connection."""

    async def write(self) -> None:
        while (text := await self.queue.get()) is not None:
            await self.websocket.send_text(text)
        await self.websocket.close(1011)


class FakeChat:
    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.members: dict[str, set[Client]] = defaultdict(set)
        self.sequence = itertools.count(1)
        self.logs: dict[tuple[str, str], list[str]] = defaultdict(list)
        self.turns = itertools.cycle(WORKERS)
        self.deliveries: Counter[str] = Counter()
        self.held: dict[Client, str] = {}
        self.crowded = False
        self.hung_up = False

    def worker_for(self, cookie: str | None) -> str:
        if not cookie:
            return next(self.turns)
        return WORKERS[WORKERS.index(cookie) - 1] if self.fault == Fault.LATE else cookie

    def leave(self, client: Client) -> None:
        for members in self.members.values():
            members.discard(client)
        if not any(self.members.values()):
            self.crowded = False

    def log_of(self, worker: str, topic: str) -> list[str]:
        """The positions given in a topic. A split service has a log for each worker."""
        return self.logs[worker if self.fault == Fault.SPLIT else "", topic]

    def answer(self, client: Client, message: dict[str, Any]) -> None:
        topic = message["topic"]
        log = self.log_of(client.worker, topic)
        if message["type"] == "subscribe":
            epoch = client.worker if self.fault == Fault.SPLIT else "one"
            answer = {"type": "subscribed", "topic": topic, "position": log[-1] if log else "0-0", "epoch": epoch}
            if since := message.get("since"):
                answer["recovered"] = self.fault != Fault.HANG_UP and since["position"] == answer["position"]
            client.queue.put_nowait(json.dumps(answer))
            self.members[topic].add(client)
            # From now on: who has sent everything leaves, while others are still at it.
            self.crowded |= sum(map(len, self.members.values())) >= CROWD
        elif self.fault == Fault.SHY and not self.crowded:
            client.queue.put_nowait(json.dumps({"type": "error", "code": "too_early", "ref": message["ref"]}))
        elif message["type"] == "send":
            number = next(self.sequence)
            log.append(position := f"1763700000000-{number}")
            for member in list(self.members[topic]):
                if self.fault != Fault.SPLIT or member.worker == client.worker:
                    self.deliver(member, json.dumps({"id": position, **message, "from": "somebody", "at": 1}))
            client.queue.put_nowait(json.dumps({"type": "ack", "ref": message["ref"], "id": position}))
            if self.fault == Fault.HANG_UP and client.worker == "chat-2" and number > FIRST_WORDS and not self.hung_up:
                # On the sender, who has its ack and nothing more to say: no message is left in doubt.
                self.hung_up = True
                client.queue.put_nowait(None)

    def deliver(self, client: Client, text: str) -> None:
        self.deliveries[client.worker] += 1
        hit = self.deliveries[client.worker] % HIT_EVERY == 0
        match self.fault, client.worker:
            case Fault.UNRELIABLE, "chat-1" if hit:
                return
            case Fault.UNRELIABLE, "chat-2" if hit:
                client.queue.put_nowait(text)
            case Fault.UNRELIABLE, "chat-3" if hit and client not in self.held:
                self.held[client] = text
                asyncio.get_running_loop().call_later(0.3, self.release, client)
                return
            case Fault.LATE, "chat-2":
                asyncio.get_running_loop().call_later(LATE_SECONDS, client.queue.put_nowait, text)
                return
        client.queue.put_nowait(text)
        self.release(client)

    def release(self, client: Client) -> None:
        if held := self.held.pop(client, None):
            client.queue.put_nowait(held)


def application() -> FastAPI:
    app = FastAPI()
    chats = {fault: FakeChat(fault) for fault in Fault}
    verifier = TokenVerifier(SECRET)

    @app.post("/api/users", status_code=201)
    async def sign_up(request: Request) -> dict[str, str]:
        return {"username": (await request.json())["username"]}

    @app.post("/api/token")
    async def sign_in(request: Request) -> dict[str, str | int]:
        form = await request.form()
        token = issue_token(str(form["username"]), secret=SECRET, lifetime_seconds=600)
        return {"access_token": token, "token_type": "bearer", "expires_in": 600}

    @app.websocket("/{fault}/ws")
    async def ws(websocket: WebSocket, fault: Fault) -> None:
        chat = chats[fault]
        try:
            verifier.verify(websocket.headers["authorization"].removeprefix("Bearer "))
        except InvalidToken:
            await websocket.close(1008)  # before the handshake is answered: HTTP 403
            return
        worker = chat.worker_for(websocket.cookies.get("chat_worker"))
        cookie = f"chat_worker={worker}; Path=/; HttpOnly; SameSite=Lax"
        await websocket.accept(headers=[(b"set-cookie", cookie.encode())])
        client = Client(websocket, worker)
        client.queue.put_nowait(json.dumps({"type": "welcome", "conn_id": "c", "worker": worker, "user": "u"}))
        writer = asyncio.create_task(client.write())
        try:
            while True:
                chat.answer(client, json.loads(await websocket.receive_text()))
        except WebSocketDisconnect:
            pass
        finally:
            chat.leave(client)
            writer.cancel()

    return app


if __name__ == "__main__":
    uvicorn.run(application(), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")

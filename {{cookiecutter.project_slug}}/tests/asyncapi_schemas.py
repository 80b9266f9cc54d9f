"""Judges messages by the schemas of an AsyncAPI document, as a client would that knows nothing else."""

from typing import Any

from fastapi import FastAPI, WebSocket
from jsonschema import Draft7Validator

from distributed_websocket.asyncapi import asyncapi_document


class Schemas:
    """The messages of a document, each with a validator. AsyncAPI's schemas are a superset of draft 7."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        components = document["components"]
        self._validators = {
            name: Draft7Validator({"components": components, "allOf": [message["payload"]]})
            for name, message in components["messages"].items()
        }

    def names(self) -> set[str]:
        """All messages."""
        return set(self._validators)

    def of_channel(self, purpose: str) -> list[str]:
        """The messages of the channels (one for each route) whose names end so: `requests`, `answers` or `events`."""
        channels = self._document["channels"].items()
        named = (name for key, channel in channels if key.endswith(purpose) for name in channel["messages"])
        return list(dict.fromkeys(named))

    def matching(self, purpose: str, payload: object) -> list[str]:
        """The messages among them that `payload` is. The specification wants exactly one."""
        return [name for name in self.of_channel(purpose) if self._validators[name].is_valid(payload)]

    def faults(self, name: str, payload: object) -> list[str]:
        return [error.message for error in self._validators[name].iter_errors(payload)]


def schemas_of_the_protocol() -> Schemas:
    """Those of a service with one route, without its start."""
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None: ...

    return Schemas(asyncapi_document(app.routes, title="Chat", version="1", servers={"local": "ws://127.0.0.1"}))

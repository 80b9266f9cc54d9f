"""The AsyncAPI document of an app's WebSocket routes: servers, channels and operations around the messages.

Rules of the specification that are easily broken stand where they are kept.
(https://www.asyncapi.com/docs/reference/specification/v3.0.0)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Final
from urllib.parse import urlsplit

from fastapi.routing import iter_route_contexts
from starlette.routing import BaseRoute, WebSocketRoute

from .. import wire
from ..auth import BEARER_SUBPROTOCOL_PREFIX, SUBPROTOCOL, WebSocketOAuth2PasswordBearer
from ..codes import CloseCode
from .messages import ANSWERS, EVENTS, REQUESTS, Json, messages, name_of, schemas, summary_of, type_of

VERSION: Final = "3.0.0"


def asyncapi_document(
    routes: Sequence[BaseRoute],
    *,
    title: str,
    version: str,
    servers: Mapping[str, str],
    description: str = "",
    bearer: WebSocketOAuth2PasswordBearer | None = None,
) -> Json:
    """The document of all WebSocket routes among `routes` (an app's `routes`), each of which speaks the protocol.

    `servers` maps names to URLs, `{"public": "wss://chat.example.org"}`; `ValueError` for what is no ws or wss URL.
    `bearer` is what the routes take tokens with; None where they take none. `version` is the service's.
    """
    schemes = _security_schemes(bearer)
    channels: Json = {}
    operations: Json = {}
    for path in _websocket_paths(routes):
        _add_route(channels, operations, path)
    return {
        "asyncapi": VERSION,
        "info": {"title": title, "version": version, **({"description": description} if description else {})},
        "defaultContentType": "application/json",
        "servers": {name: _server(url, schemes) for name, url in servers.items()},
        "channels": channels,
        "operations": operations,
        "components": deepcopy({"schemas": schemas(), "messages": messages(), "securitySchemes": schemes}),
    }


# Servers and security


def _server(url: str, schemes: Json) -> Json:
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.netloc:
        raise ValueError(f"a server is a URL like wss://chat.example.org, not {url!r}")
    server: Json = {"host": parts.netloc, "protocol": parts.scheme}  # the host has no scheme (Server Object)
    if path := parts.path.rstrip("/"):
        server["pathname"] = path
    if schemes:
        # A list, of which one suffices; not OpenAPI's map (Server Object).
        server["security"] = [{"$ref": f"#/components/securitySchemes/{name}"} for name in schemes]
    return server


def _security_schemes(bearer: WebSocketOAuth2PasswordBearer | None) -> Json:
    if bearer is None:
        return {}
    schemes: Json = {
        "header": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "`Authorization: Bearer TOKEN`: for services.",
        },
        "subprotocol": {
            "type": "httpApiKey",
            "in": "header",
            "name": "Sec-WebSocket-Protocol",
            "description": f"`{SUBPROTOCOL}, {BEARER_SUBPROTOCOL_PREFIX}TOKEN`: what a browser's script can set.",
        },
    }
    if bearer.cookie is not None:
        schemes["cookie"] = {
            "type": "httpApiKey",
            "in": "cookie",
            "name": bearer.cookie,
            "description": "The login cookie: for pages of the same site.",
        }
    return schemes


# Channels and operations


def _websocket_paths(routes: Sequence[BaseRoute]) -> list[str]:
    return [
        route.path_format or ""
        for route in iter_route_contexts(routes)
        if isinstance(route.original_route, WebSocketRoute)
    ]


def _add_route(channels: Json, operations: Json, path: str) -> None:
    """Three channels with one address: a connection has no channels of its own, only directions and purposes."""
    key = base = re.sub(r"\W+", "_", path, flags=re.ASCII).strip("_") or "root"
    number = 1
    while f"{key}_requests" in channels:  # "/a/b" and "/a-b"
        number += 1
        key = f"{base}_{number}"
    requests, answers, events = f"{key}_requests", f"{key}_answers", f"{key}_events"
    channels[requests] = _channel(path, "From the client", REQUESTS)
    channels[answers] = _channel(path, "To the client, because it asked", ANSWERS)
    channels[events] = _channel(path, "To the client, unasked", EVENTS)
    channels[events]["x-close-codes"] = [
        {"code": int(code), "reason": code.reason, "reconnect": code.reconnect} for code in CloseCode
    ]
    # `action` is the server's: it receives what clients send (Operation Object). Messages are those of the channel,
    # by reference, not the components that the channel refers to.
    for request, answer in wire.ANSWERS.items():
        operations[f"{key}_{type_of(request)}"] = {
            "action": "receive",
            "channel": _channel_reference(requests),
            "summary": summary_of(request),
            "messages": _channel_messages(requests, (request,)),
            "reply": {
                "channel": _channel_reference(answers),
                "messages": _channel_messages(answers, (answer, wire.Error)),
            },
        }
    for event in wire.EVENTS:
        operations[f"{key}_{event.name}"] = {
            "action": "send",
            "channel": _channel_reference(events),
            "summary": event.when,
            "messages": _channel_messages(events, event.messages),
        }


def _channel(path: str, title: str, models: Iterable[type[wire.WireModel]]) -> Json:
    channel: Json = {
        "address": path,
        "title": title,
        "messages": {name_of(model): {"$ref": f"#/components/messages/{name_of(model)}"} for model in models},
        # The ws binding exists for channels alone; elsewhere it must be empty (WebSockets binding 0.1.0).
        "bindings": {
            "ws": {
                "method": "GET",
                "headers": {
                    "type": "object",
                    "properties": {
                        "Sec-WebSocket-Protocol": {"type": "string", "description": f"`{SUBPROTOCOL}`, if any."}
                    },
                },
                "bindingVersion": "0.1.0",
            }
        },
    }
    parameters = re.findall(r"{(\w+)}", path)
    if parameters:
        channel["parameters"] = {name: {} for name in parameters}
    return channel


def _channel_reference(channel: str) -> Json:
    return {"$ref": f"#/channels/{channel}"}


def _channel_messages(channel: str, models: Iterable[type[wire.WireModel]]) -> list[Json]:
    return [{"$ref": f"#/channels/{channel}/messages/{name_of(model)}"} for model in models]

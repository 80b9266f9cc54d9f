"""Where the AsyncAPI document is served, for programs and for people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson
import yaml
from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, HTMLResponse

from ..auth import WebSocketOAuth2PasswordBearer
from .document import asyncapi_document
from .messages import Json
from .page import render_page

STYLE: Final = Path(__file__).with_name("page.css")
PAGE_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
}


def add_asyncapi(
    app: FastAPI,
    *,
    servers: Mapping[str, str] | None = None,
    bearer: WebSocketOAuth2PasswordBearer | None = None,
) -> None:
    """Serve the document as `/asyncapi.json` and `/asyncapi.yaml`, and as a page, `/asyncapi`.

    `servers` and `bearer` as for `asyncapi_document`; without `servers` it is the one that the document is asked of.
    Routes that are added later are in it too. The page needs no network, no script and nothing inline.
    """

    def document(request: Request) -> Json:
        return asyncapi_document(
            app.routes,
            title=app.title,
            version=app.version,
            description=app.description,
            servers=servers or {"this": _websocket_url(request)},
            bearer=bearer,
        )

    @app.get("/asyncapi.json", include_in_schema=False)
    async def as_json(request: Request) -> Response:
        return Response(orjson.dumps(document(request)), media_type="application/json")

    @app.get("/asyncapi.yaml", include_in_schema=False)
    async def as_yaml(request: Request) -> Response:
        return Response(to_yaml(document(request)), media_type="application/yaml")  # RFC 9512

    @app.get("/asyncapi", include_in_schema=False)
    async def page(request: Request) -> Response:
        return HTMLResponse(render_page(document(request)), headers=PAGE_HEADERS)

    @app.get("/asyncapi.css", include_in_schema=False)
    async def style() -> Response:
        return FileResponse(STYLE, headers={"Cache-Control": "no-cache"})


_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # ten times faster, where PyYAML has it


class _WithoutAliases(_Dumper):  # type: ignore[misc]  # one of two classes
    """Writes what occurs twice twice: `&id001` and `*id001` are for programs."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def to_yaml(document: Json) -> str:
    text: str = yaml.dump(document, Dumper=_WithoutAliases, sort_keys=False, allow_unicode=True, width=120)
    return text


def _websocket_url(request: Request) -> str:
    url = request.base_url
    return str(url.replace(scheme="wss" if url.scheme == "https" else "ws"))

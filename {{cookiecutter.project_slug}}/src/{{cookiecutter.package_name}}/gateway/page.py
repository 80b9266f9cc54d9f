"""The page and its files."""

from http import HTTPStatus
from pathlib import Path

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse

WEB = Path(__file__).parent.parent / "web"


def page_routes() -> APIRouter:
    routes = APIRouter(include_in_schema=False)
    files = {path.name: path for path in WEB.iterdir() if path.is_file()}  # the only ones that a request can name
    revalidated = {"Cache-Control": "no-cache"}

    @routes.get("/")
    async def page() -> FileResponse:
        return FileResponse(files["index.html"], headers=revalidated)

    @routes.get("/static/{name}")
    async def file(name: str) -> FileResponse:
        if name not in files:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        return FileResponse(files[name], headers=revalidated)

    return routes

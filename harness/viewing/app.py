"""The ASGI application that serves the pages of runs below a token."""

from __future__ import annotations

import secrets
from pathlib import Path, PurePosixPath

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import Route

from simloop.harness.viewing.shelf import Shelf
from simloop.results.report.page_data import script, text
from simloop.results.report.site import ASSETS, PAGE, PAGE_ASSETS, Content, page

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "media-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".md": "text/plain; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".tex": "text/plain; charset=utf-8",
    ".bib": "text/plain; charset=utf-8",
    ".mp4": "video/mp4",
    ".webp": "image/webp",
    ".svg": "image/svg+xml",
    ".pdf": "application/pdf",
    ".png": "image/png",
}


def application(shelf: Shelf, token: str) -> Starlette:
    """The pages of all runs of a shelf, below `/TOKEN/`; every other address is answered with 404."""

    async def answer(request: Request) -> Response:
        if not secrets.compare_digest(request.path_params["token"].encode(), token.encode()):
            return _not_found()
        run, slash, path = request.path_params["rest"].partition("/")
        if run and not slash:  # `/TOKEN/RUN`, from which links would lead astray.
            return RedirectResponse(f"/{token}/{run}/") if run in shelf.runs() else _not_found()
        if slash and not run:
            return _not_found()
        content = await run_in_threadpool(_content, shelf, run, path)
        return _response(content, path or PAGE)

    return Starlette(routes=[Route("/{token}/{rest:path}", answer)])


def _content(shelf: Shelf, run: str, path: str) -> Content | None:
    """The content of a file of a run, or, without a run, of the list of runs; None if there is no such file."""
    if not run or run in ("data", "assets"):
        return _list_content(shelf, f"{run}/{path}" if run else path)
    folder = shelf.runs().get(run)
    if folder is None:
        return None
    if path in ("", PAGE):
        return page("run")
    if path == "data/live.js":
        return script("live", shelf.live(folder))
    try:
        return shelf.site(folder).content(path)
    except Exception as error:
        if not getattr(error, "user_facing", False):
            raise
        return script(_data_name(path), {"problem": text(str(error))}) if path.endswith(".js") else None


def _list_content(shelf: Shelf, path: str) -> Content | None:
    if path in ("", PAGE):
        return page("list")
    if path == "data/runs.js":
        return script("runs", shelf.list())
    return ASSETS / path.removeprefix("assets/") if path in PAGE_ASSETS else None


def _data_name(path: str) -> str:
    """The name under which a page waits for a file of data."""
    return path.removeprefix("data/").removesuffix(".js")


def _response(content: Content | None, path: str) -> Response:
    media_type = TYPES.get(PurePosixPath(path).suffix)
    if content is None or media_type is None:
        return _not_found()
    if isinstance(content, Path):
        return FileResponse(content, media_type=media_type, headers=HEADERS)
    return Response(content, media_type=media_type, headers=HEADERS)


def _not_found() -> Response:
    return Response("Not found.", 404, HEADERS, "text/plain")

"""A web application as others write them: Starlette, served by uvicorn. It knows nothing of Farebox."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]

ADDED = ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "via", "x-request-id", "x-farebox-")
"""What Farebox adds to a request, by how it begins."""

FRAMING = {"content-length", "transfer-encoding"}
"""What every proxy writes anew; it is compared by what it says, not by where it stands."""


async def echo(request: Request) -> Response:
    """Everything that was understood of a request."""
    body = await request.body()
    headers = [(name, value) for name, value in request.headers.items() if not name.startswith(ADDED)]
    return JSONResponse(
        {
            "method": request.method,
            "path": request.scope["raw_path"].decode(),
            "query": request.scope["query_string"].decode(),
            "headers": sorted(headers, key=lambda header: header[0] in FRAMING),
            "length": len(body),
            "digest": hashlib.sha256(body).hexdigest(),
        }
    )


async def form(request: Request) -> Response:
    """The fields and files of a form, in either of its codings."""
    fields = []
    async with request.form(max_part_size=2**24) as values:
        for name, value in values.multi_items():
            content = value if isinstance(value, str) else hashlib.sha256(await value.read()).hexdigest()
            fields.append([name, content, None if isinstance(value, str) else value.filename])
    return JSONResponse(fields)


async def redirect(request: Request) -> Response:
    return RedirectResponse("/echo?from=a%2Fb#part", status_code=int(request.path_params["status"]))


async def cookies(request: Request) -> Response:
    """Several cookies at once, with all that may stand in one, and one that counts."""
    visits = int(request.cookies.get("visits", "0")) + 1
    response = JSONResponse({"cookies": request.cookies, "visits": visits})
    response.set_cookie("visits", str(visits))
    response.set_cookie("plain", "1")
    response.set_cookie("strict", "a b", max_age=60, path="/x", secure=True, httponly=True, samesite="strict")
    response.delete_cookie("old")
    return response


async def status(request: Request) -> Response:
    code = int(request.path_params["code"])
    headers = {"ETag": '"abc"', "X-Odd": "caf\xe9"}
    return Response(None if code in (204, 304) else b"body", code, headers)


async def stream(request: Request) -> Response:
    """Pieces with pauses, without a length."""

    async def pieces() -> AsyncIterator[bytes]:
        for number in range(int(request.path_params["count"])):
            yield b"data: %d\n\n" % number
            await asyncio.sleep(0)

    return StreamingResponse(pieces(), media_type="text/event-stream")


async def large(request: Request) -> Response:
    """As many bytes as asked for, with a length."""
    size = int(request.path_params["size"])

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, size, 2**16):
            yield b"%d" % (at % 10) * min(2**16, size - at)

    return StreamingResponse(pieces(), headers={"Content-Length": str(size)}, media_type="application/octet-stream")


async def wait(request: Request) -> Response:
    """A long poll: the answer begins late."""
    await asyncio.sleep(0.3)
    return PlainTextResponse("at last")


async def refuse(request: Request) -> Response:
    """Answers without reading what was sent."""
    return PlainTextResponse("too much", 413)


def application(folder: Path) -> Starlette:
    """With the files of `folder` below /static."""
    return Starlette(
        routes=[
            Route("/echo", echo, methods=METHODS),
            Route("/echo/{rest:path}", echo, methods=METHODS),
            Route("/form", form, methods=["POST"]),
            Route("/redirect/{status}", redirect),
            Route("/cookies", cookies),
            Route("/status/{code}", status, methods=METHODS),
            Route("/stream/{count}", stream),
            Route("/large/{size}", large),
            Route("/wait", wait),
            Route("/refuse", refuse, methods=["POST"]),
            Mount("/static", StaticFiles(directory=folder)),
        ],
        middleware=[Middleware(GZipMiddleware, minimum_size=500)],
    )


@asynccontextmanager
async def served(app: Starlette) -> AsyncIterator[int]:
    """Its port, while it is served."""
    listener = socket.create_server(("127.0.0.1", 0))
    # Dates and the name of the server are of the moment and of the place; everything else has to be the same.
    config = uvicorn.Config(app, log_level="error", date_header=False, lifespan="off", http="h11", ws="none")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve([listener]))
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = server.force_exit = True
        await task
        listener.close()

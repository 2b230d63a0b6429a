"""A bare aiohttp pass-through proxy: no identity, no policy, no ledger. What the framework itself can do.

Usage: python bench/bare_aiohttp.py PORT UPSTREAM_URL STREAMS_URL

Below /streams it streams in both directions; elsewhere it reads and writes whole bodies, which is quicker.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

CONNECTION_HEADERS = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host", "content-length"}
)
UPSTREAM = web.AppKey("upstream", str)
STREAMS = web.AppKey("streams", str)
SESSION = web.AppKey("session", aiohttp.ClientSession)


def kept(headers: CIMultiDict[str]) -> CIMultiDict[str]:
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in CONNECTION_HEADERS)


async def forward(request: web.Request) -> web.Response:
    body = await request.read() if request.can_read_body else None
    async with request.app[SESSION].request(
        request.method,
        request.app[UPSTREAM] + request.raw_path,
        headers=kept(request.headers),
        data=body,
        allow_redirects=False,
    ) as answer:
        return web.Response(status=answer.status, body=await answer.read(), headers=kept(answer.headers))


async def stream(request: web.Request) -> web.StreamResponse:
    headers = kept(request.headers)
    if request.content_length is not None:
        headers["Content-Length"] = str(request.content_length)
    async with request.app[SESSION].request(
        request.method,
        request.app[STREAMS] + request.raw_path,
        headers=headers,
        data=request.content if request.can_read_body else None,
        allow_redirects=False,
    ) as answer:
        response = web.StreamResponse(status=answer.status, headers=kept(answer.headers))
        response.content_length = answer.content_length
        await response.prepare(request)
        async for piece in answer.content.iter_any():
            await response.write(piece)
        await response.write_eof()
        return response


async def session(app: web.Application) -> AsyncIterator[None]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
    ) as client:
        app[SESSION] = client
        yield


def make_app(upstream: str, streams: str) -> web.Application:
    app = web.Application(client_max_size=10**8)
    app[UPSTREAM], app[STREAMS] = upstream, streams
    app.cleanup_ctx.append(session)
    app.router.add_route("*", "/streams/{path:.*}", stream)
    app.router.add_route("*", "/{path:.*}", forward)
    return app


if __name__ == "__main__":
    web.run_app(make_app(*sys.argv[2:4]), host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)

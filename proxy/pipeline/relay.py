"""Writing to the client: an answer of the backend as it is, or one of Farebox's own.

Whatever ends a client's connection early ends here as Truncated, so that nobody takes half an answer for a whole one
and nobody mistakes a client that left for a fault.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.http_writer import StreamWriter
from multidict import CIMultiDict

from proxy.errors import Answer
from proxy.headers import HeaderList, end_to_end, lines_bytes
from proxy.pipeline.exchange import Incoming
from proxy.pipeline.metering import Reader
from proxy.upstream.client import UpstreamAnswer, UpstreamBroken, UpstreamTimeout

SMALL = 64 * 2**10
"""Bytes: an answer up to this length is written at once, with its true charge in the headers."""


class Truncated(Exception):
    """The client's connection is over before the answer was. Nothing more can be said to the client."""

    def __init__(self, response: web.StreamResponse) -> None:
        super().__init__("the connection ended before the answer")
        self.response = response


class ClientLeft(Truncated):
    """It is over because the client has ended it."""


class Relayed(web.StreamResponse):
    """A response with exactly the headers it was given, byte for byte.

    aiohttp adds a server name, a date and a content type, drops bytes that are not UTF-8, and answers in the version
    of the request, also where that is none.
    """

    def __init__(self, status: int, reason: str | None, headers: HeaderList, whole: bytes | None = None) -> None:
        """`whole` is a body that is at hand and leaves in one write with the head; without it, pieces are written."""
        super().__init__(status=status, reason=reason, headers=CIMultiDict(headers))
        self._given = {name.lower() for name, _ in headers}
        self._whole = whole
        self._send_headers_immediately = whole is None

    async def write_eof(self, data: bytes = b"") -> None:
        await super().write_eof(data or self._whole or b"")

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        for name in (hdrs.SERVER, hdrs.DATE, hdrs.CONTENT_TYPE):
            if name.lower() not in self._given:
                self.headers.popall(name, None)

    async def _write_headers(self) -> None:
        assert self._req is not None, "called by prepare"
        assert isinstance(self._payload_writer, StreamWriter), "aiohttp's server has no other"
        version = "1.1" if self._req.version >= HttpVersion11 else "1.0"
        lines = [f"HTTP/{version} {self.status} {self.reason}", *map(": ".join, self.headers.items()), "", ""]
        self._payload_writer._headers_buf = lines_bytes(lines)
        if self._send_headers_immediately:
            self._payload_writer.send_headers()


async def write_answer(request: web.BaseRequest, answer: Answer, extra: HeaderList) -> web.StreamResponse:
    """An answer of Farebox's own. When the request's body was not read, nothing of it may become the next request."""
    response = Relayed(answer.status, None, [*answer.headers, *extra], b"" if request.method == "HEAD" else answer.body)
    response.headers["Content-Length"] = str(len(answer.body))
    if request.writer.output_size > 0:
        # Another answer is under way: it can be cut, and nothing can be put in its place.
        raise cut(request, response)
    if not request.content.at_eof() or request.content.exception() is not None:
        response.force_close()
    with _client_may_leave(response):
        await response.prepare(request)
        await response.write_eof()
    return response


def cut(request: web.BaseRequest, response: web.StreamResponse) -> Truncated:
    """End the connection in the middle of an answer: the only honest end of a truncated answer."""
    if request.transport is not None:
        request.transport.abort()
    return Truncated(response)


async def relay(
    incoming: Incoming, answer: UpstreamAnswer, extra: HeaderList, reader: Reader | None
) -> web.StreamResponse:
    """The backend's answer, passed on as it is; `reader` sees it too."""
    if is_small(answer):
        return await write_small(incoming, answer, await read_all(answer, reader), extra)
    response = await begin(incoming, answer, extra)
    await pump(incoming, answer, response, reader)
    await finish(response)
    return response


def is_small(answer: UpstreamAnswer) -> bool:
    return answer.length is not None and answer.length <= SMALL


async def read_all(answer: UpstreamAnswer, reader: Reader | None) -> bytes:
    """The whole body of a small answer."""
    pieces = []
    while piece := await answer.read():
        pieces.append(piece)
        if reader is not None:
            reader.feed(piece)
    return b"".join(pieces)


async def write_small(incoming: Incoming, answer: UpstreamAnswer, body: bytes, extra: HeaderList) -> web.StreamResponse:
    """Head and body at once."""
    response = _response(incoming, answer, extra, body)
    with _client_may_leave(response):
        await response.prepare(incoming.request)
        await response.write_eof()
    return response


async def begin(incoming: Incoming, answer: UpstreamAnswer, extra: HeaderList) -> web.StreamResponse:
    """The head of an answer that is streamed."""
    response = _response(incoming, answer, extra, None)
    with _client_may_leave(response):
        await response.prepare(incoming.request)
    return response


async def pump(
    incoming: Incoming,
    answer: UpstreamAnswer,
    response: web.StreamResponse,
    reader: Reader | None,
    seconds: float | None = None,
) -> None:
    """Pieces passed on as they arrive, for at most `seconds`; a slow client holds the backend back."""
    try:
        async with asyncio.timeout(seconds):
            while piece := await answer.read():
                if reader is not None:
                    reader.feed(piece)
                with _client_may_leave(response):
                    await response.write(piece)
    except (UpstreamBroken, UpstreamTimeout, TimeoutError) as error:
        raise cut(incoming.request, response) from error


async def hear_out(answer: UpstreamAnswer, reader: Reader) -> None:
    """The rest of an answer, for `reader` alone. Raises UpstreamBroken or UpstreamTimeout."""
    while piece := await answer.read():
        reader.feed(piece)


async def finish(response: web.StreamResponse) -> None:
    with _client_may_leave(response):
        await response.write_eof()


@contextmanager
def _client_may_leave(response: web.StreamResponse) -> Iterator[None]:
    try:
        yield
    except ConnectionError as error:
        raise ClientLeft(response) from error


def _response(incoming: Incoming, answer: UpstreamAnswer, extra: HeaderList, whole: bytes | None) -> Relayed:
    headers = [*end_to_end(answer.headers), *extra, ("X-Request-Id", incoming.id_text)]
    if answer.length is not None:
        headers.append(("Content-Length", str(answer.length)))
    return Relayed(answer.status, answer.reason, headers, whole)

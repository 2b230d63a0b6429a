"""Writing to the client: an answer of the backend as it is, or one of Farebox's own.

Whatever ends a client's connection early ends here as Truncated, so that nobody takes half an answer for a whole one
and nobody mistakes a client that left for a fault.
"""

from __future__ import annotations

from contextlib import nullcontext
from math import inf
from types import TracebackType

from aiohttp import HttpVersion11, web
from aiohttp.http_writer import StreamWriter

from proxy.errors import Answer
from proxy.headers import HeaderList, end_to_end, lines_bytes, without
from proxy.pipeline.exchange import Incoming
from proxy.pipeline.lease import Lease
from proxy.pipeline.metering import Reader
from proxy.upstream.client import UpstreamAnswer, UpstreamBroken, UpstreamTimeout
from proxy.websocket.handshake import SWITCHING

SMALL = 64 * 2**10
"""Bytes: an answer up to this length is written at once, with its true charge in the headers."""


class Truncated(Exception):
    """The client's connection is over before the answer was. Nothing more can be said to the client."""

    def __init__(self, response: web.StreamResponse) -> None:
        super().__init__("the connection ended before the answer")
        self.response = response


class ClientLeft(Truncated):
    """It is over because the client has ended it."""


BODILESS = frozenset({204, 304})
"""Statuses whose answers have no body, and are sent without a length (RFC 9110 §8.6)."""


ABOUT_THE_BODY = ("ETag", "Content-MD5", "Digest", "Content-Digest", "Repr-Digest")
"""Headers that are only true of the bytes they came with (RFC 9530, RFC 9110 §8.8.3)."""


class Relayed(web.StreamResponse):
    """A response with exactly the headers it was given, byte for byte, and the framing that its client understands.

    aiohttp adds a server name, a date and a content type, drops bytes that are not UTF-8, and answers in the version
    of the request, also where that is none. What remains of its part is the writing of pieces.
    """

    def __init__(
        self, status: int, reason: str | None, headers: HeaderList, length: int | None, whole: bytes | None = None
    ) -> None:
        """`whole` is a body that is at hand and leaves in one write with the head; without it, pieces are written.

        `length` is that of the body, or what an answer to HEAD says of it; None where it is not known.
        """
        super().__init__(status=status, reason=reason)
        self._lines = headers
        self._stated_length = length
        self._whole = whole

    async def prepare(self, request: web.BaseRequest) -> StreamWriter | None:
        writer = request.writer
        assert isinstance(writer, StreamWriter), "aiohttp's server has no other"
        if self._payload_writer is None and not self._eof_sent:
            self._req, self._payload_writer = request, writer
            writer._headers_buf = lines_bytes([*self._head(request, writer), "", ""])
            if self._whole is None:
                writer.send_headers()
        return writer

    def _head(self, request: web.BaseRequest, writer: StreamWriter) -> list[str]:
        """The lines of the head. Decides how the body is framed (RFC 9112 §6.3), and what becomes of the connection."""
        if self.status == 101:
            return [f"HTTP/1.1 101 {self.reason}", *map(": ".join, [*self._lines, *SWITCHING])]
        current = request.version >= HttpVersion11
        keep_alive = request.keep_alive if self._keep_alive is None else self._keep_alive
        lines = [f"HTTP/{'1.1' if current else '1.0'} {self.status} {self.reason}", *map(": ".join, self._lines)]
        if self.status not in BODILESS:
            if self._stated_length is not None:
                lines.append(f"Content-Length: {self._stated_length}")
                writer.length = self._stated_length
            elif request.method != "HEAD":
                if current:
                    lines.append("Transfer-Encoding: chunked")
                    writer.enable_chunking()
                else:
                    # It ends with the connection.
                    keep_alive = False
        if keep_alive != current:
            lines.append(f"Connection: {'keep-alive' if keep_alive else 'close'}")
        self._keep_alive = keep_alive
        return lines

    async def write_eof(self, data: bytes = b"") -> None:
        await super().write_eof(data or self._whole or b"")


async def write_answer(request: web.BaseRequest, answer: Answer, extra: HeaderList) -> web.StreamResponse:
    """An answer of Farebox's own. When the request's body was not read, nothing of it may become the next request."""
    whole = b"" if request.method == "HEAD" else answer.body
    response = Relayed(answer.status, None, [*answer.headers, *extra], len(answer.body), whole)
    if request.writer.output_size > 0:
        # Another answer is under way: it can be cut, and nothing can be put in its place.
        raise cut(request, response)
    unread = not request.content.at_eof() or request.content.exception() is not None
    # aiohttp never reads a body of CONNECT, whatever length it states (RFC 9110 §9.3.6).
    if unread or request.method == "CONNECT":
        response.force_close()
    return await _written(request, response)


def write_interim(incoming: Incoming, status: int, reason: str, headers: HeaderList) -> None:
    """Pass on an answer before the answer, such as 103 (RFC 9110 §15.2). HTTP/1.0 knows none."""
    request = incoming.request
    if request.version >= HttpVersion11 and request.transport is not None and request.writer.output_size == 0:
        head = [f"HTTP/1.1 {status} {reason}", *map(": ".join, end_to_end(headers)), "", ""]
        request.transport.write(lines_bytes(head))


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
    return answer.status in BODILESS or (answer.length is not None and answer.length <= SMALL)


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
    return await _written(incoming.request, _response(incoming, answer, extra, body))


async def write_changed(
    incoming: Incoming, answer: UpstreamAnswer, body: bytes, extra: HeaderList
) -> web.StreamResponse:
    """Head and body at once, of an answer whose body Farebox has changed: what was said of the old one is left out."""
    headers = without(end_to_end(answer.headers), ABOUT_THE_BODY)
    lines = [*headers, *extra, ("X-Request-Id", incoming.id_text)]
    return await _written(incoming.request, Relayed(answer.status, answer.reason, lines, len(body), body))


async def write_again(incoming: Incoming, status: int, headers: HeaderList, body: bytes) -> web.StreamResponse:
    """An answer of the backend that was kept."""
    lines = [*headers, ("X-Request-Id", incoming.id_text)]
    return await _written(incoming.request, Relayed(status, None, lines, len(body), body))


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
    lease: Lease | None = None,
) -> None:
    """Pieces passed on as they arrive, as long as `lease` lasts; a slow client holds the backend back."""
    try:
        async with lease.in_time(piecewise=True) if lease is not None else nullcontext():
            while piece := await answer.read():
                if reader is not None:
                    reader.feed(piece)
                with _client_may_leave(response):
                    await response.write(piece)
                if lease is not None:
                    lease.moved = True
    except (UpstreamBroken, UpstreamTimeout) as error:
        raise cut(incoming.request, response) from error


async def hear_out(answer: UpstreamAnswer, reader: Reader, at_most: float = inf) -> bool:
    """The rest of an answer, for `reader` alone; False when it is longer than `at_most` bytes.

    Raises UpstreamBroken or UpstreamTimeout.
    """
    end = answer.taken + at_most
    while piece := await answer.read():
        reader.feed(piece)
        if answer.taken > end:
            return False
    return True


async def finish(response: web.StreamResponse) -> None:
    with _client_may_leave(response):
        await response.write_eof()


async def _written(request: web.BaseRequest, response: Relayed) -> web.StreamResponse:
    """The response, written as a whole."""
    with _client_may_leave(response):
        await response.prepare(request)
        await response.write_eof()
    return response


class _client_may_leave:  # noqa: N801 - reads as what it does, at half the cost of a generator on each request
    """ClientLeft when the connection of a response ends."""

    __slots__ = ("_response",)

    def __init__(self, response: web.StreamResponse) -> None:
        self._response = response

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, ConnectionError):
            raise ClientLeft(self._response) from error


def _response(incoming: Incoming, answer: UpstreamAnswer, extra: HeaderList, whole: bytes | None) -> Relayed:
    headers = [*end_to_end(answer.headers), *extra, ("X-Request-Id", incoming.id_text)]
    return Relayed(answer.status, answer.reason, headers, answer.length, whole)

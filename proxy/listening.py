"""The public listener: aiohttp's server, with Farebox's own words for requests that its parser refuses.

Left to itself aiohttp answers such a request with a page that repeats the bad line, which may hold a credential, and
writes a stack trace for each into the log. It waits for a head as long as for a next request, and keeps 32 requests of
one connection, each with two megabytes of headers. And once it stops it drops whatever clients still send, so that no
upload that is under way could come to its end. How many connections there may be, and how slow they, is decided in
`proxy.clients`; here they are what that looks at.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from aiohttp import StreamReader, web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import RequestPayloadError, _ErrInfo

from policies.refusals import Reason, Refusal, invalid_request
from proxy.clients import Clients, Taking
from proxy.pipeline.relay import Relayed
from proxy.pipeline.serve import Pipeline

TOO_MANY = "Too many headers received"
"""What aiohttp says of more than its 128; it has no class of its own for that."""

CUT_S = 1
"""How long a request may take to notice that it is cut; aiohttp grants it twice."""

AHEAD = 2
"""Requests of one connection that may wait for their turn (RFC 9112 §9.3.2); then no more is read of it."""


class PublicServer(web.Server):
    """Hands every connection to a handler of the pipeline's own. The options are those of `web.Server`."""

    def __init__(self, pipeline: Pipeline, clients: Clients, max_head: int, **options: Any) -> None:
        """`max_head` is for the request line and all headers of a request, in bytes."""
        super().__init__(pipeline.serve, **options)
        self._pipeline = pipeline
        self._clients = clients
        self._max_head = max_head

    def __call__(self) -> web.RequestHandler:
        return _Handler(self._pipeline, self._clients, self._max_head, self, loop=self._loop, **self._kwargs)

    def pre_shutdown(self) -> None:
        """Nobody is let in any more: connections without a request end."""
        for connection in self.connections:
            if not connection._request_in_progress:
                connection.close()


class _Refused(Exception):
    """What came is refused before it was read as a request."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.error)
        self.refusal = refusal


class _Handler(web.RequestHandler):
    """One connection: a `proxy.clients.Client`."""

    __slots__ = (
        "_body",
        "_clients",
        "_head",
        "_max_head",
        "_pipeline",
        "head_since",
        "refusal",
        "source",
        "taking",
        "transport_to",
    )

    transport_to: asyncio.Transport
    """The connection, also when aiohttp has closed it on its side and has something left to send."""

    def __init__(
        self, pipeline: Pipeline, clients: Clients, max_head: int, server: PublicServer, **options: Any
    ) -> None:
        super().__init__(server, **options)
        self._pipeline = pipeline
        self._clients = clients
        self._max_head = max_head
        self._max_msg_queue_size, self._msg_queue_resume_size = AHEAD, AHEAD - 1
        self._body: StreamReader = EMPTY_PAYLOAD
        self._head = 0
        self.head_since: float | None = None
        self.source: str | None = None
        self.refusal: Refusal | None = None
        self.taking: Taking | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport_to = cast(asyncio.Transport, transport)
        super().connection_made(transport)
        peer = self.peername
        self._clients.came(self, str(peer[0]) if isinstance(peer, tuple) else None)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._clients.left(self)
        self._body = EMPTY_PAYLOAD
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.refusal is not None:
            # The request itself is not looked at.
            if self._request_count == 0:
                self.refuse(self.refusal)
            return
        requests, between = self._request_count, self._body.is_eof()
        super().data_received(data)
        if self._request_count > requests and self._messages:
            if not between and not self._body.is_eof() and isinstance(self._messages[-1][0], _ErrInfo):
                # aiohttp says so only to the next request, and whoever reads the body would wait for its rest.
                self._body.set_exception(RequestPayloadError("the body is malformed"))
            self._body = self._messages[-1][1]
            if self._head + len(data) > self._max_head:
                self._refuse_large_ones()
            self.head_since, self._head = None, 0
        elif between and data and self._payload_parser is None:
            self._head += len(data)
            if self.head_since is None:
                self.head_since = self._loop.time()
            if self._head > self._max_head:
                self.refuse(_too_large())

    def _refuse_large_ones(self) -> None:
        """Some of what has come with one piece may be too large, though each of its lines was not."""
        for index, (message, _) in enumerate(self._messages):
            if isinstance(message, RawRequestMessage) and _size(message) > self._max_head:
                self._messages[index] = _error(_too_large())

    @property
    def is_idle(self) -> bool:
        # An answer that is still to be taken may be paid for: it is not thrown away to make room.
        waits = self._waiter is not None and not self._waiter.done()
        return waits and not self.transport_to.get_write_buffer_size()

    @property
    def idle_since(self) -> float:
        return self._next_keepalive_close_time - self._keepalive_timeout

    @property
    def has_asked(self) -> bool:
        return self._request_count > 0

    def refuse(self, refusal: Refusal) -> None:
        """Answer this in place of the request that comes, and close."""
        self._request_count += 1
        self.head_since, self._head = None, 0
        self._messages.append(_error(refusal))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - aiohttp calls it with one
        """End the connection: after the request that is running, if that ends within `timeout` seconds."""
        if self._request_in_progress:
            self._handler_waiter = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(timeout):
                    await self._handler_waiter
            except TimeoutError:
                self._handler_waiter = None
        await super().shutdown(CUT_S)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is not a request, or to what the pipeline could not answer. The connection is closed."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer is under way already; another one cannot follow it")
        answer, request_id = self._pipeline.refuse_unread(refusal_of_unread(status, exc), request.remote)
        headers = [*answer.headers, ("X-Request-Id", request_id)]
        response = Relayed(answer.status, None, headers, len(answer.body), answer.body)
        response.force_close()
        return response


def _error(refusal: Refusal) -> tuple[_ErrInfo, StreamReader]:
    """What aiohttp takes for a request that its parser could not read."""
    return _ErrInfo(status=400, exc=_Refused(refusal), message=""), EMPTY_PAYLOAD


def _size(message: RawRequestMessage) -> int:
    """Bytes of the request line and the headers, without what stands between them."""
    return len(message.path) + sum(len(name) + len(value) for name, value in message.raw_headers)


def refusal_of_unread(status: int, error: BaseException | None) -> Refusal:
    """What is told of a request that could not be read, or answered, which repeats nothing of it."""
    if status != 400:
        return Refusal(Reason.INTERNAL, "Internal error", "Report the request id to the operator.")
    if isinstance(error, _Refused):
        return error.refusal
    if isinstance(error, LineTooLong):
        return _too_large()
    if isinstance(error, BadHttpMessage) and error.message == TOO_MANY:
        return Refusal(Reason.HEADERS_TOO_LARGE, "The request has too many headers")
    return invalid_request("The request is not HTTP as RFC 9112 asks")


def _too_large() -> Refusal:
    return Refusal(Reason.HEADERS_TOO_LARGE, "The request line or the headers are too large")

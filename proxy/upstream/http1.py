"""A small pooled HTTP/1.1 client for the hot path: one asyncio protocol, httptools' parser, one write for a request.

aiohttp's client spends four fifths of a plain proxy's time; this one does only what forwarding needs. It parses
strictly (RFC 9112 §6: two lengths, a length beside chunks, bare line feeds, folded headers are errors), never follows,
decodes or adds anything, and gives a connection back only when the last answer on it has ended cleanly.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import httptools

from proxy.headers import HeaderList

HIGH_WATER = 2**17
"""Bytes of an answer that may wait for a slow client before the backend is held back."""

MAX_HEAD = 2**16
"""Bytes of an answer's head: far above real ones."""

_BODILESS = frozenset({204, 304})


class ConnectionBroken(Exception):
    """The connection ended too early, or what came over it is not HTTP/1.1. `answered`: part of an answer had come."""

    def __init__(self, why: str, *, answered: bool) -> None:
        super().__init__(why)
        self.answered = answered


@dataclass(slots=True)
class Head:
    """The head of an answer. `length` is None where chunks or the end of the connection delimit the body."""

    status: int
    reason: str
    headers: HeaderList
    length: int | None


class Connection(asyncio.Protocol):
    """One connection to a backend, used for one exchange after another, never for two at once."""

    def __init__(self, released: Callable[[Connection], None]) -> None:
        self._released = released
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._can_write = asyncio.Event()
        self._can_write.set()
        self.idle_since = 0.0
        self.reused = False
        self.closed = False
        self._busy = False
        self._begin("GET")

    # One exchange.

    def _begin(self, method: str) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._method = method
        self._status, self._reason = 0, b""
        self._headers: HeaderList = []
        self._head: asyncio.Future[Head] | None = None
        self._pieces: deque[bytes] = deque()
        self._waiting_bytes = self._head_bytes = 0
        self._arrived: asyncio.Future[None] | None = None
        self._complete = self._keep_alive = self._until_close = self._sent = False
        self._error: ConnectionBroken | None = None

    def start(self, method: str, head: bytes) -> asyncio.Future[Head]:
        """Send a request's head, with the body where it is at hand; the answer's head is to come."""
        assert not self._busy, "a connection carries one exchange at a time"
        assert self._transport is not None, "a connection is used after it was made"
        self._begin(method)
        self._busy = True
        self._head = self._loop.create_future()
        if self.closed:
            self._fail("the connection was closed")
        else:
            self._transport.write(head)
        return self._head

    async def send_body(self, pieces: AsyncIterator[bytes], chunked: bool) -> None:
        """Send a body piece by piece, no faster than the backend takes it."""
        async for piece in pieces:
            self._write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            await self._can_write.wait()
        if chunked:
            self._write(b"0\r\n\r\n")

    def _write(self, data: bytes) -> None:
        if self._transport is None or self.closed:
            raise self._error or ConnectionBroken("the connection was closed", answered=bool(self._status))
        self._transport.write(data)

    def sent(self) -> None:
        """The whole request is out; only then may the connection be used again."""
        self._sent = True
        self._give_back_if_done()

    async def read(self) -> bytes:
        """The next piece of the body as it arrived; empty at its end."""
        while not self._pieces:
            if self._error is not None:
                raise self._error
            if self._complete:
                return b""
            self._arrived = self._loop.create_future()
            await self._arrived
        piece = self._pieces.popleft()
        self._waiting_bytes -= len(piece)
        if self._waiting_bytes < HIGH_WATER and self._transport is not None and not self.closed:
            self._transport.resume_reading()
        self._give_back_if_done()
        return piece

    def _give_back_if_done(self) -> None:
        """Free for the next exchange when request and answer are complete, and everything was read."""
        if self._busy and self._complete and self._sent and not self._pieces:
            self._busy = False
            if self._keep_alive and not self.closed:
                self.reused = True
                self.idle_since = self._loop.time()
                self._released(self)
            else:
                self.close()

    def close(self) -> None:
        """End the connection, and whatever is under way on it."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    # What the transport tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport), "a TCP connection is a transport"
        self._transport = transport

    def pause_writing(self) -> None:
        self._can_write.clear()

    def resume_writing(self) -> None:
        self._can_write.set()

    def data_received(self, data: bytes) -> None:
        if not self._busy or self._complete:
            # Bytes that nobody asked for: whatever they are, they must not become the next answer.
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail("switched protocols unasked")
        except httptools.HttpParserError as error:
            self._fail(f"sent what is not HTTP/1.1 ({type(error).__name__})")

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        self._can_write.set()
        if not self._busy or self._complete:
            return
        if self._until_close and error is None:
            self.on_message_complete()
        else:
            self._fail("closed the connection")

    # What the parser tells.

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > MAX_HEAD:
            raise httptools.HttpParserError("the head is too large")
        self._headers.append(
            (name.decode("utf-8", "surrogateescape"), value.rstrip(b" \t").decode("utf-8", "surrogateescape"))
        )

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()
        if 100 <= self._status < 200:
            return
        length = self._framing()
        head = Head(self._status, self._reason.decode("latin-1"), self._headers, length)
        if self._head is not None and not self._head.done():
            self._head.set_result(head)
        if self._method == "HEAD":
            # The parser cannot know that no body follows; it is not asked again.
            self._keep_alive = self._parser.should_keep_alive()
            self._end()

    def _framing(self) -> int | None:
        """The body's length, and whether the end of the connection ends it (RFC 9112 §6.3)."""
        length, chunked = None, False
        for name, value in self._headers:
            lowered = name.lower()
            if lowered == "content-length":
                length = int(value)
            elif lowered == "transfer-encoding":
                if value.lower() != "chunked" or chunked:
                    raise httptools.HttpParserError("a transfer encoding other than chunked")
                chunked = True
        has_body = self._method != "HEAD" and self._status not in _BODILESS
        self._until_close = has_body and length is None and not chunked
        return length if has_body or self._method == "HEAD" else 0

    def on_body(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._waiting_bytes += len(piece)
        if self._waiting_bytes >= HIGH_WATER and self._transport is not None and not self.closed:
            self._transport.pause_reading()
        self._wake()

    def on_message_complete(self) -> None:
        if 100 <= self._status < 200:
            # An interim answer: the final one follows on the same connection (RFC 9110 §15.2).
            if self._status == 101:
                raise httptools.HttpParserError("switched protocols unasked")
            self._status, self._reason, self._headers = 0, b"", []
            return
        self._keep_alive = self._parser.should_keep_alive() and not self._until_close
        self._end()

    def _end(self) -> None:
        self._complete = True
        self._wake()
        self._give_back_if_done()

    def _fail(self, why: str) -> None:
        self._error = ConnectionBroken(why, answered=bool(self._status))
        if self._head is not None and not self._head.done():
            self._head.set_exception(self._error)
            # Whoever waited may have left already; a future that nobody asks is no fault.
            self._head.exception()
        self._wake()
        self.close()

    def _wake(self) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)


class Pool:
    """The connections to one address. Idle ones are used newest first, and dropped before the backend drops them."""

    def __init__(self, host: str, port: int, connect_timeout_s: float, keepalive_s: float) -> None:
        self._host, self._port = host, port
        self._connect_timeout_s = connect_timeout_s
        self._keepalive_s = keepalive_s
        self._idle: list[Connection] = []
        self._closed = False

    async def acquire(self, *, fresh: bool = False) -> Connection:
        """A connection that nobody uses. Raises OSError or TimeoutError when none can be made."""
        loop = asyncio.get_running_loop()
        while self._idle:
            connection = self._idle.pop()
            if not fresh and not connection.closed and loop.time() - connection.idle_since < self._keepalive_s:
                return connection
            connection.close()
        async with asyncio.timeout(self._connect_timeout_s):
            _, made = await loop.create_connection(lambda: Connection(self._release), self._host, self._port)
        return made

    def _release(self, connection: Connection) -> None:
        if self._closed:
            connection.close()
        else:
            self._idle.append(connection)

    def close(self) -> None:
        self._closed = True
        for connection in self._idle:
            connection.close()
        self._idle.clear()

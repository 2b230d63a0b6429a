"""HTTP as bytes: a backend that records exactly what arrives, and a client that sends exactly what it is told.

Neither of them uses an HTTP library, so that nothing is repaired, normalised or invented on the way.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from tests import canaries

PATIENCE_S = 10
"""For anything that has to arrive; a test that waits this long has failed."""

HeaderBytes = list[tuple[bytes, bytes]]


def split_head(head: bytes) -> tuple[bytes, HeaderBytes]:
    """The first line, and the headers in their order and spelling."""
    first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    return first, [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]


async def read_head(reader: asyncio.StreamReader) -> bytes:
    """Up to and with the empty line; empty when the peer closes before it sends anything."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return b""


async def read_chunks(reader: asyncio.StreamReader) -> list[bytes]:
    """The chunks of a chunked body. Raises IncompleteReadError when it is cut."""
    chunks = []
    while size := int((await reader.readuntil(b"\r\n")).removesuffix(b"\r\n"), 16):
        chunks.append(await reader.readexactly(size))
        assert await reader.readexactly(2) == b"\r\n"
    assert await reader.readexactly(2) == b"\r\n", "there are no trailers"
    return chunks


@dataclass
class Message:
    """A request or an answer as it came over the wire. `body` is without the framing of chunks."""

    first: bytes
    headers: HeaderBytes
    body: bytes = b""

    def values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    @property
    def status(self) -> int:
        return int(self.first.split(b" ")[1])

    @property
    def length(self) -> int | None:
        values = self.values(b"content-length")
        return int(values[0]) if values else None

    @property
    def chunked(self) -> bool:
        return self.values(b"transfer-encoding") == [b"chunked"]


@dataclass
class Visit:
    """One request that has reached the backend; its body has not been read yet."""

    request: Message
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    connection: int

    async def body(self) -> bytes:
        """Read the request's body."""
        if self.request.chunked:
            self.request.body = b"".join(await read_chunks(self.reader))
        elif self.request.length:
            self.request.body = await self.reader.readexactly(self.request.length)
        return self.request.body

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """End the connection as a crash does."""
        self.writer.transport.abort()

    async def gone(self) -> None:
        """Until the other side has ended the connection."""
        while await self.reader.read(2**16):
            pass


Script = Callable[[Visit], Awaitable[None]]
"""What the backend does with a request. When it returns, the connection waits for the next request."""

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def answering(data: bytes) -> Script:
    """Read the whole request, then send these bytes; of an answer to HEAD only the head."""

    async def script(visit: Visit) -> None:
        await visit.body()
        is_head = visit.request.first.startswith(b"HEAD ")
        await visit.send(data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if is_head else data)

    return script


def closing(data: bytes) -> Script:
    """Read the whole request, send these bytes, and close the connection."""

    async def script(visit: Visit) -> None:
        await visit.body()
        await visit.send(data)
        visit.writer.close()

    return script


def json_answer(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    head = [b"HTTP/1.1 " + status, b"Content-Type: application/json", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
"""The head of an event stream."""


def event(document: object) -> bytes:
    """One event of such a stream."""
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def chunk(data: bytes) -> bytes:
    """One chunk; an empty one is the end of a body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


@dataclass
class RawBackend:
    """A server that answers by script. `requests` has everything that reached it, in order."""

    script: Script = field(default_factory=lambda: answering(OK))
    requests: list[Message] = field(default_factory=list)
    connections: int = 0
    url: str = ""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the other side has ended a connection."""

    async def start(self, port: int = 0) -> None:
        """Listen, on a port that is free unless one is given."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: set[asyncio.StreamWriter] = set()
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", port, limit=2**20)
        host, port = self._server.sockets[0].getsockname()
        self.url = f"http://{host}:{port}"

    def reset(self) -> None:
        """As if nothing had happened: no connections, no requests, the plain answer."""
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()
        self.script = answering(OK)
        self.requests, self.connections = [], 0
        self.arrived, self.left = asyncio.Event(), asyncio.Event()

    async def stop(self) -> None:
        self._server.close()
        await self._server.wait_closed()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        connection, left = self.connections, self.left
        self._open.add(writer)
        try:
            while head := await read_head(reader):
                visit = Visit(Message(*split_head(head)), reader, writer, connection)
                self.requests.append(visit.request)
                self.arrived.set()
                await self.script(visit)
                if writer.is_closing():
                    return
            left.set()
        except (ConnectionError, asyncio.IncompleteReadError):
            left.set()
        finally:
            self._open.discard(writer)
            writer.close()


@dataclass
class RawClient:
    """One connection to Farebox."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def connect(cls, host: str, port: int, source: str | None = None) -> RawClient:
        """`source` is an address of this machine that the connection comes from."""
        local = None if source is None else (source, 0)
        return cls(*await asyncio.open_connection(host, port, limit=2**20, local_addr=local))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, method: str = "GET") -> Message:
        """The next answer. Raises IncompleteReadError when it is cut short."""
        async with asyncio.timeout(PATIENCE_S):
            message = await self.head()
            if method == "HEAD" or message.status in (204, 304) or message.status < 200:
                return message
            if message.chunked:
                message.body = b"".join(await read_chunks(self.reader))
            elif message.length is not None:
                message.body = await self.reader.readexactly(message.length)
            else:
                message.body = await self.reader.read()
        _search(message.body)
        return message

    async def head(self) -> Message:
        async with asyncio.timeout(PATIENCE_S):
            head = await read_head(self.reader)
        if not head:
            raise asyncio.IncompleteReadError(b"", None)
        return Message(*split_head(head))

    async def chunk(self) -> bytes:
        """The next chunk of a chunked answer; empty for its end."""
        async with asyncio.timeout(PATIENCE_S):
            size = int((await self.reader.readuntil(b"\r\n")).removesuffix(b"\r\n"), 16)
            return (await self.reader.readexactly(size + 2))[:-2]

    async def rest(self) -> bytes:
        """Everything until the connection ends; what a reset leaves counts as its end."""
        data = b""
        with suppress(ConnectionError):
            async with asyncio.timeout(PATIENCE_S):
                while piece := await self.reader.read(2**16):
                    data += piece
        _search(data)
        return data

    def leave(self) -> None:
        """End the connection as a crash does."""
        self.writer.transport.abort()

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


def _search(data: bytes) -> None:
    """Farebox's own answers have an id in their body, and must have no secret."""
    if b'"request_id"' in data:
        canaries.search("an answer", data)


def request(line: str, *headers: str, body: bytes = b"") -> bytes:
    """The bytes of a request. `Host`, `Content-Length` and, for JSON, `Content-Type` are added unless given."""
    lines = [f"{line} HTTP/1.1" if not re.search(r" HTTP/\d", line) else line]
    names = {header.partition(":")[0].strip().lower() for header in headers}
    if "host" not in names:
        lines.append("Host: app.example.com")
    lines += headers
    if b'{"' in body and "content-type" not in names:
        lines.append("Content-Type: application/json")
    if body and not names & {"content-length", "transfer-encoding"}:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body


def chunked(*chunks: bytes) -> bytes:
    """A whole chunked body."""
    return b"".join(chunk(piece) for piece in [*chunks, b""])

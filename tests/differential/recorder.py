"""Backends that keep every byte: one records requests and answers each that is whole, one answers with given bytes.

The recording one reads no more of HTTP than Farebox writes: a head, and a length or plain chunks. What it cannot read
it does not answer, and that is seen.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field

ANSWERED = b"X-Backend: 1"
"""In every answer of the recording backend."""

_LENGTH = re.compile(rb"\r\ncontent-length: ([0-9]+)\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: chunked\r\n", re.IGNORECASE)
_LAST_CHUNK = b"0\r\n\r\n"


def end_of_request(data: bytes) -> int | None:
    """Where the first request in `data` ends, if it does."""
    head = data.find(b"\r\n\r\n") + 4
    if head < 4:
        return None
    if length := _LENGTH.search(data[:head]):
        end = head + int(length[1])
        return end if end <= len(data) else None
    if not _CHUNKED.search(data[:head]):
        return head
    at = head
    while (line := data.find(b"\r\n", at)) >= 0:
        size = int(data[at:line], 16)
        if size == 0:
            return line + 4 if data[line:].startswith(b"\r\n\r\n") else None
        at = line + 2 + size + 2
    return None


@dataclass(eq=False)
class Recorded:
    """One connection: all that came, and how much of it was told of and answered."""

    data: bytes = b""
    told: int = 0
    answered: int = 0
    closed: bool = False


@dataclass
class Recorder:
    """A backend of one client, which sends one thing after the other."""

    connections: list[Recorded] = field(default_factory=list)
    url: str = ""

    async def start(self) -> None:
        self._server = await asyncio.get_running_loop().create_server(lambda: _Recording(self), "127.0.0.1", 0)
        self.url = "http://{}:{}".format(*self._server.sockets[0].getsockname())

    async def stop(self) -> None:
        self._server.close()

    @property
    def is_settled(self) -> bool:
        """Whether nothing is half here: what was begun is whole, or its connection has ended."""
        return all(one.closed or one.answered == len(one.data) for one in self.connections)

    def news(self) -> list[bytes]:
        """What has come on each connection since this was asked last."""
        pieces = [one.data[one.told :] for one in self.connections]
        for one in self.connections:
            one.told = len(one.data)
        self.connections = [one for one in self.connections if not one.closed]
        return [piece for piece in pieces if piece]


class _Recording(asyncio.Protocol):
    def __init__(self, recorder: Recorder) -> None:
        self._recorded = Recorded()
        recorder.connections.append(self._recorded)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        one = self._recorded
        one.data += data
        while (end := end_of_request(one.data[one.answered :])) is not None and one.answered < len(one.data):
            is_head = one.data[one.answered :].startswith(b"HEAD ")
            one.answered += end
            head = b"HTTP/1.1 200 OK\r\n" + ANSWERED + b"\r\nContent-Length: 2\r\n\r\n"
            self._transport.write(head if is_head else head + b"ok")

    def connection_lost(self, error: Exception | None) -> None:
        self._recorded.closed = True


@dataclass
class Answerer:
    """A backend that answers every request with `answer`, and then closes, or leaves the connection open."""

    answer: bytes = b""
    closes: bool = True
    url: str = ""

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = "http://{}:{}".format(*self._server.sockets[0].getsockname())

    async def stop(self) -> None:
        self._server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(self.answer)
                await writer.drain()
                if self.closes:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

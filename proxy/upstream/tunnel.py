"""A connection to a backend that has switched to another protocol: bytes in both directions, until either side ends it.

Made by a `Connection`, whose transport it takes over with the answer 101 (RFC 9110 §7.8). It knows nothing of what it
carries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from proxy.upstream.exchange import UpstreamBroken

HIGH_WATER = 64 * 2**10
"""Bytes that wait for a slow client before the backend is held back; one read more may come on top."""

FLUSH_S = 5
"""How long the last bytes may take to leave."""


class Tunnel(asyncio.Protocol):
    """`over` is called once, when the connection has ended."""

    def __init__(
        self, name: str, transport: asyncio.Transport, begun: Sequence[bytes], over: Callable[[], None]
    ) -> None:
        """`begun` is what has come behind the answer already."""
        self._name = name
        self._transport = transport
        self._pieces = list(begun)
        self._over = over
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._held_back = self._ended = self._finishing = False
        transport.set_protocol(self)

    async def read(self) -> bytes:
        """What has arrived since the last time, at least a byte; empty when the connection has ended."""
        while not self._pieces:
            if self._ended:
                return b""
            self._waiter = self._loop.create_future()
            await self._waiter
        data = b"".join(self._pieces)
        self._pieces.clear()
        if self._held_back:
            self._held_back = False
            self._transport.resume_reading()
        return data

    async def write(self, data: bytes) -> None:
        """Send; a slow backend holds the caller back. Raises UpstreamBroken when the connection has ended."""
        if not self._ended:
            self._transport.write(data)
        if self._writable is not None:
            await self._writable
        if self._ended:
            raise UpstreamBroken(f"upstream {self._name!r} ended the connection")

    def write_eof(self) -> None:
        """Nothing more will be sent."""
        if not self._ended and self._transport.can_write_eof():
            self._transport.write_eof()

    def finish(self) -> None:
        """End the connection once what was written has left."""
        if not self._finishing:
            self._finishing = True
            self._transport.close()
            self._loop.call_later(FLUSH_S, self._transport.abort)

    def abandon(self) -> None:
        """End it at once, unless it has been told to finish."""
        if not self._finishing:
            self._transport.abort()

    # What the transport calls.

    def data_received(self, data: bytes) -> None:
        self._pieces.append(data)
        self._wake()
        if not self._held_back and sum(map(len, self._pieces)) > HIGH_WATER:
            self._held_back = True
            self._transport.pause_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self._ended = True
        self._wake()
        self.resume_writing()
        self._over()

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

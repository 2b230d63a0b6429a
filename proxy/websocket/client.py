"""The client's end of a WebSocket: its connection, taken over from aiohttp's server once the switch is granted."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from aiohttp import web

HIGH_WATER = 64 * 2**10
"""Bytes that wait for a slow backend before the client is held back; one read more may come on top."""


class ClientEnd:
    """Bytes from and to the client. `response` is the answer that granted the switch, and has been sent."""

    def __init__(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        self._protocol = request.protocol
        self._response = response
        self._loop = asyncio.get_running_loop()
        self._pieces: list[bytes] = []
        self._waiting = 0
        self._waiter: asyncio.Future[None] | None = None
        self._held_back = self._ended = False
        # After the answer the connection ends. What has come behind the request is handed over by this, and what
        # comes; of the reader of aiohttp's own WebSockets, which it expects here, it calls what is below.
        response.force_close()
        request.protocol.set_parser(cast(Any, self))
        self._transport = request.transport

    async def read(self) -> bytes:
        """What has arrived since the last time, at least a byte; empty when the client has left."""
        while not self._pieces:
            if self._ended:
                return b""
            self._waiter = self._loop.create_future()
            await self._waiter
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._waiting = 0
        if self._held_back:
            self._held_back = False
            self._protocol.resume_reading()
        return data

    async def write(self, data: bytes) -> None:
        """Send; a slow client holds the caller back. Raises ConnectionError when it has left."""
        await self._response.write(data)

    def write_eof(self) -> None:
        """Nothing more will be sent."""
        if self._transport is not None and self._transport.can_write_eof():
            self._transport.write_eof()

    def abort(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    # What aiohttp's server calls.

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self._pieces.append(data)
        # Counted along: to add up many tiny pieces anew with each takes the square of their number.
        self._waiting += len(data)
        self._wake()
        if not self._held_back and self._waiting > HIGH_WATER:
            self._held_back = True
            self._protocol.pause_reading()
        return False, b""

    def feed_eof(self) -> None:
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

"""The answer of a backend as the pipeline sees it: the head at once, the body piece by piece as it arrives."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Protocol, Self

from proxy.headers import HeaderList
from proxy.upstream.parsing import AnswerParser
from proxy.upstream.tunnel import Tunnel

HIGH_WATER = 64 * 2**10
"""Bytes of a body that wait for a slow client before the backend is held back; one read more may come on top."""


class Carrier(Protocol):
    """The connection that an answer arrives on."""

    def hold_back(self, hold: bool) -> None:
        """Stop reading from the backend, or go on."""

    async def abandon(self, parser: AnswerParser) -> None:
        """End the exchange that `parser` reads, if it is not over, and with it the connection; leave its body alone."""


class UpstreamAnswer:
    """The head of an answer, with its body still to come. Use it in `async with`: it gives its connection back."""

    __slots__ = (
        "_carrier",
        "_error",
        "_held_back",
        "_over",
        "_parser",
        "_waiter",
        "headers",
        "length",
        "reason",
        "status",
        "taken",
        "tunnel",
    )

    def __init__(self, parser: AnswerParser, carrier: Carrier, tunnel: Tunnel | None = None) -> None:
        """`tunnel` is what the connection has become with this answer, which is then 101."""
        self.status = parser.status
        self.reason = parser.reason
        self.headers: HeaderList = parser.headers
        self.length = parser.length
        self.taken = 0
        """Bytes of the body that were read so far, as they came."""
        self.tunnel = tunnel
        self._parser = parser
        self._carrier = carrier
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self._held_back = False
        self._over = False

    async def read(self) -> bytes:
        """What has arrived since the last time, at least a byte; empty at the end.

        Raises UpstreamBroken when the answer is cut short and UpstreamTimeout when it stops.
        """
        while not (pieces := self._parser.pieces):
            if self._error is not None:
                raise self._error
            if self._parser.complete:
                return b""
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self.taken += len(data)
        if self._held_back:
            self._hold_back(False)
        return data

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A connection that still carries the rest of an answer, or of a request, must never be used again. And the
        # request's body is its client's again: when the answer is over, the rest of it may still be on its way.
        await self._carrier.abandon(self._parser)

    # For the connection.

    def arrived(self) -> None:
        """More of the body is there."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if not self._held_back and not self._parser.complete and sum(map(len, self._parser.pieces)) > HIGH_WATER:
            self._hold_back(True)

    def over(self, error: Exception | None) -> None:
        """Nothing more will come: the answer is complete, or `error` says why it is not."""
        self._over, self._error = True, error
        self.arrived()

    def _hold_back(self, hold: bool) -> None:
        if not self._over:
            self._held_back = hold
            self._carrier.hold_back(hold)

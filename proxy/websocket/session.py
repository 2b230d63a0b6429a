"""One WebSocket from its switch to its end: frames from either side to the other, as they come.

What either side does to end it is done to the other one: a close frame passes, a connection that ends without one ends
the other without one. Farebox itself closes it, with a code (RFC 6455 §7.4.1), for what breaks the protocol, for a
message beyond the bound, in silence, when it stops, and when what comes next is not paid for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from proxy.upstream.client import UpstreamBroken
from proxy.upstream.deadline import Deadline
from proxy.upstream.tunnel import Tunnel
from proxy.websocket.client import ClientEnd
from proxy.websocket.frames import Code, FrameReader, close_frame

Side = Literal["client", "backend"]

LINGER_S = 2
"""How long a client is listened to after a close frame of ours, so that it can answer (RFC 6455 §7.1.1)."""

GOING_S = 20
"""How long a session may bring to its end what is paid for already, once Farebox stops or its own time is over; less
than the stop of Farebox takes itself."""


class Tab(Protocol):
    """Who decides whether messages may pass, and hears of those that have."""

    @property
    def busy(self) -> bool:
        """Whether something that was paid for is under way."""

    def may_begin(self, side: Side) -> bool:
        """Take the right for a message of `side`, if there is one."""

    async def turn(self, side: Side) -> None:
        """Wait for that right, and take it."""

    def ended(self, side: Side, text: bytes | None) -> bool:
        """A message of `side` is complete. True when its last bytes have to wait until it is settled."""

    def missed(self) -> None:
        """A message that was to be read is too long for that."""

    async def settled(self) -> None:
        """Until it is."""


class FreeTab:
    """Everything passes."""

    busy = False

    def may_begin(self, side: Side) -> bool:
        return True

    async def turn(self, side: Side) -> None:
        """Never waited for."""

    def ended(self, side: Side, text: bytes | None) -> bool:
        return False

    def missed(self) -> None:
        """Nothing is read."""

    async def settled(self) -> None:
        """Never waited for."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of one session: bytes of a message, seconds of silence and of life, bytes of a text that are kept to be read."""

    max_message: int
    idle_s: float
    total_s: float | None = None
    kept: int = 0


@dataclass(slots=True)
class _Way:
    """One direction: where its bytes come from and go to, and how far they have come."""

    side: Side
    read: Callable[[], Awaitable[bytes]]
    write: Callable[[bytes], Awaitable[None]]
    frames: FrameReader
    whole: bool = True
    """Whether what was passed on ends with a whole frame, so that another one may follow."""


class Session:
    """Bytes in both directions, until `run` returns."""

    def __init__(self, client: ClientEnd, backend: Tunnel, bounds: Bounds, tab: Tab, *, extended: bool) -> None:
        """`extended` when client and backend have agreed upon an extension."""
        size, kept = bounds.max_message, bounds.kept
        from_client = FrameReader(masked=True, extended=extended, max_message=size)
        from_backend = FrameReader(masked=False, extended=extended, max_message=size, kept=kept)
        self._client, self._backend, self._tab = client, backend, tab
        self._up = _Way("client", client.read, backend.write, from_client)
        self._down = _Way("backend", backend.read, client.write, from_backend)
        self._idle_s, self._total_s = bounds.idle_s, bounds.total_s
        self._idle = Deadline(lambda: self.close(Code.GOING_AWAY, "idle for too long"))
        self._loop = asyncio.get_running_loop()
        self._verdict: asyncio.Future[tuple[Code, str]] = self._loop.create_future()
        self._leaving: asyncio.TimerHandle | None = None
        self._why = ""

    def close(self, code: Code, reason: str) -> None:
        """End it from here. The first reason counts."""
        if not self._verdict.done():
            self._verdict.set_result((code, reason))

    def leave(self, why: str = "the service is restarting") -> None:
        """Farebox stops, or its time is over: end it between two messages, and when nothing that is paid for is under
        way.
        """
        if self._leaving is None:
            self._why = why
            self._leaving = self._loop.call_later(GOING_S, self._go)
        self._leave_if_quiet()

    async def run(self) -> None:
        """Until either side, or Farebox, has ended it. Both connections are over then, or on their way to it."""
        self._idle.wait(self._idle_s)
        life = self._loop.call_later(self._total_s, self.leave, "open for too long") if self._total_s else None
        pumps = [self._loop.create_task(self._pump(way)) for way in (self._up, self._down)]
        ends: list[asyncio.Future[Any]] = [*pumps, self._verdict]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._idle.close()
            if life is not None:
                life.cancel()
            if self._leaving is not None:
                self._leaving.cancel()
            for pump in pumps:
                pump.cancel()
            faults = await asyncio.gather(*pumps, return_exceptions=True)
        for fault in faults:
            if isinstance(fault, Exception):
                raise fault
        if self._verdict.done():
            await self._say_why(*self._verdict.result())
        self._backend.finish()

    async def _pump(self, way: _Way) -> None:
        """Pass on what comes from one side, until it ends."""
        try:
            while data := await way.read():
                self._idle.wait(self._idle_s)
                await self._pass(way, data)
                if self._leaving is not None:
                    self._leave_if_quiet()
                if way.frames.bad is not None:
                    self.close(way.frames.bad.code, way.frames.bad.text)
                    return
        except (UpstreamBroken, ConnectionError):
            # The other side has left; its own pump comes to its end as well, with what it has said last.
            await asyncio.sleep(LINGER_S)

    async def _pass(self, way: _Way, data: bytes) -> None:
        ready: list[bytes] = []
        for part in way.frames.feed(data):
            if part.begins and not self._tab.may_begin(way.side):
                await _write(way, ready)
                await self._tab.turn(way.side)
            if part.missed:
                self._tab.missed()
            if part.ends and self._tab.ended(way.side, part.text):
                await _write(way, ready)
                await self._tab.settled()
            ready.append(part.data)
            way.whole = part.over
        await _write(way, ready)

    def _leave_if_quiet(self) -> None:
        if not (self._up.frames.in_message or self._down.frames.in_message or self._tab.busy):
            self._go()

    def _go(self) -> None:
        self.close(Code.GOING_AWAY, self._why)

    async def _say_why(self, code: Code, reason: str) -> None:
        """A close frame to whom one can be sent; to others the end of the connection says it."""
        try:
            async with asyncio.timeout(LINGER_S):
                if self._up.whole and not self._up.frames.closed:
                    await self._backend.write(close_frame(code, reason, masked=True))
                    self._backend.write_eof()
                if not self._down.whole:
                    self._client.abort()
                elif not self._down.frames.closed:
                    await self._client.write(close_frame(code, reason, masked=False))
                    self._client.write_eof()
                    await self._hear_out()
        except (TimeoutError, UpstreamBroken, ConnectionError):
            # Whoever does not listen is not told.
            return

    async def _hear_out(self) -> None:
        """Until the client has answered, or left: ended at once, the connection might take our frame with it."""
        while not self._up.frames.closed and (data := await self._client.read()):
            self._up.frames.feed(data)


async def _write(way: _Way, ready: list[bytes]) -> None:
    if ready:
        data = b"".join(ready)
        ready.clear()
        await way.write(data)

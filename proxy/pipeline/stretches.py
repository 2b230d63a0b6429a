"""What a WebSocket consumes: counted and read as its messages pass, and paid for in stretches.

A stretch is a part of a connection that one hold pays for: a block of messages, or what one stated usage is about. The
first is paid for before the switch, and each further one when a message comes that needs it. That message waits until
the ledger has answered; between two stretches nothing is held. So nothing passes unpaid, and a quiet connection binds
nobody's credits.

Used by `proxy.pipeline.websockets`, which pays; the session asks it at each message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from decimal import Decimal

from config.routes import WebSocket
from proxy import strict_json
from proxy.pipeline.metering import mark_of
from proxy.pipeline.usage import NOTHING_PASSED, Wanted, states_any, usage_in
from proxy.strict_json import Unreadable
from proxy.websocket.session import Side

MESSAGES = "messages"
"""The unit that counted messages are priced by."""


def stretch_units(websocket: WebSocket | None) -> Mapping[str, Decimal]:
    """What a stretch is quoted for besides the units that the request states."""
    counts = websocket is not None and websocket.charge == "messages"
    return {MESSAGES: Decimal(websocket.block)} if websocket is not None and counts else {}


class Stretch:
    """The stretch that is open, if one is, and what waits for the next. The first one is open from the beginning."""

    def __init__(self, websocket: WebSocket, wanted: Sequence[Wanted]) -> None:
        """`wanted` are the units of the route's usage, with their places."""
        self._websocket = websocket
        self._wanted = wanted
        self._marks = tuple(mark_of(unit.pointer) for unit in wanted if unit.pointer is not None)
        self._by_messages = websocket.charge == "messages"
        self._left = 0
        self._open = False
        self._free = asyncio.Event()
        self._settled = asyncio.Event()
        self.over = asyncio.Event()
        """Set when everything that the open stretch pays for has passed."""
        self.needed = asyncio.Event()
        """Set when something waits for the next stretch."""
        self.begun = False
        """Whether a counted message has begun within it."""
        self.count = 0
        """Counted messages that have passed whole."""
        self.stated: Mapping[str, Decimal] | None = None
        """The usage that was stated; None where it could not be believed."""
        self.may_lack = False
        """Whether a text was too long to be read, and may have stated something: then the quote is the least."""
        self._was_stated = False
        self.open()

    def open(self) -> None:
        """The next stretch is paid for."""
        self._open, self._left, self.count, self.begun = True, self._websocket.block, 0, False
        self.over.clear()
        self.needed.clear()
        self._free.set()
        if self._was_stated:
            # It was stated while none was open: this one is for it.
            self._end()

    def close(self) -> None:
        """The stretch is settled."""
        self._open = self.may_lack = False
        if self._was_stated:
            self._was_stated, self.stated = False, None
            self._settled.set()

    @property
    def was_stated(self) -> bool:
        return self._was_stated

    @property
    def cut(self) -> int:
        """Counted messages that have begun and are not whole."""
        return self._websocket.block - self._left - self.count if self._by_messages else 0

    def goes_on(self, talking: bool) -> bool:
        """Whether another stretch is to be paid for. A usage that was stated is, though its client has left."""
        return talking or self._was_stated

    def is_all(self, amount: int | None, quote: int) -> bool:
        """Whether what was stated is all: where a text was missed, only a usage that costs the quote at least is."""
        return not self.may_lack or (amount or 0) >= quote

    # What the session asks.

    @property
    def busy(self) -> bool:
        """Whether an answer is under way whose usage is still to be stated."""
        return self._open and self.begun and not self._by_messages

    def may_begin(self, side: Side) -> bool:
        if self._websocket.counted not in (side, "both"):
            return True
        if not self._open or self.over.is_set() or not self._left:
            return False
        self.begun = True
        if self._by_messages:
            self._left -= 1
        return True

    async def turn(self, side: Side) -> None:
        while not self.may_begin(side):
            self._free.clear()
            self.needed.set()
            await self._free.wait()

    def ended(self, side: Side, text: bytes | None) -> bool:
        if self._by_messages:
            if self._websocket.counted in (side, "both"):
                self.count += 1
                if self.count == self._websocket.block:
                    self._end()
            return False
        return side == "backend" and text is not None and self._read(text)

    def missed(self) -> None:
        self.may_lack = True

    async def settled(self) -> None:
        await self._settled.wait()

    def _read(self, text: bytes) -> bool:
        """Whether a text states a usage, which is then what the stretch has cost."""
        if not any(mark in text for mark in self._marks):
            # A cheap look before the expensive one.
            return False
        try:
            document = strict_json.parse(text)
        except Unreadable:
            return False
        if not states_any(document, self._wanted):
            return False
        self._was_stated, self.stated = True, usage_in([document], self._wanted, NOTHING_PASSED)
        self._settled.clear()
        if self._open:
            self._end()
        else:
            self.needed.set()
        return True

    def _end(self) -> None:
        self.over.set()

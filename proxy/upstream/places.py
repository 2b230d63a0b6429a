"""How many exchanges a backend is given at once, and the line of those that wait. Fair: first come, first served."""

from __future__ import annotations

import asyncio
from collections import deque

from proxy.upstream.exchange import UpstreamBusy


class Places:
    """`size` places for exchanges, and a line of at most `line` that wait for one, each for `timeout_s` seconds."""

    def __init__(self, name: str, size: int, line: int, timeout_s: float) -> None:
        self._name = name
        self._free = size
        self._line = line
        self._timeout_s = timeout_s
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def take(self) -> None:
        """Have a place, which must be given back. Raises UpstreamBusy when there is none in time."""
        if self._free > 0:
            # Then nobody waits: a place that is given back goes to the first in the line.
            self._free -= 1
            return
        if len(self._waiting) >= self._line:
            raise UpstreamBusy(f"upstream {self._name!r} is busy, and {self._line} requests wait for it already")
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(self._timeout_s):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                # The place came and the one who waited has left at the same moment.
                self.give_back()
            else:
                self._waiting.remove(turn)
            if isinstance(error, TimeoutError):
                text = f"upstream {self._name!r} is busy, and no place came free within {self._timeout_s:g} s"
                raise UpstreamBusy(text) from None
            raise

    def give_back(self) -> None:
        """The place goes to the first in the line."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

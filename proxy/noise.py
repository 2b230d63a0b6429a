"""Lines that anybody can cause: so many for each source and minute, and the rest as a number.

Strangers can have requests refused as often as a network carries them: bytes that are no HTTP, made-up paths and
credentials. And a backend that is down or busy, or a store, fails every request that comes. A line for each would fill
a disk, and hide everything else. So each source, and each trouble, gets a few lines by which it can be looked into, and
at the end of the minute one that says how many more there were. What known callers do is told by the line of each
request, as always; `/metrics` counts everything.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

log = logging.getLogger("farebox.requests")

MINUTE_S = 60

LINES = 10
"""Of one source in a minute: enough to see what it does."""

SOURCES = 1000
"""Sources that are told apart in a minute, at about 300 bytes each. What comes from further ones is only counted; with
`LINES` for each this bounds what a minute can write."""

TOLD = 20
"""Sources that get a line of their own at the end of a minute: those with the most requests."""

OTHERS = "others"

STRANGERS = "and %d more refused, abandoned or preflight requests of %s within a minute"
TROUBLES = "and %d more requests within a minute: %s"


class Noise:
    """The noise of one kind that a process hears."""

    def __init__(self, level: int, text: str) -> None:
        """`text` says at the end of a minute how many more there were, and of which source."""
        self._level, self._text = level, text
        self._heard: Counter[str] = Counter()
        self._ends: asyncio.TimerHandle | None = None

    def is_told(self, source: str) -> bool:
        """Count one more of `source`; True when it may have a line of its own."""
        if self._ends is None:
            self._ends = asyncio.get_running_loop().call_later(MINUTE_S, self.tell)
        if source not in self._heard and len(self._heard) >= SOURCES:
            self._heard[OTHERS] += 1
            return False
        self._heard[source] += 1
        return self._heard[source] <= LINES

    def tell(self) -> None:
        """The minute is over, or Farebox stops: say what had no line."""
        if self._ends is not None:
            self._ends.cancel()
            self._ends = None
        untold = Counter({source: count - LINES for source, count in self._heard.items() if source != OTHERS})
        untold[OTHERS] = self._heard[OTHERS]
        told = (+untold).most_common(TOLD)
        rest = (+untold).total() - sum(count for _, count in told)
        for source, count in [*told, ("still others", rest)]:
            if count:
                log.log(self._level, self._text, count, source)
        self._heard.clear()

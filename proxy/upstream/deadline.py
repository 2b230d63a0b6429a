"""A moment by which something has to happen, moved with every piece that arrives and hardly ever reached.

Lazy: the loop's timer stays where it was set, and is set again when it fires too early. Moving it each time would cost
more than reading a piece does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf


class Deadline:
    """Calls `late` when its moment has come. Moments are by the clock of the loop, in seconds."""

    def __init__(self, late: Callable[[], None]) -> None:
        self._late = late
        self._loop = asyncio.get_running_loop()
        self._at = inf
        self._timer: asyncio.TimerHandle | None = None
        self.cut_at = inf
        """A moment that no move goes beyond."""

    def wait(self, seconds: float = inf) -> None:
        """From now on, so many seconds; without a number for as long as `cut_at` lets it."""
        self._set(min(self._loop.time() + seconds, self.cut_at))

    def stop(self) -> None:
        """There is nothing to wait for. The timer may fire, and finds that out."""
        self._at = self.cut_at = inf

    def close(self) -> None:
        """Give the timer up as well."""
        self.stop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def is_cut(self) -> bool:
        """Whether `cut_at` has come."""
        return self._loop.time() >= self.cut_at

    def _set(self, at: float) -> None:
        self._at = at
        if at == inf:
            return
        if self._timer is not None:
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._fired)

    def _fired(self) -> None:
        self._timer = None
        if self._loop.time() < self._at:
            self._set(self._at)
        else:
            self._late()

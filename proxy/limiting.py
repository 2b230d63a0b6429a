"""Rate and concurrency limits: which calls the limits of a policy let through now.

`policies.evaluate` says which limits a call has to keep, `policies.limiting` whether it does; here are the counters. By
default each process has its own, so that with several workers or nodes a limit is kept once by each of them. With
`counters: database` all that share a database count together (`store.rate_counters`), at the price of one more
transaction for each call that has limits.

`limits`, the kept library for this, was weighed: it asks the clock itself, counts a call towards one limit before it
looks at the next, and its memory grows with keys until a timer comes round.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

from policies.callers import Caller
from policies.limiting import Counted, Key, Limits, count
from policies.refusals import Refusal
from policies.terms import HoldId
from store import rate_counters
from store.engine import Database, StoreUnavailable

MAX_COUNTERS = 200_000
"""Counters kept, at about 200 bytes each. Beyond it the one that was used longest ago is dropped: its callers have
been quiet while two hundred thousand others called."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

log = logging.getLogger(__name__)


class Pass:
    """A call that was let through. Its places are its own until it leaves; `undo` takes it off its counters as well.

    While the call runs it is used in `with`.
    """

    __slots__ = ("_leave", "_left", "_undo", "exceeded")

    def __init__(self, counted: Counted, leave: Callable[[], None], undo: Callable[[], Awaitable[None]]) -> None:
        self.exceeded = counted.exceeded
        self._leave = leave
        self._undo = undo
        self._left = False

    async def undo(self) -> None:
        """The call is decided anew: it has not been made yet."""
        self._left = True
        await self._undo()

    def leave(self) -> None:
        """Give the places back. Safe to repeat."""
        if not self._left:
            self._left = True
            self._leave()

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.leave()


class Limiter(Protocol):
    """Whoever counts. The id of a call is that of its hold."""

    async def admit(self, limits: Limits, caller: Caller, call: HoldId, now: datetime) -> Refusal | Pass:
        """Count a call towards its limits; or the refusal of the first it does not keep, and nothing is counted."""

    async def close(self) -> None:
        """Wait for what is still to be written."""


class OwnLimiter:
    """The counters of one process."""

    def __init__(self, max_counters: int = MAX_COUNTERS) -> None:
        self._max = max_counters
        self._empty_at: OrderedDict[Key, int] = OrderedDict()
        self._running: dict[Key, int] = {}

    async def admit(self, limits: Limits, caller: Caller, call: HoldId, now: datetime) -> Refusal | Pass:
        moment = (now - _EPOCH) // _MICROSECOND
        counted = count(limits, caller, self._empty_at, self._running, moment)
        if isinstance(counted, Refusal):
            return counted
        for key, empty_at in counted.after.items():
            self._empty_at[key] = empty_at
            self._empty_at.move_to_end(key)
        while len(self._empty_at) > self._max:
            self._empty_at.popitem(last=False)
        for key in counted.places:
            self._running[key] = self._running.get(key, 0) + 1

        def leave() -> None:
            self._give_back(counted)

        async def undo() -> None:
            self._give_back(counted)
            for key, step in counted.steps.items():
                if key in self._empty_at:
                    self._empty_at[key] -= step

        return Pass(counted, leave, undo)

    async def close(self) -> None:
        pass

    def _give_back(self, counted: Counted) -> None:
        for key in counted.places:
            running = self._running[key] - 1
            if running:
                self._running[key] = running
            else:
                # Who runs nothing takes no memory.
                del self._running[key]


class SharedLimiter:
    """The counters of all processes on one database. Raises StoreUnavailable: who cannot count lets nobody through."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._leaving: set[asyncio.Task[None]] = set()

    async def admit(self, limits: Limits, caller: Caller, call: HoldId, now: datetime) -> Refusal | Pass:
        database = self._database
        # By the clock of the database, which is the same for all.
        counted = (
            await database.write(rate_counters.admit, limits, caller, call, database.now)
            if limits
            else Counted({}, {}, (), ())
        )
        if isinstance(counted, Refusal):
            return counted

        def leave() -> None:
            if counted.places:
                task = asyncio.create_task(self._left(call))
                self._leaving.add(task)
                task.add_done_callback(self._leaving.discard)

        async def undo() -> None:
            if limits:
                await database.write(rate_counters.undo, call, counted.steps)

        return Pass(counted, leave, undo)

    async def close(self) -> None:
        if self._leaving:
            await asyncio.wait(self._leaving)

    async def _left(self, call: HoldId) -> None:
        try:
            await self._database.write(rate_counters.leave, call)
        except StoreUnavailable as error:
            # Its hold ends all the same, and with it the place.
            log.warning("the place of a call could not be given back yet: %s", error)

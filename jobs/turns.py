"""Whose turn it is: one runner for each job across processes and nodes, once for each stretch of time.

A lease keeps two processes from running a job together; the moment of its last success keeps the second one from
repeating what the first one has just done. Neither is needed for correctness, since every job is safe to repeat:
they save work.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from config.clock import Clock
from store import leases
from store.opening import Store

LEASE = timedelta(seconds=60)
"""How long a job belongs to a process that has died; the longest batch takes seconds."""

RENEWAL = timedelta(seconds=10)
"""How old a lease may become before it is renewed: after every short batch it would double the number of writes."""


class Turn:
    """One process's turn at one job. A job asks `goes_on` after each of its batches."""

    def __init__(self, store: Store, clock: Clock, stop: asyncio.Event, job: str, holder: str) -> None:
        self._store = store
        self._clock = clock
        self._stop = stop
        self._job = job
        self._holder = holder
        self._token: int | None = None
        self._renewed_at = clock()
        self.cut_short = False
        """Whether the job was told not to go on."""

    async def begin(self) -> bool:
        """Take the lease; False while another process has it."""
        self._token = await self._acquire()
        return self._token is not None

    async def goes_on(self) -> bool:
        """Keep the lease. False when the process is to stop, or when somebody else had the lease meanwhile."""
        # Also when the clock was set back: then the lease is not what it seems.
        stale = not timedelta(0) <= self._clock() - self._renewed_at < RENEWAL
        self.cut_short = self._stop.is_set() or (stale and self._token != await self._acquire())
        return not self.cut_short

    async def end(self, succeeded: bool) -> None:
        """Give the lease back."""
        await self._store.database.write(leases.release, self._job, self._holder, self._clock(), succeeded)

    async def _acquire(self) -> int | None:
        self._renewed_at = self._clock()
        return await self._store.database.write(leases.acquire, self._job, self._holder, LEASE, self._renewed_at)

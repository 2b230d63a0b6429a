"""Jobs that the scheduler asks about: which are due, and when each is due again.

A row is written by the verb that binds a job to its hold, and read by one scheduler at a time. Nothing here ends a
hold: that is the ledger's, whoever has seen the end of the job.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy import Connection

from policies.terms import AccountId, HoldId
from store.columns import MICROSECOND
from store.open_holds import IS_OPEN
from store.tables import holds, job_watches

LAST_BEFORE = timedelta(seconds=20)
"""Before its deadline a job is asked about once more, however long the next wait is: time for the turn of a scheduler,
for the answer, and for writing it down."""


@dataclass(frozen=True, slots=True)
class Watched:
    """An open job that is due to be asked about."""

    hold_id: HoldId
    account_id: AccountId
    user_id: str
    route_id: str
    job_id: str
    path: str
    wait: timedelta
    longest: timedelta
    deadline: datetime


def due(connection: Connection, now: datetime, limit: int) -> list[Watched]:
    """Open jobs whose question is due, the longest due first."""
    columns = (holds.c.id, holds.c.account_id, holds.c.user_id, holds.c.route_id, holds.c.job_id)
    watch = (job_watches.c.path, job_watches.c.wait_us, job_watches.c.longest_us)
    query = (
        sa.select(*columns, *watch, holds.c.deadline)
        .join_from(job_watches, holds, holds.c.id == job_watches.c.hold_id)
        .where(job_watches.c.next_at <= now, IS_OPEN)
        .order_by(job_watches.c.next_at, job_watches.c.hold_id)
        .limit(limit)
    )
    return [
        Watched(*row[:6], row.wait_us * MICROSECOND, row.longest_us * MICROSECOND, row.deadline)
        for row in connection.execute(query)
    ]


def asked(connection: Connection, watches: Sequence[Watched], now: datetime) -> None:
    """These were asked about: each is due again after its wait, and the wait after that is twice as long."""
    for watch in watches:
        values = {"next_at": _next(watch, now), "wait_us": min(2 * watch.wait, watch.longest) // MICROSECOND}
        connection.execute(sa.update(job_watches).where(job_watches.c.hold_id == watch.hold_id).values(values))


def _next(watch: Watched, now: datetime) -> datetime:
    last = watch.deadline - LAST_BEFORE
    return last if now < last < now + watch.wait else now + watch.wait


def forget(connection: Connection, now: datetime, limit: int) -> int:
    """Drop what is due and has nothing to ask about any more: its hold has ended, or was archived."""
    open_ones = sa.select(holds.c.id).where(holds.c.id == job_watches.c.hold_id, IS_OPEN)
    over = sa.select(job_watches.c.hold_id).where(job_watches.c.next_at <= now, ~sa.exists(open_ones)).limit(limit)
    ids = list(connection.execute(over).scalars())
    if ids:
        connection.execute(sa.delete(job_watches).where(job_watches.c.hold_id.in_(ids)))
    return len(ids)

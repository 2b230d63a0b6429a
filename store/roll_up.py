"""The roll-up of usage: sums by account, day, model and funding, which dashboards read instead of rows.

No request writes it: a row that many requests share would halve their throughput. A job counts what is new, a step at
a time, and moves the frontier in the same transaction. The law it keeps: a row of usage is counted when its id is at
most `frontier.id` and it was settled by `frontier.at`, and no other is. Rows never change, so what is counted and what
is read beyond the frontier (`store.usage_sums`) are together exact, wherever the frontier stands.

There are two numbers because rows are in the order of their requests and appear in the order of their settlements.
The id runs `PROMPT` behind the moment; what was settled later than that is in an index of its own, by moment.

Called by the job, by an operator who wants it counted anew, and by readers for the frontier. Refunds are not counted
here: they change a row long after its end, and are read from the holds until those are archived.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from policies.terms import AccountId
from store.adding import add, ensure
from store.columns import Moment, from_micros, to_micros
from store.engine import Database
from store.ids import EPOCH, IDS_PER_MS, first_id_at, moment_of
from store.tables import counters, usage_archives, usage_daily, usage_events
from store.usage_tables import LATE, PROMPT

EVERYBODY = AccountId(0)
"""Stands for all accounts together; real accounts are numbered from 1."""

STEP = 2_000
"""Rows counted in one transaction: some milliseconds, which on SQLite requests wait for."""

MARGIN = timedelta(minutes=10)
"""How far a clock may be set back without anything being missed. Longer than the time between two runs of the job,
which notices when it was set back further.
"""

TRIES, TRY_PAUSE_S = 100, 0.05
"""How long other transactions are waited for: they take milliseconds, or something else is wrong with them."""

DAY = timedelta(days=1)
_IDS_PER_DAY = DAY // timedelta(milliseconds=1) * IDS_PER_MS
_KEY = ("account_id", "day", "model_key", "funding")
_ID, _AT, _ANEW = "usage_rolled_id", "usage_rolled_at", "usage_rolled_anew"


@dataclass(frozen=True, slots=True)
class Frontier:
    """How far usage is counted. `anew` while the sums of the days after `day` are leftovers, to be cleared first."""

    id: int
    at: datetime
    anew: bool = False

    @property
    def day(self) -> datetime:
        """The last day of which anything may be counted; sums of later days do not count."""
        return EPOCH + (moment_of(self.id) - EPOCH) // DAY * DAY


@dataclass(frozen=True, slots=True)
class Step:
    """The frontier moves from `before` to `after`, and `rows` are added; `count` is how much usage that is."""

    before: Frontier
    after: Frontier
    rows: list[dict[str, Any]]
    count: int


def frontier(connection: Connection) -> Frontier:
    """How far usage is counted, in the snapshot of this connection."""
    query = sa.select(counters.c.name, counters.c.value).where(counters.c.name.in_([_ID, _AT, _ANEW]))
    found = {row.name: row.value for row in connection.execute(query)}
    return Frontier(found.get(_ID, -1), from_micros(found.get(_AT, 0)), bool(found.get(_ANEW, 0)))


def request_day(hold_id: sa.ColumnElement[int]) -> sa.ColumnElement[datetime]:
    """The day of a request, in SQL: what usage counts for, whenever it is settled."""
    # As texts and not as parameters, so that a GROUP BY is seen to mean the same.
    per_day, micros, epoch = (
        sa.literal_column(str(number), sa.BigInteger)
        for number in (_IDS_PER_DAY, DAY // timedelta(microseconds=1), to_micros(EPOCH))
    )
    return sa.type_coerce(hold_id // per_day * micros + epoch, Moment)


async def settled_until(database: Database) -> datetime | None:
    """A moment by which everything that will ever be settled has been, and can be seen. None: ask again later."""
    fence, now = await database.write(_fence, database)
    for _ in range(TRIES):
        if fence is None or await database.read(_oldest_transaction) >= fence:
            return now - MARGIN
        await asyncio.sleep(TRY_PAUSE_S)
    return None


def _fence(connection: Connection, database: Database) -> tuple[int | None, datetime]:
    """On SQLite this is a turn of its own at writing, so whoever took a moment before has committed.

    PostgreSQL has several writers: one that took its moment before ours may commit at any time from now. It has locked
    its account before that, and so has a transaction number below the one that we are given after our moment.
    """
    now = database.now(connection)
    if connection.dialect.name == "sqlite":
        return None, now
    return int(connection.execute(sa.text("SELECT CAST(pg_current_xact_id() AS TEXT)")).scalar_one()), now


def _oldest_transaction(connection: Connection) -> int:
    """The lowest number of a transaction that is still under way; of PostgreSQL."""
    oldest = sa.text("SELECT CAST(pg_snapshot_xmin(pg_current_snapshot()) AS TEXT)")
    return int(connection.execute(oldest).scalar_one())


def next_step(connection: Connection, until: datetime) -> Step | None:
    """What is to be counted next of what was settled by `until`; None when that is all counted."""
    before = frontier(connection)
    if before.anew:
        return None
    if before.at < until:
        return _late_step(connection, before, until)
    last = first_id_at(before.at - PROMPT) - 1
    if before.id < last:
        return _id_step(connection, before, last)
    return None


_event = usage_events.c


def _late_step(connection: Connection, before: Frontier, until: datetime) -> Step:
    """Rows below the frontier's id that were settled after its moment: all of them are late."""
    late = (LATE, _event.at > before.at, _event.at <= until, _event.id <= before.id)
    moments = connection.scalars(sa.select(_event.at).where(*late).order_by(_event.at).limit(STEP)).all()
    reached = until if len(moments) < STEP else moments[-1]
    return _step(connection, before, Frontier(before.id, reached), *late[:2], _event.at <= reached, late[3])


def _id_step(connection: Connection, before: Frontier, last: int) -> Step:
    """The next rows by id. One that was settled after the frontier's moment is late, and counted when that moves."""
    following = sa.select(_event.id).where(_event.id > before.id, _event.id <= last).order_by(_event.id).limit(STEP)
    ids = connection.scalars(following).all()
    reached = last if len(ids) < STEP else ids[-1]
    counted = (_event.id > before.id, _event.id <= reached, _event.at <= before.at)
    return _step(connection, before, Frontier(reached, before.at), *counted)


def _step(connection: Connection, before: Frontier, after: Frontier, *counted: Any) -> Step:
    day = request_day(_event.id).label("day")
    query = sa.select(
        _event.account_id,
        day,
        _event.model_key,
        _event.funding,
        sa.func.count().label("calls"),
        # PostgreSQL adds BIGINTs up to a NUMERIC, which is a Decimal here.
        sa.cast(sa.func.sum(_event.charged), sa.BigInteger).label("charged"),
        sa.func.sum(sa.cast(_event.estimated, sa.Integer)).label("estimated"),
    ).where(*counted)
    grouped = query.group_by(_event.account_id, day, _event.model_key, _event.funding)
    rows = [dict(row, refunded=0) for row in connection.execute(grouped).mappings()]
    return Step(before, after, with_everybody(rows), sum(row["calls"] for row in rows))


def with_everybody(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of `usage_daily`, and what they add up to for all accounts together."""
    sums: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        key = (row["day"], row["model_key"], row["funding"])
        total = sums.setdefault(key, dict.fromkeys(row, 0) | dict(zip(_KEY, (EVERYBODY, *key), strict=True)))
        for name in row.keys() - set(_KEY):
            total[name] += row[name]
    return [*rows, *sums.values()]


def take_step(connection: Connection, step: Step) -> bool:
    """Add the step and move the frontier. False when somebody else has moved it: then nothing has happened."""
    lock(connection)
    if frontier(connection) != step.before:
        return False
    add(connection, usage_daily, step.rows)
    _move(connection, step.after)
    return True


def lock(connection: Connection) -> None:
    """Whoever changes the sums waits here for the one before."""
    ensure(connection, counters, {"name": _ID, "value": -1})
    connection.execute(sa.select(counters.c.name).where(counters.c.name == _ID).with_for_update())


def _move(connection: Connection, after: Frontier) -> None:
    values = {_ID: after.id, _AT: to_micros(after.at), _ANEW: int(after.anew)}
    for name, value in values.items():
        moved = connection.execute(sa.update(counters).where(counters.c.name == name).values(value=value))
        if not moved.rowcount:
            connection.execute(sa.insert(counters).values(name=name, value=value))


def count_anew(connection: Connection, until: datetime) -> None:
    """Forget the sums of everything that can be counted again, which is what has not been archived.

    Readers fall back on the rows at once, and are slower until the job has caught up.
    """
    lock(connection)
    archived = connection.execute(sa.select(sa.func.max(usage_archives.c.until))).scalar()
    start = archived if archived is not None else EPOCH
    _move(connection, Frontier(first_id_at(start) - 1, min(until, frontier(connection).at), anew=True))


def clear_leftovers(connection: Connection, after: int, limit: int = STEP) -> int | None:
    """Delete the next sums that do not count, from the account `after` on; the account reached, or None at the end."""
    lock(connection)
    current, sums = frontier(connection), usage_daily.c
    key = [sums[name] for name in _KEY]
    leftover = sa.select(*key).where(sums.account_id >= after, sums.day > current.day).order_by(*key).limit(limit)
    rows = connection.execute(leftover).all() if current.anew else []
    if rows:
        this = sa.and_(*(column == sa.bindparam(f"where_{column.name}") for column in key))
        keys = [{f"where_{name}": getattr(row, name) for name in _KEY} for row in rows]
        connection.execute(sa.delete(usage_daily).where(this), keys)
        return int(rows[-1].account_id)
    if current.anew:
        _move(connection, Frontier(current.id, current.at))
    return None

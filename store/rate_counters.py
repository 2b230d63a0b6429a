"""Counters of rate and concurrency limits that all processes on one database share.

A counter is a row, locked by each call that it counts, so that any number of nodes come to the same as one would. A
place of a running call is a row as well. It belongs to the call's hold: when a process dies, its places end with the
holds that it leaves, and nothing has to be reset. What a place stands for is decided by `policies.limiting`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from policies.callers import Caller
from policies.limiting import Counted, Key, Limits, count, key_of
from policies.refusals import Refusal
from policies.terms import HoldId
from store.columns import to_micros
from store.open_holds import IS_OPEN
from store.tables import holds, rate_counters, rate_places

ENTERING = timedelta(seconds=60)
"""How long a place counts without a hold: a call takes its hold next, and waits for the ledger some seconds at most."""

QUIET = timedelta(days=1)
"""A counter that was empty for so long is dropped. The longest time of a rate is a day."""

_counter, _place = rate_counters.c, rate_places.c
_INSERT: dict[str, Callable[..., Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def admit(
    connection: Connection, limits: Limits, caller: Caller, call: HoldId, clock: Callable[[Connection], datetime]
) -> Refusal | Counted:
    """Count a call towards all of its limits, or towards none."""
    keys = sorted({key_of(entry, caller) for entry in limits})
    empty_at = _locked(connection, keys)
    now = clock(connection)
    counted = count(limits, caller, empty_at, _running(connection, keys, now), to_micros(now))
    if isinstance(counted, Refusal):
        return counted
    for key, moment in counted.after.items():
        connection.execute(sa.update(rate_counters).where(_is(key)).values(empty_at=moment))
    if counted.places:
        taken = {"hold_id": call, "until": now + ENTERING}
        rows = [{**taken, "limit_id": limit_id, "subject": subject} for limit_id, subject in counted.places]
        connection.execute(sa.insert(rate_places), rows)
    return counted


def _locked(connection: Connection, keys: Sequence[Key]) -> dict[Key, int]:
    """The counters, locked until the transaction ends; always in the same order, so that nobody waits in a ring."""
    rows: dict[Key, int] = {}
    new = [{"limit_id": limit_id, "subject": subject, "empty_at": 0} for limit_id, subject in keys]
    query = sa.select(*_counter).where(sa.tuple_(_counter.limit_id, _counter.subject).in_(keys))
    query = query.order_by(_counter.limit_id, _counter.subject).with_for_update()
    # Again where one was dropped between the two statements.
    while len(rows) < len(keys):
        connection.execute(_INSERT[connection.dialect.name](rate_counters).on_conflict_do_nothing(), new)
        rows = {(row.limit_id, row.subject): row.empty_at for row in connection.execute(query)}
    return rows


def _running(connection: Connection, keys: Sequence[Key], now: datetime) -> dict[Key, int]:
    """Calls that run: those with an open hold, a job's aside, whose call has ended; and those about to take theirs."""
    open_hold = sa.exists().where(holds.c.id == _place.hold_id, IS_OPEN, holds.c.job_id.is_(None))
    query = (
        sa.select(_place.limit_id, _place.subject, sa.func.count())
        .where(sa.tuple_(_place.limit_id, _place.subject).in_(keys), (_place.until > now) | open_hold)
        .group_by(_place.limit_id, _place.subject)
    )
    return {(limit_id, subject): number for limit_id, subject, number in connection.execute(query)}


def _is(key: Key) -> sa.ColumnElement[bool]:
    return (_counter.limit_id == key[0]) & (_counter.subject == key[1])


def leave(connection: Connection, call: HoldId) -> None:
    """Give the places of a call back. Safe to repeat."""
    connection.execute(sa.delete(rate_places).where(_place.hold_id == call))


def undo(connection: Connection, call: HoldId, steps: Mapping[Key, int]) -> None:
    """Take a call off its counters that was not made after all."""
    for key, step in sorted(steps.items()):
        connection.execute(sa.update(rate_counters).where(_is(key)).values(empty_at=_counter.empty_at - step))
    leave(connection, call)


def drop_quiet(connection: Connection, now: datetime) -> int:
    """Drop counters that say nothing any more, and places of calls that have ended without giving them back."""
    open_hold = sa.exists().where(holds.c.id == _place.hold_id, IS_OPEN)
    left = connection.execute(sa.delete(rate_places).where(_place.until <= now - ENTERING, ~open_hold))
    quiet = connection.execute(sa.delete(rate_counters).where(_counter.empty_at <= to_micros(now - QUIET)))
    return left.rowcount + quiet.rowcount

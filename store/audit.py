"""The audit log: who changed what, when, from where, and with what result.

Two rows for each change: one before it is made, and one when its result is known. What a process was killed over has
only the first, and is shown as `unknown`; so nothing is changed without a trace. Rows are added and read; the only
statement that takes any away is that of retention, and the database refuses any other (migration 0010). A chain over
all rows shows what was done to them behind its back (`store.audit_chain`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from store import audit_chain
from store.audit_chain import Kind
from store.tables import audit_cuts, audit_entries, audit_outcomes

MAX_ERROR = 500
"""Characters of what went wrong that are kept: two sentences."""

_entry, _outcome = audit_entries.c, audit_outcomes.c


class Outcome(StrEnum):
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    """By a fault: what it has changed until then stays changed."""
    UNKNOWN = "unknown"
    """Under way, or its process has ended meanwhile."""


@dataclass(frozen=True, slots=True)
class Act:
    """A change that somebody asks for. `place` is where from, `arguments` are masked already. `role` is that of an
    operator of the settings, and `moved` the micro-credits that are to count against the limit of their day.
    """

    actor: str
    place: str
    operation: str
    arguments: Mapping[str, Any]
    role: str | None = None
    moved: int | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it. The revisions are those of the policy, or of the catalogue, where that is what it changes."""

    outcome: Outcome
    error: str | None = None
    before: str | None = None
    after: str | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """An entry that is there. `moved_before` are the micro-credits that its actor has moved in the day before it."""

    number: int
    moved_before: int


DAY = timedelta(hours=24)


def begin(connection: Connection, act: Act, now: datetime) -> Begun:
    """Write down what is about to be done.

    What was moved before is read while no other entry can be written: of two calls that together are too much, the
    second sees the first.
    """
    last = audit_chain.take_turn(connection)
    moved_before = _moved_since(connection, act.actor, now - DAY) if act.moved is not None else 0
    values = {"at": now, "actor": act.actor, "place": act.place, "operation": act.operation}
    values |= {"role": act.role, "moved": act.moved, "arguments": dict(act.arguments)}
    inserted = sa.insert(audit_entries).values(**values).returning(_entry.id)
    number = int(connection.execute(inserted).scalar_one())
    audit_chain.append(connection, last, Kind.ENTRY, number)
    return Begun(number, moved_before)


def _moved_since(connection: Connection, actor: str, since: datetime) -> int:
    """What was refused has moved nothing; what is under way, or has failed half-way, may have."""
    refused = sa.and_(_outcome.entry_id == _entry.id, _outcome.outcome == Outcome.REFUSED.value)
    moved = sa.select(sa.func.coalesce(sa.func.sum(_entry.moved), 0)).where(_entry.at > since, _entry.actor == actor)
    return int(connection.execute(moved.where(~sa.exists().where(refused))).scalar_one())


def end(connection: Connection, number: int, result: Result, now: datetime) -> None:
    """Write down what came of it."""
    error = result.error[:MAX_ERROR] if result.error is not None else None
    values = {"entry_id": number, "at": now, "outcome": result.outcome, "error": error}
    revisions = {"revision_before": result.before, "revision_after": result.after}
    last = audit_chain.take_turn(connection)
    connection.execute(sa.insert(audit_outcomes).values(**values, **revisions))
    audit_chain.append(connection, last, Kind.OUTCOME, number)


def note(connection: Connection, act: Act, result: Result, now: datetime) -> int:
    """Both at once, of what has happened already."""
    number = begin(connection, act, now).number
    end(connection, number, result, now)
    return number


def page(
    connection: Connection,
    *,
    actor: str | None = None,
    operation: str | None = None,
    about: str | None = None,
    since: datetime | None = None,
    before: int | None = None,
    limit: int,
) -> list[dict[str, Any]]:
    """Entries with their outcomes, newest first, below the number `before`.

    `operation` may be a noun alone; `about` is the value of one of the arguments.
    """
    outcome = sa.func.coalesce(_outcome.outcome, Outcome.UNKNOWN.value).label("outcome")
    ended = (outcome, _outcome.at.label("ended_at"), _outcome.error, _outcome.revision_before, _outcome.revision_after)
    query = sa.select(*_entry, *ended).outerjoin_from(audit_entries, audit_outcomes, _outcome.entry_id == _entry.id)
    query = query.order_by(_entry.id.desc()).limit(limit)
    if actor is not None:
        query = query.where(_entry.actor == actor)
    if operation is not None:
        of_noun = _entry.operation.startswith(f"{operation} ", autoescape=True)
        query = query.where((_entry.operation == operation) | of_noun)
    if about is not None:
        # As a value stands in the stored text, where it cannot be a name.
        value = ":" + json.dumps(about, ensure_ascii=False)
        query = query.where(sa.type_coerce(_entry.arguments, sa.Text).contains(value, autoescape=True))
    if since is not None:
        query = query.where(_entry.at >= since)
    if before is not None:
        query = query.where(_entry.id < before)
    return [dict(row) for row in connection.execute(query).mappings()]


def drop_before(connection: Connection, moment: datetime, limit: int, now: datetime) -> int:
    """Retention: drop the oldest entries from before a moment, so many at most; their number.

    The cut that allows it stays, and says when; so do the links of what is dropped. None goes before one with a lower
    number, whatever the clocks of several machines have said: a gap is nothing that retention leaves.
    """
    kept = connection.scalar(sa.select(sa.func.min(_entry.id)).where(_entry.at >= moment))
    old = sa.select(_entry.id).where(_entry.at < moment).order_by(_entry.id).limit(limit)
    if kept is not None:
        old = old.where(_entry.id < kept)
    numbers = list(connection.scalars(old))
    if not numbers:
        return 0
    if numbers[-1] > (connection.scalar(sa.select(sa.func.max(audit_cuts.c.through))) or 0):
        connection.execute(sa.insert(audit_cuts).values(through=numbers[-1], at=now))
    connection.execute(sa.delete(audit_outcomes).where(_outcome.entry_id.in_(numbers)))
    return connection.execute(sa.delete(audit_entries).where(_entry.id.in_(numbers))).rowcount

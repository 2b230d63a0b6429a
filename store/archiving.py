"""Moving a month of usage out of the database: what may go, which month is next, and the deletion, batch by batch.

    begun ──▶ complete (its file is on disk and read back) ──▶ done (its rows are deleted)

The state is in `usage_archives`, so that whoever comes next goes on where a process was killed. From the beginning on
the charges of the month are final: a refund is refused. Deleting is the one thing that cannot be taken back, and so it
is done against the file: a batch is read from there, compared, and deleted with its sums added to `archived_usage` and
the state moved on, in one short transaction.

What goes: holds that have ended, with their usage. What never goes: ledger entries, grants, subscriptions. A hold that
is still open stays, and goes with the month that is archived after it has ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from policies.holds import HoldState
from policies.terms import HoldId, Metric
from policies.windows import UTC_CALENDAR, window_at
from store.adding import add
from store.archive_rows import ArchiveRow, archive_rows, is_usage, number_of
from store.ids import first_id_at, moment_of, parse_id
from store.roll_up import frontier, lock, with_everybody
from store.tables import accounts, archived_usage, holds, usage_archives, usage_daily, usage_events

BATCH = 250
"""Rows in one deletion: some milliseconds, in which their accounts are locked."""

_hold, _event, _archive = holds.c, usage_events.c, usage_archives.c


class Changed(Exception):
    """A row is not what it was when it was read; nothing was deleted."""


@dataclass(frozen=True, slots=True)
class Archive:
    """A month that has left the database, or is leaving it. What ended after `ended_by` is not part of it.

    `file` is None where nothing is kept; `rows` is None until the file is complete.
    """

    month: datetime
    until: datetime
    ended_by: datetime
    file: str | None
    begun_at: datetime
    rows: int | None
    sha256: str | None
    deleted_through: int
    done_at: datetime | None

    def conditions(self) -> tuple[sa.ColumnElement[bool], ...]:
        """The conditions for what goes. By both of its moments, since a node's clock may differ from the database's."""
        ended = (_hold.state != HoldState.RESERVED, _hold.ended_at <= self.ended_by)
        counted = _event.at.is_(None) | (_event.at <= self.ended_by)
        return (_hold.id < first_id_at(self.until), _hold.created_at < self.until, *ended, counted)


def archives(connection: Connection) -> list[Archive]:
    """Every month, the oldest first."""
    query = sa.select(*(_archive[name] for name in Archive.__dataclass_fields__)).order_by(_archive.month)
    return [Archive(*row) for row in connection.execute(query)]


def archived_until(connection: Connection) -> datetime | None:
    """The end of the last month that has left or is leaving."""
    until: datetime | None = connection.execute(sa.select(sa.func.max(_archive.until))).scalar()
    return until


def due_month(connection: Connection, before: datetime) -> datetime | None:
    """The first month with anything to archive after those that are done, if it is over at `before`."""
    until = archived_until(connection)
    ended = sa.select(sa.func.min(_hold.id)).where(_hold.state != HoldState.RESERVED)
    oldest = connection.execute(ended if until is None else ended.where(_hold.id >= first_id_at(until))).scalar()
    if oldest is None:
        return None
    month = window_at(Metric.MONTHLY, UTC_CALENDAR, moment_of(oldest))
    return month.start if month.end <= before else None


def begin(connection: Connection, month: datetime, file: str | None, now: datetime) -> Archive | None:
    """Draw the line around what goes. None while the roll-up has not come so far: what goes has to be counted."""
    mark, until = frontier(connection), window_at(Metric.MONTHLY, UTC_CALENDAR, month).end
    if mark.anew or mark.id < first_id_at(until) - 1:
        return None
    rows = None if file is not None else 0
    archive = Archive(month, until, mark.at, file, now, rows, None, -1, None)
    values = {name: getattr(archive, name) for name in Archive.__dataclass_fields__}
    connection.execute(sa.insert(usage_archives).values(values))
    return archive


def next_rows(connection: Connection, archive: Archive, after: int, limit: int) -> list[ArchiveRow]:
    """The rows of a month that are still here, by their ids, above `after`."""
    return archive_rows(connection, _hold.id > after, *archive.conditions(), limit=limit)


def rows_of(connection: Connection, ids: Sequence[str]) -> dict[str, ArchiveRow]:
    """The rows of these requests that are still here, as they are now."""
    found = archive_rows(connection, _hold.id.in_([parse_id(text) for text in ids]))
    return {row["id"]: row for row in found}


def complete(connection: Connection, archive: Archive, rows: int, sha256: str) -> Archive | None:
    """Its file is there. None when somebody else has said so already."""
    this = (_archive.month == archive.month, _archive.rows.is_(None))
    changed = connection.execute(sa.update(usage_archives).where(*this).values(rows=rows, sha256=sha256)).rowcount
    return replace(archive, rows=rows, sha256=sha256) if changed else None


def finish(connection: Connection, archive: Archive, now: datetime) -> None:
    """Everything is deleted."""
    connection.execute(sa.update(usage_archives).where(_archive.month == archive.month).values(done_at=now))


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows to delete, as they were read; after it everything up to the id `through` is dealt with."""

    after: int
    through: int
    rows: Sequence[ArchiveRow]


def delete(connection: Connection, archive: Archive, batch: Batch) -> bool:
    """Delete a batch and add its sums up. False when somebody else has; raises Changed when a row has changed.

    The accounts are locked, in their order, as by every other verb: a refund comes before this or finds no hold.
    """
    locked = sa.select(_archive.deleted_through).where(_archive.month == archive.month).with_for_update()
    if connection.execute(locked).scalar() != batch.after:
        return False
    owners = sorted({int(row["account_id"]) for row in batch.rows})
    connection.execute(
        sa.select(accounts.c.id).where(accounts.c.id.in_(owners)).order_by(accounts.c.id).with_for_update()
    )
    _delete_rows(connection, batch.rows)
    _keep_sums(connection, [row for row in batch.rows if is_usage(row)])
    moved = sa.update(usage_archives).where(_archive.month == archive.month)
    connection.execute(moved.values(deleted_through=batch.through))
    return True


def _delete_rows(connection: Connection, rows: Sequence[ArchiveRow]) -> None:
    """An ended hold changes in two ways only: something is given back, or it becomes usage after all."""
    by_refund: dict[int, list[HoldId]] = {}
    for row in rows:
        by_refund.setdefault(int(row["refunded"]), []).append(number_of(row))
    ids = [number for numbers in by_refund.values() for number in numbers]
    events = connection.execute(sa.delete(usage_events).where(_event.id.in_(ids))).rowcount
    gone = 0
    for refunded, numbers in by_refund.items():
        unchanged = (_hold.refunded_amount == refunded, _hold.state != HoldState.RESERVED)
        gone += connection.execute(sa.delete(holds).where(_hold.id.in_(numbers), *unchanged)).rowcount
    if (gone, events) != (len(rows), sum(map(is_usage, rows))):
        raise Changed


def _keep_sums(connection: Connection, usage: Sequence[ArchiveRow]) -> None:
    sums: dict[tuple[int, str], Counter[str]] = {}
    refunds: list[dict[str, Any]] = []
    for row in usage:
        account_id, funding = int(row["account_id"]), row["funding"]
        charged, refunded = int(row["charged"]), int(row["refunded"])
        amounts = {"calls": 1, "charges": int(charged > 0), "charged": charged, "refunded": refunded}
        sums.setdefault((account_id, funding), Counter()).update(amounts)
        if refunded:
            day = window_at(Metric.DAILY, UTC_CALENDAR, moment_of(number_of(row))).start
            key = {"account_id": account_id, "day": day, "model_key": row["model_key"], "funding": funding}
            refunds.append(key | {"calls": 0, "charged": 0, "refunded": refunded, "estimated": 0})
    kept = [{"account_id": key[0], "funding": key[1], **amounts} for key, amounts in sums.items()]
    add(connection, archived_usage, kept)
    if refunds:
        # As long as their holds were here, dashboards read refunds from there.
        lock(connection)
        add(connection, usage_daily, with_everybody(refunds))


def is_final(connection: Connection, hold_id: int) -> bool:
    """Whether a charge has been archived, or is about to be."""
    months = archives(connection)[-1:]
    if not months:
        return False
    if archive_rows(connection, _hold.id == hold_id, *months[0].conditions()):
        return True
    is_here = connection.execute(sa.select(_hold.id).where(_hold.id == hold_id)).first() is not None
    return not is_here and hold_id < first_id_at(months[0].until)


def archive_with(connection: Connection, hold_id: int) -> Archive | None:
    """The archive in which to look for a request that is not here any more."""
    query = sa.select(*(_archive[name] for name in Archive.__dataclass_fields__)).order_by(_archive.month).limit(1)
    row = connection.execute(query.where(_archive.until > moment_of(hold_id))).first()
    return Archive(*row) if row is not None else None

"""Policies that were put in force, and what each process says of the one it has.

Written by serving processes when a policy changes and by operators who go back to an earlier one; read at every start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from store.tables import policy_nodes, policy_revisions

MAX_KEPT = 500
"""Policies that are kept, with their texts: a year of changes on every working day, twice over."""

FORGET_NODE = timedelta(minutes=2)
"""A process that has said nothing for so long has ended, or cannot reach the store and will say it again."""

Source = tuple[tuple[str, str], ...]
"""The names of the files of a policy, with their texts."""


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """A policy that was put in force. `overrules` is the fingerprint of the files that a rollback stands in for."""

    number: int
    revision: str
    source: Source
    origin: str
    overrules: str | None
    at: datetime


def latest(connection: Connection) -> StoredPolicy | None:
    """What was put in force last, by any process."""
    query = sa.select(policy_revisions).order_by(policy_revisions.c.id.desc()).limit(1)
    row = connection.execute(query).first()
    return _stored(row) if row is not None else None


def latest_number(connection: Connection) -> int:
    """The number of `latest`, or zero: what processes look at every second."""
    return int(connection.execute(sa.select(sa.func.max(policy_revisions.c.id))).scalar() or 0)


def find(connection: Connection, revision: str) -> StoredPolicy | None:
    """The policy of a revision, the newest where it was in force several times."""
    columns = policy_revisions.c
    query = sa.select(policy_revisions).where(columns.revision == revision).order_by(columns.id.desc()).limit(1)
    row = connection.execute(query).first()
    return _stored(row) if row is not None else None


def page(connection: Connection, before: int | None, limit: int) -> list[StoredPolicy]:
    """What was in force, newest first, below the number `before`."""
    query = sa.select(policy_revisions).order_by(policy_revisions.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(policy_revisions.c.id < before)
    return [_stored(row) for row in connection.execute(query)]


def record(
    connection: Connection, revision: str, source: Source, origin: str, overrules: str | None, now: datetime
) -> int:
    """Write down that a policy is in force, unless it is what was written last. The number of its row."""
    last = latest(connection)
    if last is not None and (last.revision, last.source, last.overrules) == (revision, source, overrules):
        return last.number
    values = {"revision": revision, "source": source, "origin": origin, "overrules": overrules, "at": now}
    inserted = sa.insert(policy_revisions).values(values).returning(policy_revisions.c.id)
    number = int(connection.execute(inserted).scalar_one())
    connection.execute(sa.delete(policy_revisions).where(policy_revisions.c.id <= number - MAX_KEPT))
    return number


def report(connection: Connection, node: str, state: dict[str, Any], now: datetime) -> None:
    """What a process says of its policy: `revision`, `loaded_at`, `using_last_good` and `error`."""
    values = {**state, "seen_at": now}
    changed = connection.execute(sa.update(policy_nodes).where(policy_nodes.c.node == node).values(values))
    if not changed.rowcount:
        connection.execute(sa.insert(policy_nodes).values(node=node, **values))
    connection.execute(sa.delete(policy_nodes).where(policy_nodes.c.seen_at < now - FORGET_NODE))


def nodes(connection: Connection) -> Sequence[dict[str, Any]]:
    """What every process has said last."""
    query = sa.select(policy_nodes).order_by(policy_nodes.c.node)
    return [dict(row) for row in connection.execute(query).mappings()]


def _stored(row: Row[Any]) -> StoredPolicy:
    source = tuple((name, text) for name, text in row.source)
    return StoredPolicy(row.id, row.revision, source, row.origin, row.overrules, row.at)

"""One runner per job across processes and nodes: a row that names the holder and when its turn ends.

The fencing token grows with every change of holder, so that a holder that slept through the end of its lease can be
told from the one that followed it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from store.tables import leases

CLOCKS_DIFFER = 2
"""Durations by which a lease may end later than one taken now: those of another node's clock, which may run ahead."""


def acquire(connection: Connection, name: str, holder: str, duration: timedelta, now: datetime) -> int | None:
    """The fencing token when the lease is free, lapsed or ours already; None while another one holds it.

    One that ends later than any that is given out now was given out by a clock that has been set back since; waiting
    for it could take years.
    Called again by its holder it renews the lease. The token is the same then: another token tells the holder that
    somebody else had a turn meanwhile.
    """
    values = {"holder": holder, "until": now + duration}
    ours = leases.c.holder == holder
    changed = sa.case((ours, leases.c.fencing_token), else_=leases.c.fencing_token + 1)
    free = (leases.c.until <= now) | (leases.c.until > now + CLOCKS_DIFFER * duration)
    taken = sa.update(leases).where(leases.c.name == name, free | ours)
    token = connection.execute(taken.values(**values, fencing_token=changed).returning(leases.c.fencing_token)).scalar()
    if token is not None:
        return int(token)
    if connection.execute(sa.select(leases.c.name).where(leases.c.name == name)).first() is not None:
        return None
    try:
        with connection.begin_nested():
            connection.execute(sa.insert(leases).values(name=name, fencing_token=1, **values))
    except IntegrityError:
        return None
    return 1


def release(connection: Connection, name: str, holder: str, now: datetime, succeeded: bool) -> None:
    """Give the lease back; a success is remembered, for operators to see."""
    values: dict[str, Any] = {"until": now}
    if succeeded:
        values["last_success"] = now
    connection.execute(sa.update(leases).where(leases.c.name == name, leases.c.holder == holder).values(values))


def last_success(connection: Connection, name: str) -> datetime | None:
    """When the job last succeeded, on any node."""
    return connection.execute(sa.select(leases.c.last_success).where(leases.c.name == name)).scalar()


def page(connection: Connection) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(sa.select(leases).order_by(leases.c.name)).mappings()]

"""The holds of jobs that finish later, as those see them who learn how a job has ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from policies.holds import HoldState, may_charge_late
from policies.terms import AccountId, HoldId, OnLate
from store.tables import holds


@dataclass(frozen=True, slots=True)
class JobHold:
    """The hold of a job. `job_id` is the backend's id for it, and None until the backend has accepted it.

    `amount` is micro-credits, or quota units: what the price of this version makes of `units`.
    """

    hold_id: HoldId
    account_id: AccountId
    route_id: str
    job_id: str | None
    state: str
    funding: str
    amount: int
    model_key: str
    price_version: int
    units: dict[str, str]
    on_late: str
    late_at: datetime | None

    @property
    def can_be_charged(self) -> bool:
        """Whether the end of the job still matters."""
        state, charged = HoldState(self.state), self.late_at is not None
        return state is HoldState.RESERVED or may_charge_late(state, OnLate(self.on_late), charged)

    @property
    def pays(self) -> bool:
        """Whether the job is paid for by this hold, or may still be."""
        return HoldState(self.state) is HoldState.SETTLED or self.late_at is not None or self.can_be_charged


_COLUMNS = [holds.c[name] for name in ("id", "account_id", "route_id", "job_id", "state", "funding")] + [
    holds.c[name] for name in ("amount", "model_key", "price_version", "units", "on_late", "late_at")
]


def job_holds(connection: Connection, route_ids: Sequence[str], job_ids: Sequence[str]) -> list[JobHold]:
    """The holds bound to these jobs of these routes, whoever they belong to."""
    query = sa.select(*_COLUMNS).where(holds.c.route_id.in_(route_ids), holds.c.job_id.in_(job_ids))
    return [JobHold(*row) for row in connection.execute(query)]


def hold_of_request(connection: Connection, route_id: str, hold_id: HoldId) -> JobHold | None:
    """The hold of a request on this route, whether its job has been accepted yet or not."""
    query = sa.select(*_COLUMNS).where(holds.c.id == hold_id, holds.c.route_id == route_id)
    row = connection.execute(query).first()
    return None if row is None else JobHold(*row)

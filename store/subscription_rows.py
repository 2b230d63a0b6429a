"""A subscription as a row of its table, and back. Used by `store.subscriptions`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from policies.subscription import Status, Subscription
from policies.terms import AccountId, Plan
from store.catalogue import plan_of
from store.tables import plan_versions


def subscription_of(connection: Connection, row: Row[Any]) -> Subscription:
    """The subscription, with the versions of the plans that its row names."""
    return Subscription(
        subscription_id=row.id,
        account_id=AccountId(row.account_id),
        plan=_plan_version(connection, row.plan_version_id),
        status=Status(row.status),
        created_at=row.created_at,
        anchor=row.anchor,
        period_start=row.period_start,
        period_end=row.period_end,
        amount_due=row.amount_due,
        carried=row.carried,
        trial_end=row.trial_end,
        cancel_at=row.cancel_at,
        cancel_reason=row.cancel_reason,
        canceled_at=row.canceled_at,
        scheduled_plan=_optional_plan(connection, row.scheduled_plan_version_id),
        pending_plan=_optional_plan(connection, row.pending_plan_version_id),
        pending_until=row.pending_until,
        grace=timedelta(seconds=row.grace_s),
        previous_id=row.previous_id,
        ended_at=row.ended_at,
        refund_quoted=row.refund_quoted,
        plan_since=row.plan_since,
    )


def _plan_version(connection: Connection, version_id: int) -> Plan:
    row = connection.execute(sa.select(plan_versions).where(plan_versions.c.id == version_id)).one()
    return plan_of(row, active=True, order=0)


def _optional_plan(connection: Connection, version_id: int | None) -> Plan | None:
    return None if version_id is None else _plan_version(connection, version_id)


def values_of(row: Subscription) -> dict[str, Any]:
    """The columns of a subscription, all but its id."""
    return {
        "account_id": row.account_id,
        "plan_version_id": row.plan.version_id,
        "status": row.status,
        "created_at": row.created_at,
        "anchor": row.anchor,
        "period_start": row.period_start,
        "period_end": row.period_end,
        "amount_due": row.amount_due,
        "carried": row.carried,
        "trial_end": row.trial_end,
        "cancel_at": row.cancel_at,
        "cancel_reason": row.cancel_reason,
        "canceled_at": row.canceled_at,
        "scheduled_plan_version_id": row.scheduled_plan.version_id if row.scheduled_plan else None,
        "pending_plan_version_id": row.pending_plan.version_id if row.pending_plan else None,
        "pending_until": row.pending_until,
        "grace_s": row.grace // timedelta(seconds=1),
        "previous_id": row.previous_id,
        "ended_at": row.ended_at,
        "refund_quoted": row.refund_quoted,
        "plan_since": row.plan_since,
    }

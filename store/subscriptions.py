"""Subscriptions as rows: one row per lifetime, an append-only history, and one current row per account.

What may happen to a subscription is decided by the pure functions of `policies.subscription`; here the account is
locked, the row is brought up to `now`, the decision is applied, and row, history and account change together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from policies.subscription import CURRENT, Event, NotPossible, Status, Subscription, elapsed, start
from policies.terms import AccountId, Plan
from store.catalogue import plan_of
from store.tables import accounts, plan_versions, subscription_events, subscriptions

TIME = "time"
"""The actor of events that nobody caused."""


def current(connection: Connection, account_id: int) -> Subscription | None:
    """The subscription that counts for an account, as stored. Ended ones do not count."""
    query = sa.select(subscriptions).where(
        subscriptions.c.account_id == account_id, subscriptions.c.status.in_(sorted(CURRENT))
    )
    row = connection.execute(query).first()
    return _subscription(connection, row) if row is not None else None


def latest(connection: Connection, account_id: int) -> Subscription | None:
    """The current subscription, or the last one that was."""
    query = sa.select(subscriptions).where(subscriptions.c.account_id == account_id)
    row = connection.execute(query.order_by(subscriptions.c.id.desc()).limit(1)).first()
    return _subscription(connection, row) if row is not None else None


def _subscription(connection: Connection, row: Row[Any]) -> Subscription:
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
        cancel_at=row.cancel_at,
        cancel_reason=row.cancel_reason,
        canceled_at=row.canceled_at,
        scheduled_plan=_optional_plan(connection, row.scheduled_plan_version_id),
        pending_plan=_optional_plan(connection, row.pending_plan_version_id),
        grace=timedelta(seconds=row.grace_s),
        previous_id=row.previous_id,
        ended_at=row.ended_at,
    )


def _plan_version(connection: Connection, version_id: int) -> Plan:
    row = connection.execute(sa.select(plan_versions).where(plan_versions.c.id == version_id)).one()
    return plan_of(row, active=True, order=0)


def _optional_plan(connection: Connection, version_id: int | None) -> Plan | None:
    return None if version_id is None else _plan_version(connection, version_id)


def subscribe(
    connection: Connection, account_id: AccountId, plan: Plan, grace: timedelta, actor: str, now: datetime
) -> Subscription:
    """A new subscription to `plan`. Raises NotPossible while another one is current."""
    _lock(connection, account_id)
    stored = current(connection, account_id)
    if stored is not None:
        row = _settle_time(connection, stored, now)
        if row.current:
            raise NotPossible(f"User already has a subscription that is {row.status}")
    previous = latest(connection, account_id)
    fresh = replace(start(0, account_id, plan, now, previous.subscription_id if previous else None), grace=grace)
    number = connection.execute(
        sa.insert(subscriptions).values(_values(fresh)).returning(subscriptions.c.id)
    ).scalar_one()
    row = replace(fresh, subscription_id=number)
    _append(connection, row, Event.SUBSCRIBED, actor, now)
    bump_revision(connection, account_id)
    return row


def change(
    connection: Connection,
    account_id: AccountId,
    decide: Callable[[Subscription], tuple[Subscription, Event]],
    actor: str,
    now: datetime,
) -> Subscription:
    """Apply a decision to the current subscription. Raises NotPossible when there is none, or `decide` says so."""
    _lock(connection, account_id)
    stored = current(connection, account_id)
    row = _settle_time(connection, stored, now) if stored is not None else None
    if row is None or not row.current:
        raise NotPossible("There is no current subscription")
    row, event = decide(row)
    _save(connection, row)
    _append(connection, row, event, actor, now)
    bump_revision(connection, account_id)
    return row


def store_due(connection: Connection, account_id: AccountId, now: datetime) -> list[Event]:
    """Write down what time has done to the account's subscription. Changes no decision: reading resolves anyway."""
    _lock(connection, account_id)
    stored = current(connection, account_id)
    steps = elapsed(stored, now) if stored is not None else []
    if stored is not None and steps:
        _settle_time(connection, stored, now)
        bump_revision(connection, account_id)
    return [step.event for step in steps]


def due_accounts(
    connection: Connection, now: datetime, after: int, limit: int
) -> tuple[list[AccountId], AccountId | None]:
    """Accounts whose stored subscription lags behind `now`, among the next `limit` candidates above the id `after`.

    Also the account to go on after, or None when these were the last. In the order of their ids, so that a run goes
    through them once, also when one of them cannot be stored.
    """
    candidate = subscriptions.c.status.in_(sorted(CURRENT)) & (
        (subscriptions.c.period_end <= now)
        | (subscriptions.c.cancel_at <= now)
        | (subscriptions.c.status == Status.INCOMPLETE)
    )
    query = sa.select(subscriptions).where(candidate, subscriptions.c.account_id > after)
    rows = connection.execute(query.order_by(subscriptions.c.account_id).limit(limit)).all()
    due = [AccountId(row.account_id) for row in rows if elapsed(_subscription(connection, row), now)]
    return due, AccountId(rows[-1].account_id) if len(rows) == limit else None


def history(connection: Connection, subscription_id: int) -> list[dict[str, Any]]:
    """Every event of a subscription, oldest first."""
    query = sa.select(subscription_events).where(subscription_events.c.subscription_id == subscription_id)
    return [dict(row) for row in connection.execute(query.order_by(subscription_events.c.seq)).mappings()]


def _lock(connection: Connection, account_id: int) -> None:
    connection.execute(sa.select(accounts.c.id).where(accounts.c.id == account_id).with_for_update()).one()


def _settle_time(connection: Connection, stored: Subscription, now: datetime) -> Subscription:
    """Store what time has done, event by event, each with its own moment: the history is the same however late."""
    steps = elapsed(stored, now)
    for step in steps:
        _append(connection, step.row, step.event, TIME, step.at)
    if not steps:
        return stored
    _save(connection, steps[-1].row)
    return steps[-1].row


def _save(connection: Connection, row: Subscription) -> None:
    values = _values(row)
    connection.execute(sa.update(subscriptions).where(subscriptions.c.id == row.subscription_id).values(values))


def _append(connection: Connection, row: Subscription, event: Event, actor: str, now: datetime) -> None:
    last = sa.select(sa.func.coalesce(sa.func.max(subscription_events.c.seq), 0)).where(
        subscription_events.c.subscription_id == row.subscription_id
    )
    values = {
        "subscription_id": row.subscription_id,
        "seq": connection.execute(last).scalar_one() + 1,
        "event": event,
        "status": row.status,
        "plan_version_id": row.plan.version_id,
        "actor": actor,
        "at": now,
    }
    connection.execute(sa.insert(subscription_events).values(values))


def bump_revision(connection: Connection, account_id: int) -> None:
    """Make every decision that was based on the account as it was until now stale."""
    bumped = sa.update(accounts).where(accounts.c.id == account_id).values(revision=accounts.c.revision + 1)
    connection.execute(bumped)


def _values(row: Subscription) -> dict[str, Any]:
    return {
        "account_id": row.account_id,
        "plan_version_id": row.plan.version_id,
        "status": row.status,
        "created_at": row.created_at,
        "anchor": row.anchor,
        "period_start": row.period_start,
        "period_end": row.period_end,
        "amount_due": row.amount_due,
        "cancel_at": row.cancel_at,
        "cancel_reason": row.cancel_reason,
        "canceled_at": row.canceled_at,
        "scheduled_plan_version_id": row.scheduled_plan.version_id if row.scheduled_plan else None,
        "pending_plan_version_id": row.pending_plan.version_id if row.pending_plan else None,
        "grace_s": row.grace // timedelta(seconds=1),
        "previous_id": row.previous_id,
        "ended_at": row.ended_at,
    }

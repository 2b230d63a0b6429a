"""Subscriptions as rows: one row per lifetime, an append-only history, and one current row per account.

What may happen to a subscription is decided by the pure functions of `policies.subscription_acts`; here the account is
locked, the row is brought up to `now`, the decision is applied, and row, history, payment and account change together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from policies.proration import differs
from policies.subscription import CURRENT, MOVES, Event, NotPossible, Status, Subscription, elapsed, resolve, start
from policies.subscription_acts import pay
from policies.terms import AccountId, Plan
from store.payments import Payment, book, find
from store.subscription_rows import subscription_of, values_of
from store.tables import accounts, plan_versions, subscription_events, subscriptions

TIME = "time"
"""The actor of events that nobody caused."""


@dataclass(frozen=True, slots=True)
class Changed:
    """A subscription as it was at the moment of a change, and as it is after it."""

    before: Subscription
    row: Subscription


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A payment, the subscription now, and whether it was this call that booked the payment."""

    payment: Payment
    row: Subscription
    changed: bool


def current(connection: Connection, account_id: int) -> Subscription | None:
    """The subscription that counts for an account, as stored. Ended ones do not count."""
    query = sa.select(subscriptions).where(
        subscriptions.c.account_id == account_id, subscriptions.c.status.in_(sorted(CURRENT))
    )
    row = connection.execute(query).first()
    return subscription_of(connection, row) if row is not None else None


def latest(connection: Connection, account_id: int) -> Subscription | None:
    """The current subscription, or the last one that was."""
    query = sa.select(subscriptions).where(subscriptions.c.account_id == account_id)
    row = connection.execute(query.order_by(subscriptions.c.id.desc()).limit(1)).first()
    return subscription_of(connection, row) if row is not None else None


def subscribe(
    connection: Connection,
    account_id: AccountId,
    plan: Plan,
    grace: timedelta,
    actor: str,
    now: datetime,
    *,
    payment_key: str | None = None,
) -> Subscription:
    """A new subscription to `plan`. Raises NotPossible while another one is current.

    An account has one trial ever, of whichever plan comes first: cancelling and subscribing again, to this plan or to
    others, brings no second one. With a `payment_key` what is due is paid in the same transaction.
    """
    _lock(connection, account_id)
    stored = current(connection, account_id)
    if stored is not None:
        row = _settle_time(connection, stored, now)
        if row.current:
            raise NotPossible(f"User already has a subscription that is {row.status}")
    previous = latest(connection, account_id)
    fresh = start(0, account_id, plan, now, previous, trial=not _had_trial(connection, account_id))
    fresh = replace(fresh, grace=grace)
    number = connection.execute(
        sa.insert(subscriptions).values(values_of(fresh)).returning(subscriptions.c.id)
    ).scalar_one()
    row = replace(fresh, subscription_id=number)
    _append(connection, row, Event.SUBSCRIBED, actor, now)
    if payment_key is not None and row.amount_due:
        row = _pay(connection, row, payment_key, actor, now).row
    bump_revision(connection, account_id)
    return row


def _had_trial(connection: Connection, account_id: int) -> bool:
    tried = sa.exists().where(subscriptions.c.account_id == account_id, subscriptions.c.trial_end.is_not(None))
    return bool(connection.execute(sa.select(tried)).scalar_one())


def change(
    connection: Connection,
    account_id: AccountId,
    decide: Callable[[Subscription], tuple[Subscription, Event]],
    actor: str,
    now: datetime,
    *,
    payment_key: str | None = None,
) -> Changed:
    """Apply a decision to the current subscription. Raises NotPossible when there is none, or `decide` says so.

    With a `payment_key` what is due after it is paid in the same transaction.
    """
    before = _current_at(connection, account_id, now)
    row, event = decide(before)
    assert event is not Event.PAID, "payments are booked by `confirm`"
    assert MOVES.get((before.status, event)) is row.status, (
        f"{event} does not lead from {before.status} to {row.status}"
    )
    _save(connection, row)
    _append(connection, row, event, actor, now)
    if payment_key is not None and row.amount_due:
        row = _pay(connection, row, payment_key, actor, now).row
    bump_revision(connection, account_id)
    return Changed(before, row)


def confirm(
    connection: Connection,
    account_id: AccountId,
    key: str,
    amount: int | None,
    actor: str,
    now: datetime,
    at_most: int | None = None,
) -> Confirmed:
    """Book a payment of what is due, and let it start, renew or upgrade. The same key again changes nothing.

    Raises NotPossible when nothing is due, or another `amount` than this, or more than `at_most`, when the key names
    another payment, and when nothing is current. Raises AlreadyExists when another account uses the key at this very
    moment: ask again.
    """
    # Before looking for the key: it may have been confirmed while the lock was waited for.
    _lock(connection, account_id)
    booked = find(connection, key)
    if booked is not None:
        return _confirmed_before(connection, booked, account_id, amount, now)
    row = _current_at(connection, account_id, now)
    if amount is not None and row.amount_due and amount != row.amount_due:
        raise differs(amount, row.amount_due, (row.pending_plan or row.plan).currency)
    if at_most is not None and row.amount_due > at_most:
        raise NotPossible(f"{row.amount_due} are due, and at most {at_most} may be confirmed", amount=row.amount_due)
    confirmed = _pay(connection, row, key, actor, now)
    bump_revision(connection, account_id)
    return confirmed


def _confirmed_before(
    connection: Connection, booked: Payment, account_id: int, amount: int | None, now: datetime
) -> Confirmed:
    if booked.account_id != account_id:
        raise NotPossible(f"The key {booked.key!r} has been used for a payment of account {booked.account_id}")
    if amount is not None and amount != booked.amount:
        message = f"The key {booked.key!r} has been used for a payment of {booked.amount} {booked.currency}"
        raise NotPossible(message, expected=amount, amount=booked.amount, currency=booked.currency)
    row = latest(connection, account_id)
    assert row is not None, "a payment belongs to a subscription"
    return Confirmed(booked, resolve(row, now)[0], changed=False)


def _pay(connection: Connection, due: Subscription, key: str, actor: str, now: datetime) -> Confirmed:
    """Pay what is due. Late for more than a period, it pays for one, and what time has done since comes after it."""
    row, event = pay(due, now)
    _save(connection, row)
    seq = _append(connection, row, event, actor, now)
    payment = book(connection, due, row.plan, seq, key, actor, now)
    return Confirmed(payment, _settle_time(connection, row, now), changed=True)


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
        | (subscriptions.c.pending_until <= now)
        | (subscriptions.c.status == Status.INCOMPLETE)
    )
    query = sa.select(subscriptions).where(candidate, subscriptions.c.account_id > after)
    rows = connection.execute(query.order_by(subscriptions.c.account_id).limit(limit)).all()
    due = [AccountId(row.account_id) for row in rows if elapsed(subscription_of(connection, row), now)]
    return due, AccountId(rows[-1].account_id) if len(rows) == limit else None


def history(connection: Connection, subscription_id: int) -> list[dict[str, Any]]:
    """Every event of a subscription, oldest first, with the plan it was on after it."""
    query = sa.select(subscription_events, plan_versions.c.plan_id, plan_versions.c.version)
    query = query.join(plan_versions, plan_versions.c.id == subscription_events.c.plan_version_id)
    query = query.where(subscription_events.c.subscription_id == subscription_id)
    return [dict(row) for row in connection.execute(query.order_by(subscription_events.c.seq)).mappings()]


def _lock(connection: Connection, account_id: int) -> None:
    connection.execute(sa.select(accounts.c.id).where(accounts.c.id == account_id).with_for_update()).one()


def _current_at(connection: Connection, account_id: int, now: datetime) -> Subscription:
    """The current subscription as it is at `now`, with its account locked. Raises NotPossible when there is none."""
    _lock(connection, account_id)
    stored = current(connection, account_id)
    row = _settle_time(connection, stored, now) if stored is not None else latest(connection, account_id)
    if row is None:
        raise NotPossible("There is no subscription")
    if not row.current:
        raise NotPossible(f"The subscription has ended: it is {row.status}")
    return row


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
    values = values_of(row)
    connection.execute(sa.update(subscriptions).where(subscriptions.c.id == row.subscription_id).values(values))


def _append(connection: Connection, row: Subscription, event: Event, actor: str, now: datetime) -> int:
    """Write an event down, with the row after it; returns its number in the history of the subscription."""
    last = sa.select(sa.func.coalesce(sa.func.max(subscription_events.c.seq), 0)).where(
        subscription_events.c.subscription_id == row.subscription_id
    )
    seq: int = connection.execute(last).scalar_one() + 1
    values = {
        "subscription_id": row.subscription_id,
        "seq": seq,
        "event": event,
        "status": row.status,
        "plan_version_id": row.plan.version_id,
        "actor": actor,
        "at": now,
        "amount_due": row.amount_due,
        "carried": row.carried,
    }
    connection.execute(sa.insert(subscription_events).values(values))
    return seq


def bump_revision(connection: Connection, account_id: int) -> None:
    """Make every decision that was based on the account as it was until now stale."""
    bumped = sa.update(accounts).where(accounts.c.id == account_id).values(revision=accounts.c.revision + 1)
    connection.execute(bumped)

"""The book of payments: what was confirmed to have been paid for a subscription. Rows are added and never changed.

`store.subscriptions` books a payment in the transaction in which it takes effect; everybody else reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from policies.subscription import Subscription
from policies.subscription_acts import Purpose, purpose_of
from policies.terms import AccountId, Plan
from store.tables import payments, plan_versions


@dataclass(frozen=True, slots=True)
class Payment:
    """`amount` is in minor units of `currency`; `key` names it in the world outside, and is used once."""

    payment_id: int
    account_id: AccountId
    subscription_id: int
    purpose: Purpose
    amount: int
    currency: str
    plan_id: str
    plan_version: int
    key: str
    actor: str
    at: datetime


def book(
    connection: Connection, due: Subscription, plan: Plan, seq: int, key: str, actor: str, now: datetime
) -> Payment:
    """The payment of what was `due` on a subscription, which its event `seq` has put on `plan`.

    Raises IntegrityError when the key has been used, also by another account at this moment.
    """
    values = {
        "account_id": due.account_id,
        "subscription_id": due.subscription_id,
        "seq": seq,
        "purpose": purpose_of(due),
        "amount": due.amount_due,
        "currency": plan.currency,
        "plan_version_id": plan.version_id,
        "key": key,
        "actor": actor,
        "at": now,
    }
    connection.execute(sa.insert(payments).values(values))
    booked = find(connection, key)
    assert booked is not None, "the payment was inserted above"
    return booked


def find(connection: Connection, key: str) -> Payment | None:
    row = connection.execute(_query().where(payments.c.key == key)).first()
    return _payment(row) if row is not None else None


def of_account(connection: Connection, account_id: int, before: int | None, limit: int) -> list[Payment]:
    """The payments of an account, newest first, below the id `before`."""
    query = _query().where(payments.c.account_id == account_id)
    if before is not None:
        query = query.where(payments.c.id < before)
    return [_payment(row) for row in connection.execute(query.order_by(payments.c.id.desc()).limit(limit))]


def _query() -> sa.Select[Any]:
    version = plan_versions.c
    named = sa.select(payments, version.plan_id, version.version)
    return named.join(plan_versions, version.id == payments.c.plan_version_id)


def _payment(row: Row[Any]) -> Payment:
    return Payment(
        payment_id=row.id,
        account_id=AccountId(row.account_id),
        subscription_id=row.subscription_id,
        purpose=Purpose(row.purpose),
        amount=row.amount,
        currency=row.currency,
        plan_id=row.plan_id,
        plan_version=row.version,
        key=row.key,
        actor=row.actor,
        at=row.at,
    )

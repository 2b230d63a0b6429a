"""Subscriptions on a real database, at a moment of the test's choosing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from policies.proration import quote_change
from policies.subscription import GRACE_DEFAULT, Subscription
from policies.subscription_acts import cancel, change_plan
from policies.terms import AccountId, Plan, Tier
from store import catalogue, payments, subscriptions
from store.payments import Payment
from store.subscriptions import Confirmed
from tests.store.till import NOON, Till

TIERS = (Tier("free"), Tier("basic"), Tier("pro"))
DAY = timedelta(days=1)
TERMS: dict[str, dict[str, Any]] = {
    "free": {"tier": "free", "price": 0, "daily_quota": 10},
    "basic": {"tier": "basic", "price": 99_000, "daily_quota": 50},
    "tried": {"tier": "basic", "price": 99_000, "daily_quota": 40, "trial_days": 14},
    "pro": {"tier": "pro", "price": 299_000, "daily_quota": 100},
    "pro-yearly": {"tier": "pro", "price": 2_870_000, "daily_quota": 100, "cycle": "yearly"},
    "top": {"tier": "pro", "price": 999_000, "daily_quota": 500},
}


class Office:
    """A till with plans on sale. `now` moves only when a test moves it."""

    def __init__(self, till: Till) -> None:
        self.till = till
        self.now = NOON
        self.plans: dict[str, Plan] = {}

    async def open(self) -> None:
        self.plans = await self.till.database.write(put_plans, self.now)

    async def subscribe(self, account: AccountId, plan: str, key: str | None = None) -> Subscription:
        arguments = (account, self.plans[plan], GRACE_DEFAULT, "user", self.now)
        return await self.till.database.write(subscriptions.subscribe, *arguments, payment_key=key)

    async def confirm(self, account: AccountId, key: str, amount: int | None = None) -> Confirmed:
        arguments = (account, key, amount, "operator", self.now)
        return await self.till.database.write(subscriptions.confirm, *arguments)

    async def change(self, account: AccountId, plan: str, key: str | None = None) -> Subscription:
        def decide(row: Subscription) -> Any:
            return change_plan(row, quote_change(row, self.plans[plan], TIERS, self.now), self.now)

        arguments = (account, decide, "user", self.now)
        return (await self.till.database.write(subscriptions.change, *arguments, payment_key=key)).row

    async def cancel(self, account: AccountId, immediately: bool = False) -> Subscription:
        def decide(row: Subscription) -> Any:
            return cancel(row, self.now, immediately, None)

        return (await self.till.database.write(subscriptions.change, account, decide, "user", self.now)).row

    async def store_due(self, account: AccountId) -> list[Any]:
        return await self.till.database.write(subscriptions.store_due, account, self.now)

    async def payments(self, account: AccountId) -> list[Payment]:
        """Oldest first."""
        return (await self.till.database.read(payments.of_account, account, None, 1000))[::-1]

    async def latest(self, account: AccountId) -> Subscription:
        row = await self.till.database.read(subscriptions.latest, account)
        assert row is not None
        return row

    async def history(self, account: AccountId) -> Sequence[tuple[str, str, datetime]]:
        row = await self.latest(account)
        events = await self.till.database.read(subscriptions.history, row.subscription_id)
        return [(event["event"], event["status"], event["at"]) for event in events]


def put_plans(connection: Connection, now: datetime) -> dict[str, Plan]:
    """The plans above, on sale."""
    for position, (plan_id, terms) in enumerate(TERMS.items()):
        known = {"name": plan_id.title(), "description": "", "currency": "IDR", "cycle": "monthly"}
        known |= {"monthly_quota": None, "max_model_tier": terms["tier"], "features": {}} | terms
        catalogue.put_plan(connection, plan_id, known, position, True, now)
    return {plan.plan_id: plan for plan in catalogue.load(connection).plans}

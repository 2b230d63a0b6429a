"""Plans and subscribers for tests of subscriptions. Moments are in UTC, prices in minor units."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from policies.proration import quote_change
from policies.subscription import Subscription, resolve, start
from policies.subscription_acts import change_plan, pay
from policies.terms import AccountId, Cycle, Plan, Tier
from tests.policies.samples import plan

BEGIN = datetime(2025, 3, 1, tzinfo=UTC)
END = datetime(2025, 4, 1, tzinfo=UTC)
TIERS = (Tier("free"), Tier("basic"), Tier("pro"), Tier("enterprise"))
TICK = timedelta(microseconds=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

FREE = plan("free", 0, version_id=1, daily_quota=10)
BASIC = plan("basic", 99_000, version_id=2, daily_quota=50)
PRO = plan("pro", 299_000, version_id=3, daily_quota=100)
PRO_PLUS = plan("pro", 310_000, version_id=13, plan_id="pro-plus", daily_quota=100)
PRO_YEARLY = plan("pro", 2_870_000, version_id=4, plan_id="pro-yearly", daily_quota=100, cycle=Cycle.YEARLY)
ENTERPRISE = plan("enterprise", 999_000, version_id=5, daily_quota=500)
TRIED = plan("pro", 299_000, version_id=6, plan_id="pro-to-try", daily_quota=100, trial_days=14)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def unpaid(plan: Plan, at: datetime = BEGIN, *, trial: bool = False) -> Subscription:
    """A subscription as it is when it has just been asked for."""
    return start(1, AccountId(1), plan, at, None, trial=trial)


def active(plan: Plan, at: datetime = BEGIN) -> Subscription:
    """A subscription that is active from `at`."""
    row = unpaid(plan, at)
    return row if plan.is_free else pay(row, at)[0]


def changed(row: Subscription, to: Plan, now: datetime) -> Subscription:
    return change_plan(row, quote_change(row, to, TIERS, now), now)[0]


def at(row: Subscription, now: datetime) -> Subscription:
    return resolve(row, now)[0]

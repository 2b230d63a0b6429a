"""Subscriptions at the desk."""

from __future__ import annotations

import pytest

from policies.refusals import Reason
from tests.proxy.operations.desk import Counter


@pytest.fixture
async def ana(counter: Counter) -> str:
    await counter.do("accounts create", user="ana")
    return "ana"


async def test_a_paid_plan_waits_for_its_payment(counter: Counter, ana: str) -> None:
    """Nobody rides before paying; the confirmation activates, and a second one finds nothing due."""
    waiting = (await counter.do("subscriptions subscribe", account=ana, plan="basic-monthly"))["subscription"]
    assert (waiting["status"], waiting["entitled"], waiting["due"]) == ("incomplete", False, 99_000)
    paid = (await counter.do("subscriptions confirm", account=ana))["subscription"]
    assert (paid["status"], paid["entitled"], paid["due"]) == ("active", True, 0)
    await counter.refused("subscriptions confirm", Reason.CONFLICT, account=ana)


async def test_paid_activates_at_once(counter: Counter, ana: str) -> None:
    """With `paid` the payment is confirmed in the same call; a free plan needs none."""
    answer = await counter.do("subscriptions subscribe", account=ana, plan="pro-monthly", paid=True)
    assert answer["subscription"]["status"] == "active"
    await counter.do("accounts create", user="budi")
    answer = await counter.do("subscriptions subscribe", account="budi", plan="free-forever", paid=True)
    assert answer["subscription"]["status"] == "active"


async def test_an_account_has_one_subscription(counter: Counter, ana: str) -> None:
    """A second one is refused while the first is current, also while it only waits for its payment."""
    await counter.do("subscriptions subscribe", account=ana, plan="basic-monthly")
    refusal = await counter.refused("subscriptions subscribe", Reason.CONFLICT, account=ana, plan="pro-monthly")
    assert "incomplete" in refusal.error


async def test_an_upgrade_waits_and_a_downgrade_is_scheduled(counter: Counter, ana: str) -> None:
    """An upgrade costs the difference and applies when paid; a downgrade waits for the period's end, or is undone."""
    await counter.do("subscriptions subscribe", account=ana, plan="basic-monthly", paid=True)
    upgrade = (await counter.do("subscriptions change", account=ana, plan="pro-monthly"))["subscription"]
    assert (upgrade["plan"], upgrade["pending_plan"], upgrade["due"]) == ("basic-monthly", "pro-monthly", 200_000)
    assert (await counter.do("subscriptions confirm", account=ana))["subscription"]["plan"] == "pro-monthly"
    downgrade = (await counter.do("subscriptions change", account=ana, plan="basic-monthly"))["subscription"]
    assert (downgrade["plan"], downgrade["scheduled_plan"]) == ("pro-monthly", "basic-monthly")
    undone = (await counter.do("subscriptions change", account=ana, plan="pro-monthly"))["subscription"]
    assert (undone["plan"], undone["scheduled_plan"]) == ("pro-monthly", None)
    await counter.refused("subscriptions change", Reason.CONFLICT, account=ana, plan="pro-monthly")


async def test_a_cancellation_keeps_what_is_paid(counter: Counter, ana: str) -> None:
    """Cancelled at the period's end it entitles until then; immediately, it ends now."""
    await counter.do("subscriptions subscribe", account=ana, plan="basic-monthly", paid=True)
    later = (await counter.do("subscriptions cancel", account=ana, reason="moved away"))["subscription"]
    assert (later["entitled"], later["cancel_at"]) == (True, later["period_end"])
    now = (await counter.do("subscriptions cancel", account=ana, immediately=True))["subscription"]
    assert (now["status"], now["entitled"]) == ("canceled", False)
    await counter.refused("subscriptions cancel", Reason.CONFLICT, account=ana)


async def test_a_subscription_is_shown_as_it_is_now(counter: Counter, ana: str) -> None:
    """Unpaid after its period it is past due, after the grace time expired, without any job having run."""
    await counter.do("subscriptions subscribe", account=ana, plan="basic-monthly", paid=True)
    counter.clock.now = counter.clock.now.replace(month=2, day=16)
    shown = (await counter.do("subscriptions show", account=ana))["subscription"]
    assert (shown["status"], shown["entitled"], shown["grace_until"][:10]) == ("past_due", True, "2026-02-22")
    counter.clock.now = counter.clock.now.replace(month=3)
    shown = (await counter.do("subscriptions show", account=ana))["subscription"]
    assert (shown["status"], shown["entitled"]) == ("expired", False)


async def test_an_unknown_plan_comes_with_the_nearest(counter: Counter, ana: str) -> None:
    """A typing mistake is told with what was probably meant."""
    refusal = await counter.refused("subscriptions subscribe", Reason.NOT_FOUND, account=ana, plan="pro-montly")
    assert "did you mean 'pro-monthly'?" in refusal.error


async def test_without_plans_the_seed_is_named(counter_anywhere: Counter) -> None:
    """An empty price list says how to fill it."""
    await counter_anywhere.do("accounts create", user="ana")
    refusal = await counter_anywhere.refused("subscriptions subscribe", Reason.NOT_FOUND, account="ana", plan="pro")
    assert refusal.hint == "There are no plans yet; load them with: farebox seed"


async def test_the_history_names_the_actor(counter: Counter, ana: str) -> None:
    """Who did it stands beside what was done; an account that never subscribed has an empty history."""
    assert (await counter.do("subscriptions history", account=ana))["events"] == []
    await counter.do("subscriptions subscribe", account=ana, plan="basic-monthly", paid=True)
    events = (await counter.do("subscriptions history", account=ana))["events"]
    assert [(event["event"], event["actor"]) for event in events] == [("subscribed", "tester"), ("paid", "tester")]

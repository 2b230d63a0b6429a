"""Subscriptions at the desk."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from policies.refusals import Reason, Refusal
from seeds.load import load_catalogue
from seeds.reading import default_files
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


# Payments.


async def test_a_confirmation_is_safe_to_repeat(counter: Counter, ana: str) -> None:
    """One key is one payment: the second answer is the first but for `changed`."""
    await counter.do("subscriptions subscribe", account=ana, plan="basic-monthly")
    given = {"account": ana, "amount": 99_000, "key": "invoice-88"}
    first = await counter.do("subscriptions confirm", **given)
    again = await counter.do("subscriptions confirm", **given)
    assert (first["changed"], again["changed"]) == (True, False)
    assert again | {"changed": True} == first
    assert first["payment"]["purpose"] == "start"
    assert len((await counter.do("subscriptions payments", account=ana))["payments"]) == 1


async def test_another_amount_than_what_is_due_is_refused(counter: Counter, ana: str) -> None:
    """With both numbers, in words and as fields; nothing has changed."""
    await counter.do("subscriptions subscribe", account=ana, plan="basic-monthly")
    refusal = await counter.refused("subscriptions confirm", Reason.CONFLICT, account=ana, amount=90_000)
    assert refusal.error == "99000 IDR would be due, and not 90000"
    assert refusal.fields == {"expected": 90_000, "amount": 99_000, "currency": "IDR"}
    assert (await counter.do("subscriptions show", account=ana))["subscription"]["status"] == "incomplete"


async def test_a_key_is_told_whose_it_was(counter_anywhere: Counter) -> None:
    """The same invoice for another account is a mistake that is worth a sentence, also at the same moment."""
    counter = counter_anywhere
    await load_catalogue(counter.desk.store, default_files())
    ids = {}
    for name in ("ana", "budi"):
        ids[name] = (await counter.do("accounts create", user=name))["account"]
        await counter.do("subscriptions subscribe", account=name, plan="basic-monthly")
    answers = await asyncio.gather(
        *(counter.try_to("subscriptions confirm", account=name, key="invoice-88") for name in ids)
    )
    (refusal,) = [answer for answer in answers if isinstance(answer, Refusal)]
    (done,) = [answer for answer in answers if not isinstance(answer, Refusal)]
    assert refusal.error == f"The key 'invoice-88' has been used for a payment of account {done['account']}"


async def test_payments_come_in_pages(counter: Counter, ana: str) -> None:
    """Newest first, with the place to go on."""
    await counter.do("subscriptions subscribe", account=ana, plan="basic-monthly", paid=True)
    await counter.do("subscriptions change", account=ana, plan="pro-monthly")
    await counter.do("subscriptions confirm", account=ana, key="second")
    page = await counter.do("subscriptions payments", account=ana, limit=1)
    assert [(row["purpose"], row["amount"], row["plan"]) for row in page["payments"]] == [
        ("upgrade", 200_000, "pro-monthly")
    ]
    rest = await counter.do("subscriptions payments", account=ana, limit=1, before=page["next"])
    assert ([row["purpose"] for row in rest["payments"]], rest["next"]) == (["start"], None)


# Quotes, resuming, versions.


async def test_a_preview_is_what_the_change_costs(counter: Counter, ana: str) -> None:
    """Insisted on with `expect`; when the hour is over the refusal has the new number."""
    await counter.refused("subscriptions preview", Reason.CONFLICT, account=ana, plan="pro-monthly")
    await counter.do("subscriptions subscribe", account=ana, plan="basic-monthly", paid=True)
    quote = (await counter.do("subscriptions preview", account=ana, plan="pro-monthly"))["quote"]
    assert (quote["direction"], quote["amount"], quote["quoted_until"]) == (
        "upgrade",
        200_000,
        "2026-01-15T11:30:00.000Z",
    )
    counter.clock.now += timedelta(hours=1)
    given = {"account": ana, "plan": "pro-monthly", "expect": quote["amount"]}
    refusal = await counter.refused("subscriptions change", Reason.CONFLICT, **given)
    assert refusal.fields["amount"] == 199_732
    done = await counter.do("subscriptions change", **given | {"expect": 199_732})
    assert done["quote"]["amount"] == done["subscription"]["due"] == 199_732


async def test_a_cancellation_is_taken_back(counter: Counter, ana: str) -> None:
    """Until it has come into effect; then the conflict says that it has ended."""
    await counter.do("subscriptions subscribe", account=ana, plan="basic-monthly", paid=True)
    before = await counter.do("subscriptions show", account=ana)
    await counter.refused("subscriptions resume", Reason.CONFLICT, account=ana)
    await counter.do("subscriptions cancel", account=ana)
    assert await counter.do("subscriptions resume", account=ana) == before
    ended = await counter.do("subscriptions cancel", account=ana, immediately=True)
    assert (ended["unused"], ended["subscription"]["refund_quoted"]) == (99_000, 0)
    refusal = await counter.refused("subscriptions resume", Reason.CONFLICT, account=ana)
    assert refusal.error == "The subscription has ended: it is canceled"


async def test_a_subscriber_is_taken_to_the_newest_version(counter: Counter, ana: str, tmp_path: Path) -> None:
    """Whoever has subscribed keeps the terms of that day, until an operator schedules the new ones."""
    await counter.do("subscriptions subscribe", account=ana, plan="basic-monthly", paid=True)
    await counter.refused("subscriptions migrate", Reason.CONFLICT, account=ana)
    (packaged,) = [path for path in default_files() if path.name == "plans.yaml"]
    dearer = tmp_path / "plans.yaml"
    dearer.write_text(packaged.read_text().replace("amount: 99000", "amount: 119000"))
    await load_catalogue(counter.desk.store, [dearer])
    shown = (await counter.do("subscriptions show", account=ana))["subscription"]
    assert (shown["plan_version"], shown["scheduled_plan"]) == (1, None)
    scheduled = (await counter.do("subscriptions migrate", account=ana))["subscription"]
    assert (scheduled["plan_version"], scheduled["scheduled_plan"], scheduled["scheduled_version"]) == (
        1,
        "basic-monthly",
        2,
    )
    counter.clock.now = counter.clock.now.replace(month=2)
    shown = (await counter.do("subscriptions show", account=ana))["subscription"]
    assert (shown["plan_version"], shown["due"]) == (2, 119_000)

"""Changing the plan over HTTP: what it would cost, what it costs, and what was paid."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from policies.refusals import iso
from tests.proxy.management.conftest import Start
from tests.proxy.management.service import NOW, MovableClock, Service

MONTH_LATER = datetime.fromisoformat("2026-02-15T10:30:00Z")


async def test_an_upgrade_applies_when_it_is_paid(service: Service, clock: MovableClock) -> None:
    """It costs the difference for the rest of the period, and the tier changes with the payment."""
    await service.subscribed("basic")
    clock.forward(days=15.5)
    answer = await service.post("/subscription/change-plan", {"newPlanId": "pro"})
    assert (answer["direction"], answer["appliesAt"]) == ("upgrade", None)
    assert answer["amount"] == answer["payment"]["amount"] == 100_000
    assert answer["subscription"]["pendingPlan"]["planId"] == "pro"
    assert (await service.get("/subscription/status"))["tier"] == "basic"
    await service.paid((await service.user()).account.account_id)
    status = await service.get("/subscription/status")
    assert (status["tier"], status["subscription"]["endDate"]) == ("pro", iso(MONTH_LATER))
    assert status["subscription"]["pendingPlan"] is None


async def test_an_upgrade_with_immediate_payment_applies_now(start: Start) -> None:
    """The answer still says what it has cost."""
    async with start(payment="immediate") as service:
        await service.subscribed("basic")
        answer = await service.post("/subscription/change-plan", {"newPlanId": "enterprise"})
        assert (answer["direction"], answer["appliesAt"], answer["payment"]) == ("upgrade", iso(NOW), None)
        assert answer["amount"] == 900_000
        assert (await service.get("/subscription/status"))["tier"] == "enterprise"


async def test_a_downgrade_waits_for_the_end_of_the_period(service: Service, clock: MovableClock) -> None:
    """What is paid for stays until then; afterwards the new price is due, with days of grace."""
    await service.subscribed("pro")
    answer = await service.post("/subscription/change-plan", {"newPlanId": "basic"})
    assert (answer["direction"], answer["appliesAt"]) == ("downgrade", iso(MONTH_LATER))
    assert (answer["amount"], answer["payment"]) == (0, None)
    assert answer["subscription"]["scheduledPlan"]["planId"] == "basic"
    assert (await service.get("/subscription/status"))["tier"] == "pro"
    clock.now = MONTH_LATER
    status = await service.get("/subscription/status")
    subscription = status["subscription"]
    assert (status["tier"], status["isActive"], subscription["status"]) == ("basic", True, "past_due")
    assert subscription["payment"]["amount"] == 99_000
    assert subscription["graceUntil"] == subscription["payment"]["dueBy"] == iso(MONTH_LATER + timedelta(days=7))


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [({"newPlanId": "basic"}, 409, "conflict"), ({"newPlanId": "no-such-plan"}, 404, "not_found")],
    ids=["the same plan", "no plan"],
)
async def test_a_change_that_makes_no_sense_is_refused(
    service: Service, body: dict[str, Any], status: int, code: str
) -> None:
    """To the plan that one has, or to none."""
    await service.subscribed("basic")
    assert (await service.post("/subscription/change-plan", body, status=status))["code"] == code


async def test_an_unpaid_subscription_cannot_change_its_plan(service: Service) -> None:
    """A conflict: nobody climbs tiers before paying."""
    await service.post("/subscription/subscribe", {"planId": "basic"}, status=201)
    answer = await service.post("/subscription/change-plan", {"newPlanId": "enterprise"}, status=409)
    assert "incomplete" in answer["error"]


# Previews.


async def test_a_preview_changes_nothing(service: Service) -> None:
    """It says what would be due, when it would apply and until when that stands; the subscription stays as it is."""
    await service.subscribed("basic")
    before = await service.get("/subscription/status")
    preview = await service.post("/subscription/preview-change", {"newPlanId": "pro"})
    assert (preview["direction"], preview["amount"], preview["currency"], preview["credit"]) == (
        "upgrade",
        200_000,
        "IDR",
        0,
    )
    assert (preview["appliesAt"], preview["quotedUntil"]) == (None, iso(NOW + timedelta(hours=1)))
    assert preview["plan"]["planId"] == "pro"
    downgrade = await service.post("/subscription/preview-change", {"newPlanId": "free"})
    assert (downgrade["direction"], downgrade["amount"]) == ("downgrade", 0)
    assert downgrade["appliesAt"] == downgrade["quotedUntil"] == iso(MONTH_LATER)
    assert await service.get("/subscription/status") == before


@pytest.mark.parametrize(("plan_id", "status"), [("no-such-plan", 404), ("basic", 409)])
async def test_a_preview_refuses_what_the_change_would(service: Service, plan_id: str, status: int) -> None:
    """With the same sentence."""
    await service.post("/subscription/preview-change", {"newPlanId": "pro"}, status=404)
    await service.subscribed("basic")
    refused = await service.post("/subscription/preview-change", {"newPlanId": plan_id}, status=status)
    also = await service.post("/subscription/change-plan", {"newPlanId": plan_id}, status=status)
    assert refused["error"] == also["error"]


@pytest.mark.parametrize("plan_id", ["pro", "pro-yearly", "enterprise"])
async def test_what_was_quoted_is_what_is_booked(service: Service, clock: MovableClock, plan_id: str) -> None:
    """The amount of the preview, while it stands, is that of the change, of its payment, and of the book."""
    row = await service.subscribed("basic")
    clock.forward(days=10, minutes=20)
    preview = await service.post("/subscription/preview-change", {"newPlanId": plan_id})
    clock.now = datetime.fromisoformat(preview["quotedUntil"]) - timedelta(milliseconds=1)
    body = {"newPlanId": plan_id, "expectedAmount": preview["amount"]}
    changed = await service.post("/subscription/change-plan", body)
    assert changed["amount"] == changed["payment"]["amount"] == preview["amount"]
    assert changed["payment"]["dueBy"] == iso(clock.now + timedelta(hours=24))
    clock.forward(hours=23)
    await service.paid(row.account_id)
    newest = (await service.get("/subscription/payments"))["payments"][0]
    assert (newest["amount"], newest["purpose"], newest["planId"]) == (preview["amount"], "upgrade", plan_id)
    assert newest["createdAt"] == iso(clock.now)


async def test_a_price_that_stands_no_more_is_refused_with_the_new_one(service: Service, clock: MovableClock) -> None:
    """An hour later; nothing has changed then, and the number of the refusal is accepted."""
    await service.subscribed("basic")
    preview = await service.post("/subscription/preview-change", {"newPlanId": "pro"})
    clock.now = datetime.fromisoformat(preview["quotedUntil"])
    body = {"newPlanId": "pro", "expectedAmount": preview["amount"]}
    refused = await service.post("/subscription/change-plan", body, status=409)
    assert (refused["expected"], refused["amount"], refused["currency"]) == (200_000, 199_732, "IDR")
    assert (await service.get("/subscription/status"))["subscription"]["pendingPlan"] is None
    changed = await service.post("/subscription/change-plan", body | {"expectedAmount": refused["amount"]})
    assert changed["amount"] == 199_732


async def test_what_is_expected_is_compared_with_what_is_there_now(service: Service) -> None:
    """A subscription that was changed after the preview, by its holder or by an operator, is priced as it is."""
    row = await service.subscribed("basic")
    preview = await service.post("/subscription/preview-change", {"newPlanId": "enterprise"})
    await service.post("/subscription/change-plan", {"newPlanId": "pro"})
    await service.paid(row.account_id)
    body = {"newPlanId": "enterprise", "expectedAmount": preview["amount"]}
    assert (await service.post("/subscription/change-plan", body, status=409))["amount"] == 700_000


async def test_an_upgrade_that_is_not_paid_within_a_day_lapses(service: Service, clock: MovableClock) -> None:
    """Without any job: nothing is due any more, and the old plan goes on."""
    row = await service.subscribed("basic")
    await service.post("/subscription/change-plan", {"newPlanId": "pro"})
    clock.forward(hours=24)
    subscription = (await service.get("/subscription/status"))["subscription"]
    assert (subscription["planId"], subscription["pendingPlan"], subscription["payment"]) == ("basic", None, None)
    await service.post("/subscription/resume", status=409)
    again = await service.post("/subscription/change-plan", {"newPlanId": "pro"})
    assert again["amount"] == 193_549
    assert (await service.paid(row.account_id)).plan.plan_id == "pro"


async def test_choosing_the_present_plan_withdraws_what_was_planned(service: Service) -> None:
    """The answer says that the subscription stays."""
    await service.subscribed("pro")
    await service.post("/subscription/change-plan", {"newPlanId": "basic"})
    stays = await service.post("/subscription/change-plan", {"newPlanId": "pro"})
    assert (stays["direction"], stays["message"], stays["amount"]) == ("stay", "Subscription stays on Pro", 0)
    assert stays["subscription"]["scheduledPlan"] is None


# Credit.


async def test_the_rest_of_a_year_is_shown_as_a_credit(service: Service, clock: MovableClock) -> None:
    """In the preview, in the answer, in the status; and the next period costs that much less."""
    await service.subscribed("pro-yearly")
    clock.forward(days=300)
    preview = await service.post("/subscription/preview-change", {"newPlanId": "enterprise"})
    assert (preview["amount"], preview["credit"]) == (487_905, 0)
    clock.forward(days=-200)
    preview = await service.post("/subscription/preview-change", {"newPlanId": "enterprise"})
    changed = await service.post("/subscription/change-plan", {"newPlanId": "enterprise", "expectedAmount": 0})
    assert preview["credit"] == changed["credit"] == changed["subscription"]["credit"] == 1_084_698
    assert (changed["message"], changed["payment"]) == ("Plan changed successfully", None)
    assert changed["subscription"]["nextAmount"] == 0
    clock.forward(days=31)
    subscription = (await service.get("/subscription/status"))["subscription"]
    assert (subscription["status"], subscription["credit"], subscription["nextAmount"]) == ("active", 85_698, 913_302)


# Payments.


async def test_every_payment_is_listed_newest_first(service: Service, clock: MovableClock) -> None:
    """Page by page, with what it was for; those of others are not among them."""
    await service.subscribed("basic", "budi")
    row = await service.subscribed("basic")
    await service.post("/subscription/change-plan", {"newPlanId": "pro"})
    await service.paid(row.account_id)
    clock.now = MONTH_LATER
    await service.paid(row.account_id)
    rows = [row async for page in service.pages("/subscription/payments", "payments", 2) for row in page]
    assert [(row["purpose"], row["planId"], row["amount"]) for row in rows] == [
        ("renew", "pro", 299_000),
        ("upgrade", "pro", 200_000),
        ("start", "basic", 99_000),
    ]
    assert await service.get("/subscription/payments", user="cara") == {"payments": [], "nextCursor": None}
    await service.get("/subscription/payments?cursor=x", status=400)


async def test_an_immediate_payment_is_booked(start: Start) -> None:
    """What is paid by being asked for is in the book like every other payment, with the amount of the answer."""
    async with start(payment="immediate") as service:
        await service.post("/subscription/subscribe", {"planId": "basic"}, status=201)
        changed = await service.post("/subscription/change-plan", {"newPlanId": "pro", "expectedAmount": 200_000})
        rows = (await service.get("/subscription/payments"))["payments"]
        assert [row["amount"] for row in rows] == [changed["amount"], 99_000]
        assert all(row["reference"].startswith("immediate:") for row in rows)

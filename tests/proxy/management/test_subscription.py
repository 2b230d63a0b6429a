"""Subscribing, cancelling and changing plans over HTTP."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest

from policies.refusals import Refusal, iso
from policies.terms import Scope
from proxy.identity.credentials import Shown
from tests.proxy.management.conftest import Start
from tests.proxy.management.service import NOW, MovableClock, Service, token

MONTH_LATER = datetime.fromisoformat("2026-02-15T10:30:00Z")


async def test_a_new_user_has_no_subscription_and_the_payg_tier(service: Service) -> None:
    """The status of someone who never subscribed is null, not an error."""
    assert await service.get("/subscription/status") == {
        "subscription": None,
        "tier": "free",
        "isActive": False,
        "accountType": "payg",
    }


async def test_a_paid_plan_gives_nothing_before_it_is_paid(service: Service) -> None:
    """Subscribing answers 201 with what to pay, and the tier stays that of pay-as-you-go."""
    answer = await service.post("/subscription/subscribe", {"planId": "basic"}, status=201)
    assert answer["success"] is True
    assert answer["subscription"]["status"] == "incomplete"
    assert answer["payment"]["amount"] == 99_000
    assert answer["payment"]["currency"] == "IDR"
    assert answer["payment"]["dueBy"] == iso(NOW + timedelta(hours=24))
    status = await service.get("/subscription/status")
    assert (status["tier"], status["isActive"], status["accountType"]) == ("free", False, "payg")
    assert status["subscription"]["payment"] == answer["payment"]


async def test_a_confirmed_payment_shows_at_once(service: Service) -> None:
    """A payment confirmed behind the caller's back is in the very next answer, whatever is remembered of them."""
    await service.post("/subscription/subscribe", {"planId": "basic"}, status=201)
    await service.get("/subscription/status")
    await service.paid((await service.user()).account.account_id)
    status = await service.get("/subscription/status")
    assert (status["tier"], status["isActive"], status["accountType"]) == ("basic", True, "subscription")
    subscription = status["subscription"]
    assert subscription["status"] == "active"
    assert subscription["payment"] is None
    assert subscription["plan"]["planId"] == subscription["planId"] == "basic"
    assert (subscription["startDate"], subscription["endDate"]) == (iso(NOW), iso(MONTH_LATER))
    assert subscription["nextBillingDate"] == iso(MONTH_LATER)


async def test_nothing_that_is_shown_is_remembered(service: Service) -> None:
    """What an operator does meanwhile is in every next answer, though the gate remembers callers for seconds."""
    await service.get("/quota/status")
    await service.subscribed("basic")
    assert (await service.get("/quota/status"))["limit"] == 50
    assert len((await service.get("/apps/video/models"))["models"]) == 2
    assert (await service.post("/quote", {"modelKey": "video:beta"}))["allowed"] is True
    await service.freeze()
    assert (await service.get("/apps"))["apps"] == []


async def test_the_gate_forgets_a_caller_who_has_subscribed(service: Service) -> None:
    """Their next request is decided with the new plan, without a stale decision first."""
    shown = Shown("GET", [("Authorization", f"Bearer {token('ana')}")], None)
    before = await service.services.identifier.identify(shown, Scope.READ)
    await service.post("/subscription/subscribe", {"planId": "free"}, status=201)
    after = await service.services.identifier.identify(shown, Scope.READ)
    assert not isinstance(before, Refusal)
    assert not isinstance(after, Refusal)
    assert after.account.revision > before.account.revision


async def test_a_free_plan_is_active_at_once(service: Service) -> None:
    """Nothing is to be paid, now or later."""
    answer = await service.post("/subscription/subscribe", {"planId": "free"}, status=201)
    assert answer["payment"] is None
    assert answer["subscription"]["status"] == "active"
    assert answer["subscription"]["nextBillingDate"] is None


async def test_immediate_payment_activates_a_paid_plan(start: Start) -> None:
    """With `payment: immediate`, as in demonstrations, subscribing is paying."""
    async with start(payment="immediate") as service:
        answer = await service.post("/subscription/subscribe", {"planId": "pro"}, status=201)
        assert answer["payment"] is None
        assert answer["subscription"]["status"] == "active"
        assert (await service.get("/subscription/status"))["tier"] == "pro"


async def test_one_subscription_at_a_time(service: Service) -> None:
    """A second one is a conflict while the first is current, also while it is unpaid."""
    await service.post("/subscription/subscribe", {"planId": "basic"}, status=201)
    answer = await service.post("/subscription/subscribe", {"planId": "pro"}, status=409)
    assert answer["code"] == "conflict"
    assert "incomplete" in answer["error"]


async def test_of_simultaneous_subscriptions_one_wins(service: Service) -> None:
    """Ten clicks make one subscription and nine conflicts."""
    await service.user()

    async def click() -> int:
        headers = {"Authorization": f"Bearer {token('ana')}"}
        path = "/api/subscription/subscribe"
        async with service.client.post(path, json={"planId": "basic"}, headers=headers) as answer:
            return answer.status

    statuses = await asyncio.gather(*(click() for _ in range(10)))
    assert sorted(statuses) == [201] + [409] * 9


@pytest.mark.parametrize("plan_id", ["no-such-plan", "retired"])
async def test_only_plans_on_sale_can_be_subscribed_to(service: Service, plan_id: str) -> None:
    """An unknown plan and one that was taken off sale are both not found."""
    answer = await service.post("/subscription/subscribe", {"planId": plan_id}, status=404)
    assert (answer["code"], answer["field"]) == ("not_found", "planId")
    assert (await service.get("/subscription/status"))["subscription"] is None


async def test_an_abandoned_checkout_does_not_stand_in_the_way(service: Service, clock: MovableClock) -> None:
    """After a day without payment the user may subscribe again, though no job has tidied up."""
    await service.post("/subscription/subscribe", {"planId": "basic"}, status=201)
    clock.forward(hours=25)
    status = await service.get("/subscription/status")
    assert (status["subscription"]["status"], status["subscription"]["payment"]) == ("expired", None)
    await service.post("/subscription/subscribe", {"planId": "pro"}, status=201)


async def test_cancelling_keeps_what_is_paid_for(service: Service, clock: MovableClock) -> None:
    """The subscription stays active until the end of its period and ends then, without a job."""
    await service.subscribed("basic")
    answer = await service.post("/subscription/cancel", {"reason": "Too expensive"})
    assert answer["message"] == "Subscription will remain active until end of billing period"
    assert answer["endDate"] == iso(MONTH_LATER)
    subscription = answer["subscription"]
    assert (subscription["autoRenew"], subscription["cancelReason"]) == (False, "Too expensive")
    assert subscription["nextBillingDate"] is None
    clock.now = MONTH_LATER - timedelta(seconds=1)
    assert (await service.get("/subscription/status"))["isActive"] is True
    clock.now = MONTH_LATER
    ended = await service.get("/subscription/status")
    assert (ended["isActive"], ended["tier"]) == (False, "free")
    assert (ended["subscription"]["status"], ended["subscription"]["endDate"]) == ("canceled", iso(MONTH_LATER))


async def test_cancelling_needs_no_body(service: Service) -> None:
    """The origin failed on an empty body; here it means a cancellation without a reason."""
    await service.subscribed("basic")
    answer = await service.post("/subscription/cancel")
    assert answer["subscription"]["cancelReason"] is None


async def test_cancelling_immediately_ends_now(service: Service) -> None:
    """The tier is gone with the answer."""
    await service.subscribed("basic")
    answer = await service.post("/subscriptions/cancel", {"immediately": True})
    assert (answer["subscription"]["status"], answer["endDate"]) == ("canceled", iso(NOW))
    assert answer["subscription"]["endDate"] == answer["subscription"]["endedAt"] == iso(NOW)
    status = await service.get("/subscriptions/current")
    assert (status["tier"], status["isActive"]) == ("free", False)


async def test_what_cancelling_now_gives_up_is_told(service: Service, clock: MovableClock) -> None:
    """As an amount; nothing is paid back. At the end of the period nothing is given up."""
    await service.subscribed("basic")
    clock.forward(days=15.5)
    later = await service.post("/subscription/cancel")
    assert (later["unused"], later["refund"], later["currency"]) == (0, 0, "IDR")
    now = await service.post("/subscription/cancel", {"immediately": True})
    assert (now["unused"], now["refund"]) == (49_500, 0)
    assert now["subscription"]["refundQuoted"] == 0


async def test_a_refund_is_quoted_where_that_is_the_rule(start: Start, clock: MovableClock) -> None:
    """With `unused_time: refund` the answer says what is to be paid back, and so does the ended subscription."""
    async with start(unused_time="refund") as service:
        await service.subscribed("basic")
        clock.forward(days=15.5)
        answer = await service.post("/subscription/cancel", {"immediately": True})
        assert answer["unused"] == answer["refund"] == 49_500
        assert (await service.get("/subscription/status"))["subscription"]["refundQuoted"] == 49_500


async def test_a_cancellation_is_taken_back_until_the_end(service: Service, clock: MovableClock) -> None:
    """To the last second; afterwards it has ended, which a conflict says. What is not cancelled cannot be resumed."""
    await service.post("/subscription/resume", status=409)
    await service.subscribed("basic")
    assert "no cancellation" in (await service.post("/subscription/resume", status=409))["error"]
    before = await service.get("/subscription/status")
    await service.post("/subscription/cancel", {"reason": "a mistake"})
    clock.now = MONTH_LATER - timedelta(seconds=1)
    resumed = await service.post("/subscription/resume")
    assert resumed["subscription"] == before["subscription"]
    await service.post("/subscription/cancel")
    clock.now = MONTH_LATER
    ended = await service.post("/subscription/resume", status=409)
    assert ended["error"] == "The subscription has ended: it is canceled"


async def test_a_trial_entitles_at_once(service: Service, clock: MovableClock) -> None:
    """Without payment and until its end is told; what is due by then is told too. Unpaid, nothing is left of it."""
    await service.offer_trial("pro", 14)
    answer = await service.post("/subscription/subscribe", {"planId": "pro"}, status=201)
    trial_end = iso(NOW + timedelta(days=14))
    subscription = answer["subscription"]
    assert (subscription["status"], subscription["trialEnd"], subscription["endDate"]) == (
        "trialing",
        trial_end,
        trial_end,
    )
    assert (answer["payment"]["amount"], answer["payment"]["dueBy"]) == (299_000, trial_end)
    assert (subscription["nextBillingDate"], subscription["nextAmount"]) == (trial_end, 299_000)
    assert (await service.get("/quota/status"))["limit"] == 100
    clock.forward(days=14)
    ended = await service.get("/subscription/status")
    assert (ended["isActive"], ended["tier"], ended["subscription"]["status"]) == (False, "free", "expired")


async def test_a_paid_trial_goes_on_to_its_end(service: Service, clock: MovableClock) -> None:
    """The paid month begins when the trial ends."""
    await service.offer_trial("pro", 14)
    await service.post("/subscription/subscribe", {"planId": "pro"}, status=201)
    clock.forward(days=3)
    await service.paid((await service.user()).account.account_id)
    subscription = (await service.get("/subscription/status"))["subscription"]
    assert (subscription["status"], subscription["payment"]) == ("active", None)
    assert subscription["startDate"] == subscription["trialEnd"] == iso(NOW + timedelta(days=14))
    assert subscription["endDate"] == "2026-02-28T10:30:00.000Z"


@pytest.mark.parametrize("again", ["pro", "basic"])
async def test_an_account_has_one_trial_ever(service: Service, clock: MovableClock, again: str) -> None:
    """Neither cancelling and subscribing again, nor another plan, nor waiting brings a second one."""
    await service.offer_trial("pro", 14)
    await service.offer_trial("basic", 7)
    await service.post("/subscription/subscribe", {"planId": "pro"}, status=201)
    await service.post("/subscription/cancel", {"immediately": True})
    clock.forward(days=400)
    answer = await service.post("/subscription/subscribe", {"planId": again}, status=201)
    assert answer["subscription"]["status"] == "incomplete"
    assert (await service.get("/subscription/status"))["isActive"] is False


@pytest.mark.parametrize(
    ("path", "body"), [("/subscription/cancel", None), ("/subscription/change-plan", {"newPlanId": "pro"})]
)
async def test_without_a_subscription_there_is_nothing_to_change(service: Service, path: str, body: object) -> None:
    """404, and not a conflict: there is no such thing."""
    answer = await service.post(path, body, status=404)
    assert (answer["code"], answer["error"]) == ("not_found", "No active subscription")


async def test_an_ended_subscription_cannot_be_changed(service: Service) -> None:
    """Neither cancelled again nor changed to another plan, which raised the tier of the origin's expired users."""
    await service.subscribed("basic")
    await service.post("/subscription/cancel", {"immediately": True})
    await service.post("/subscription/cancel", status=404)
    await service.post("/subscription/change-plan", {"newPlanId": "enterprise"}, status=404)


async def test_a_frozen_account_may_look_and_not_change(service: Service) -> None:
    """Reading goes on; subscribing, changing and cancelling are refused."""
    await service.subscribed("basic")
    await service.freeze()
    assert (await service.get("/subscription/status"))["isActive"] is True
    bodies = {"subscribe": {"planId": "pro"}, "change-plan": {"newPlanId": "pro"}, "cancel": None, "resume": None}
    for path, body in bodies.items():
        answer = await service.post(f"/subscription/{path}", body, status=403)
        assert answer["code"] == "account_frozen"


async def test_resubscribing_uses_the_quota_of_the_same_day(service: Service) -> None:
    """Cancelling and subscribing again brings no second quota."""
    await service.subscribed("free")
    await service.use("video:alpha")
    await service.post("/subscription/cancel", {"immediately": True})
    await service.post("/subscription/subscribe", {"planId": "free"}, status=201)
    assert (await service.get("/quota/status"))["used"] == 1

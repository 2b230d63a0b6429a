"""What is left of the quota, what was used, and what was used before."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from tests.proxy.management.service import MovableClock, Service

TOMORROW = "2026-01-16T00:00:00.000Z"
NEXT_MONTH = "2026-02-01T00:00:00.000Z"


async def test_a_payg_account_has_no_quota(service: Service) -> None:
    """All zero, with a note, and never an invented limit."""
    assert await service.get("/quota/status") == {
        "remaining": 0,
        "used": 0,
        "limit": 0,
        "carried": 0,
        "resetAt": TOMORROW,
        "timeZone": "UTC",
        "breakdown": {},
        "monthly": None,
        "note": "This account pays with credits and has no quota.",
    }


async def test_used_quota_shows_by_model(service: Service) -> None:
    """Keys are full model keys, since two apps may have a model of the same id."""
    await service.subscribed("pro")
    for key in ("video:alpha", "video:gamma", "video:gamma"):
        await service.use(key)
    assert await service.get("/quota/status") == {
        "remaining": 95,
        "used": 5,
        "limit": 100,
        "carried": 0,
        "resetAt": TOMORROW,
        "timeZone": "UTC",
        "breakdown": {"video:alpha": 1, "video:gamma": 4},
        "monthly": {"remaining": 2995, "used": 5, "limit": 3000, "carried": 0, "resetAt": NEXT_MONTH},
        "note": None,
    }


async def test_quota_held_for_a_running_request_counts_as_used(service: Service) -> None:
    """`remaining` is what the next request can have."""
    await service.subscribed("basic")
    await service.reserve("video:alpha")
    status = await service.get("/quota/status")
    assert (status["used"], status["remaining"], status["breakdown"]) == (1, 49, {})


async def test_refunded_quota_leaves_the_breakdown(service: Service) -> None:
    """What was given back is neither used nor told as used."""
    await service.subscribed("basic")
    hold = await service.use("video:alpha")
    await service.use("video:beta")
    await service.services.store.ledger.refund(hold.hold_id, hold.account_id, None, "failed later")
    status = await service.get("/quota/status")
    assert (status["used"], status["breakdown"]) == (1, {"video:beta": 1})


async def test_the_window_resets_at_midnight_without_a_job(service: Service, clock: MovableClock) -> None:
    """A second before midnight the quota is used, at midnight it is new; the month goes on."""
    await service.subscribed("basic")
    await service.use("video:alpha")
    clock.now = clock.now.replace(hour=23, minute=59, second=59)
    assert (await service.get("/quota/status"))["used"] == 1
    clock.forward(seconds=1)
    status = await service.get("/quota/status")
    assert (status["used"], status["resetAt"], status["breakdown"]) == (0, "2026-01-17T00:00:00.000Z", {})
    assert status["monthly"]["used"] == 1


async def test_a_plan_without_a_monthly_limit_has_no_monthly_window(service: Service) -> None:
    """Null, not a limit that does not exist."""
    await service.subscribed("free")
    assert (await service.get("/quota/status"))["monthly"] is None


async def test_a_downgrade_leaves_nothing_rather_than_less_than_nothing(service: Service) -> None:
    """`remaining` is never negative, also where more is used than the new plan allows."""
    await service.subscribed("basic")
    for _ in range(12):
        await service.use("video:alpha")
    await service.post("/subscription/cancel", {"immediately": True})
    await service.subscribed("free")
    status = await service.get("/quota/status")
    assert (status["used"], status["limit"], status["remaining"]) == (12, 10, 0)


async def test_reading_the_quota_writes_nothing(service: Service) -> None:
    """The origin made a row with a limit of ten for whoever looked."""
    for path in ("/quota/status", "/quota/history", "/quotas/usage"):
        await service.get(path)
    assert (await service.get("/quota/history"))["history"] == []


async def test_the_history_has_thirty_days_newest_first(service: Service, clock: MovableClock) -> None:
    """Forty days of use show as the last thirty, each with its own models."""
    await service.subscribed("free")
    for day in range(40):
        await service.use("video:alpha" if day % 2 else "image:dots")
        clock.forward(days=1)
    clock.forward(days=-1)
    history = (await service.get("/quota/history"))["history"]
    expected = [(clock.now - timedelta(days=back)).strftime("%Y-%m-%d") for back in range(30)]
    assert [day["period"] for day in history] == expected
    breakdowns = [json.loads(day["modelBreakdown"]) for day in history]
    assert breakdowns == [{"video:alpha" if back % 2 == 0 else "image:dots": 1} for back in range(30)]
    assert {(day["usageCount"], day["quotaLimit"], day["quotaType"]) for day in history} == {(1, 10, "daily")}


async def test_the_usage_of_one_day_can_be_asked_for(service: Service, clock: MovableClock) -> None:
    """Of today, of a day before, and of a day without any."""
    await service.subscribed("basic")
    await service.use("video:beta")
    clock.forward(days=1)
    assert await service.get("/quotas/usage?period=2026-01-15") == {
        "quotaType": "daily",
        "period": "2026-01-15",
        "usageCount": 1,
        "quotaLimit": 50,
        "remaining": 49,
        "modelBreakdown": {"video:beta": 1},
        "resetAt": TOMORROW,
    }
    today = await service.get("/quotas/usage")
    assert (today["period"], today["usageCount"], today["remaining"]) == ("2026-01-16", 0, 50)


@pytest.mark.parametrize("period", ["2026-02-30", "2025-12-01", "2026-01-16", "yesterday", "2026-1-15", ""])
async def test_a_day_outside_the_history_is_refused(service: Service, period: str) -> None:
    """A day that does not exist, is too old, or is yet to come."""
    answer = await service.get(f"/quotas/usage?period={period}", status=400)
    assert answer["field"] == "period"


async def test_whether_quota_is_left_can_be_asked(service: Service) -> None:
    """By the model's own cost, or by a number; the tightest window decides."""
    await service.subscribed("basic")
    assert await service.post("/quotas/check", {"modelKey": "video:alpha"}) == {
        "available": True,
        "remaining": 50,
        "quotaLimit": 50,
    }
    answer = await service.post("/quotas/check", {"modelKey": "video:alpha", "quotaRequired": 51})
    assert answer["available"] is False
    refused = await service.post("/quotas/check", {"modelKey": "video:nope"}, status=403)
    assert refused["reason"] == "Model not found"


async def test_a_payg_account_has_no_quota_available(service: Service) -> None:
    """Not even for a call that takes none."""
    answer = await service.post("/quotas/check", {"modelKey": "video:alpha", "quotaRequired": 0})
    assert answer == {"available": False, "remaining": 0, "quotaLimit": 0}


# Days of a time zone. Jakarta is seven hours before UTC.


async def test_the_day_is_that_of_the_plans_zone(service: Service, clock: MovableClock) -> None:
    """It ends at midnight there, and so does the month; usage is told by the same day."""
    await service.subscribed("jakarta")
    clock.now = clock.now.replace(hour=16, minute=59)
    await service.use("video:alpha")
    status = await service.get("/quota/status")
    assert (status["used"], status["resetAt"], status["timeZone"]) == (1, "2026-01-15T17:00:00.000Z", "Asia/Jakarta")
    assert status["monthly"]["resetAt"] == "2026-01-31T17:00:00.000Z"
    clock.forward(minutes=1)
    await service.use("image:dots")
    status = await service.get("/quota/status")
    assert (status["used"], status["breakdown"]) == (1, {"image:dots": 1})
    assert (await service.get("/quotas/usage"))["period"] == "2026-01-16"
    assert (await service.get("/quotas/usage?period=2026-01-15"))["modelBreakdown"] == {"video:alpha": 1}
    await service.get("/quotas/usage?period=2026-01-17", status=400)
    history = (await service.get("/quota/history"))["history"]
    assert [(day["period"], day["resetAt"]) for day in history] == [
        ("2026-01-16", "2026-01-16T17:00:00.000Z"),
        ("2026-01-15", "2026-01-15T17:00:00.000Z"),
    ]


async def test_the_history_has_thirty_days_of_the_zone(service: Service, clock: MovableClock) -> None:
    """At every hour of the day, and none of them is told twice or left out."""
    await service.subscribed("jakarta")
    for _ in range(35):
        await service.use("video:alpha")
        clock.forward(days=1)
    for hour, today in ((0, 19), (16, 19), (17, 20), (23, 20)):
        clock.now = clock.now.replace(month=2, day=19, hour=hour)
        # Today nothing was used yet.
        expected = [f"{clock.now.replace(day=today) - timedelta(days=back):%Y-%m-%d}" for back in range(today - 18, 30)]
        assert [day["period"] for day in (await service.get("/quota/history"))["history"]] == expected


async def test_a_plan_with_another_zone_shows_the_window_that_runs(service: Service, clock: MovableClock) -> None:
    """Until it ends, with what was used in it; then what is left of the day of the new zone, with its share."""
    await service.subscribed("free")
    await service.use("video:alpha")
    await service.canceled()
    await service.subscribed("jakarta")
    status = await service.get("/quota/status")
    assert (status["used"], status["limit"], status["resetAt"]) == (1, 10, TOMORROW)
    assert await service.get("/quotas/usage") == {
        "quotaType": "daily",
        "period": "2026-01-15",
        "usageCount": 1,
        "quotaLimit": 10,
        "remaining": 9,
        "modelBreakdown": {"video:alpha": 1},
        "resetAt": TOMORROW,
    }
    clock.now = clock.now.replace(day=16, hour=0, minute=0)
    status = await service.get("/quota/status")
    assert (status["used"], status["limit"], status["resetAt"]) == (0, 8, "2026-01-16T17:00:00.000Z")
    await service.use("video:alpha")


async def test_two_windows_of_one_date_are_told_as_one_day(service: Service, clock: MovableClock) -> None:
    """The day of Jakarta and, after a change to UTC, the seven hours that are left of the same date."""
    await service.subscribed("jakarta")
    await service.use("video:alpha")
    await service.canceled()
    clock.now = clock.now.replace(hour=18)
    await service.subscribed("free")
    await service.use("video:alpha")
    await service.use("image:dots")
    (day,) = (await service.get("/quota/history"))["history"]
    assert (day["id"], day["period"], day["usageCount"], day["quotaLimit"]) == ("daily-2026-01-15", "2026-01-15", 3, 13)
    assert (json.loads(day["modelBreakdown"]), day["resetAt"]) == ({"video:alpha": 2, "image:dots": 1}, TOMORROW)
    # Today is only what can still be used of it.
    today = await service.get("/quotas/usage")
    assert (today["usageCount"], today["quotaLimit"], today["remaining"]) == (2, 3, 1)
    assert today["modelBreakdown"] == {"video:alpha": 1, "image:dots": 1}


async def test_a_canceled_subscription_leaves_its_history(service: Service) -> None:
    """By the days it was counted in; today is that of UTC again."""
    await service.subscribed("jakarta")
    await service.use("video:alpha")
    await service.canceled()
    assert [day["period"] for day in (await service.get("/quota/history"))["history"]] == ["2026-01-15"]
    assert (await service.get("/quota/status"))["limit"] == 0


# What is carried over.


async def test_what_was_left_shows_in_the_limit(service: Service, clock: MovableClock) -> None:
    """Before the first request of the day as after it, up to the plan's rollover."""
    await service.subscribed("saver")
    await service.use("video:alpha")
    clock.forward(days=1)
    for _ in range(2):
        status = await service.get("/quota/status")
        assert (status["limit"], status["carried"]) == (19, 9)
        assert (await service.get("/quotas/usage"))["quotaLimit"] == 19
        await service.use("video:alpha")
    clock.forward(days=9)
    assert (await service.get("/quota/status"))["limit"] == 25
    assert (await service.post("/quotas/check", {"modelKey": "video:alpha"})) == {
        "available": True,
        "remaining": 25,
        "quotaLimit": 25,
    }
    assert [day["quotaLimit"] for day in (await service.get("/quota/history"))["history"]] == [19, 10]
    await service.canceled()
    await service.subscribed("saver")
    assert (await service.get("/quota/status"))["carried"] == 0


async def test_what_was_left_before_a_plan_began_is_not_carried(service: Service, clock: MovableClock) -> None:
    """Two days of a plan without rollover count for nothing; the day of the change does, by the new plan."""
    await service.subscribed("free")
    clock.forward(days=2)
    answer = await service.post("/subscription/change-plan", {"newPlanId": "saver"})
    assert (answer["direction"], answer["payment"]) == ("upgrade", None)
    assert (await service.get("/quota/status"))["carried"] == 0
    clock.forward(days=1)
    assert (await service.get("/quota/status"))["carried"] == 10
    clock.forward(days=1)
    assert (await service.get("/quota/status"))["carried"] == 15

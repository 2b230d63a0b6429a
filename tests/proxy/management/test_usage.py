"""The caller's usage, and what everybody uses."""

from __future__ import annotations

import asyncio

import pytest

from jobs.process import run_job_once
from policies.refusals import iso
from store.ids import id_text
from tests.proxy.management.service import MICRO, NOW, MovableClock, Service


async def test_a_charged_request_shows_what_it_cost_in_credits(service: Service) -> None:
    """A payg account paid credits, in credits, and no quota."""
    hold = await service.use("video:alpha", duration_seconds=8)
    assert await service.get("/models/usage") == {
        "usages": [
            {
                "id": id_text(hold.hold_id),
                "userId": "ana",
                "appId": "video",
                "modelKey": "video:alpha",
                "usageType": "credit",
                "creditUsed": 8,
                "creditRefunded": 0,
                "quotaUsed": None,
                "quotaRefunded": None,
                "action": "generate",
                "units": {"duration_seconds": "8"},
                "estimated": False,
                "createdAt": iso(NOW),
                "model": {"name": "Model video:alpha", "provider": "local", "tier": "free"},
            }
        ],
        "nextCursor": None,
    }


async def test_a_subscribers_request_shows_its_quota_units(service: Service) -> None:
    """Units, not millionths of them."""
    await service.subscribed("pro")
    hold = await service.use("video:gamma")
    await service.services.store.ledger.refund(hold.hold_id, hold.account_id, 1, "half of it failed")
    usage = (await service.get("/models/usage"))["usages"][0]
    assert (usage["usageType"], usage["quotaUsed"], usage["quotaRefunded"]) == ("quota", 2, 1)
    assert (usage["creditUsed"], usage["creditRefunded"]) == (None, None)


async def test_a_running_request_is_no_usage_yet(service: Service) -> None:
    """Usage is what has ended and was charged."""
    await service.reserve("video:alpha")
    assert (await service.get("/models/usage"))["usages"] == []


@pytest.mark.parametrize("limit", [7, 50, 120])
async def test_pages_of_usage_have_no_gap_and_no_repeat(service: Service, limit: int) -> None:
    """Following nextCursor through 120 requests meets each of them once, newest first."""
    await service.subscribed("enterprise")
    holds = await asyncio.gather(*(service.use("video:alpha") for _ in range(120)))
    seen = [row["id"] async for page in service.pages("/models/usage", "usages", limit) for row in page]
    assert seen == sorted((id_text(hold.hold_id) for hold in holds), reverse=True)


@pytest.mark.parametrize("cursor", ["1", "I" * 13, "Z" * 13, "u" * 13, ""])
async def test_a_cursor_that_is_no_id_is_refused(service: Service, cursor: str) -> None:
    """Thirteen characters of base 32 that fit into 63 bits, or 400."""
    assert (await service.get(f"/models/usage?cursor={cursor}", status=400))["field"] == "cursor"


async def test_usage_outlives_its_model(service: Service) -> None:
    """The origin deleted the history of a deleted model; a disabled one keeps its name in the history."""
    await service.use("video:alpha")
    await service.disable("video:alpha")
    usage = (await service.get("/models/usage"))["usages"][0]
    assert usage["model"]["name"] == "Model video:alpha"


async def test_the_most_used_models_come_first_and_anyone_may_ask(service: Service) -> None:
    """Calls of all accounts count."""
    for user, key in (("ana", "video:alpha"), ("ben", "image:dots"), ("ben", "video:alpha"), ("cid", "video:alpha")):
        await service.use(key, user)
    answer = await service.get("/models/popular", user=None)
    assert answer["models"] == [
        {"modelKey": "video:alpha", "name": "Model video:alpha", "provider": "local", "tier": "free", "totalUsage": 3},
        {"modelKey": "image:dots", "name": "Model image:dots", "provider": "local", "tier": "free", "totalUsage": 1},
    ]


async def test_popular_models_are_counted_once_a_minute(service: Service, clock: MovableClock) -> None:
    """Anyone may ask, so the month is not read again for everyone who does."""
    assert (await service.get("/models/popular", user=None))["models"] == []
    await service.use("video:alpha")
    clock.forward(seconds=59)
    assert (await service.get("/models/popular", user=None))["models"] == []
    clock.forward(seconds=1)
    assert len((await service.get("/models/popular", user=None))["models"]) == 1


async def test_old_calls_and_disabled_models_are_not_popular(service: Service, clock: MovableClock) -> None:
    """Thirty days count, and only models that can still be used."""
    await service.use("video:alpha")
    clock.forward(days=31)
    await service.use("image:dots")
    await service.disable("image:dots")
    assert (await service.get("/models/popular", user=None))["models"] == []


async def test_a_summary_adds_usage_up_by_day_and_model(service: Service, clock: MovableClock) -> None:
    """Newest day first, with what was given back, and with the sum of it all; other accounts do not count."""
    await service.use("video:alpha")
    await service.use("video:alpha", "ben")
    clock.forward(days=1)
    hold = await service.use("video:alpha")
    await service.use("image:dots")
    await service.services.store.ledger.refund(hold.hold_id, hold.account_id, 2 * MICRO, "sorry")
    none = {"creditRefunded": 0, "quotaUsed": 0, "quotaRefunded": 0, "estimatedCalls": 0}
    alpha = {"appId": "video", "modelKey": "video:alpha", "calls": 1, "creditUsed": 5}
    dots = {"appId": "image", "modelKey": "image:dots", "calls": 1, "creditUsed": 3}
    assert await service.get("/models/usage/summary?days=2") == {
        "days": 2,
        "totals": none | {"calls": 3, "creditUsed": 13, "creditRefunded": 2},
        "usage": [
            none | dots | {"period": "2026-01-16"},
            none | alpha | {"period": "2026-01-16", "creditRefunded": 2},
            none | alpha | {"period": "2026-01-15"},
        ],
    }
    assert (await service.get("/models/usage/summary?days=1"))["totals"]["calls"] == 2


async def test_a_summary_of_nothing_is_zero(service: Service) -> None:
    """Every total is a number, also where there is nothing to add up."""
    answer = await service.get("/models/usage/summary")
    assert (answer["days"], answer["usage"], set(answer["totals"].values())) == (30, [], {0})


@pytest.mark.parametrize("days", ["0", "93", "-1", "1.5", "many"])
async def test_a_summary_has_a_bound(service: Service, days: str) -> None:
    """A quarter at most."""
    assert (await service.get(f"/models/usage/summary?days={days}", status=400))["field"] == "days"


async def test_a_summary_is_the_same_before_and_after_it_is_counted(service: Service, clock: MovableClock) -> None:
    """The job changes how long it takes to read, and not what is read."""
    await service.subscribed("pro")
    for _ in range(3):
        await service.use("video:gamma")
        clock.forward(hours=20)
    before = await service.get("/models/usage/summary")
    assert (before["totals"]["calls"], before["totals"]["quotaUsed"]) == (3, 6)
    counts = await run_job_once(service.services.store, clock, "roll_up_usage")
    assert counts.counts == {"usage_rolled_up": 3}
    assert await service.get("/models/usage/summary") == before
    assert (await service.get("/models/popular", user=None))["models"][0]["totalUsage"] == 3

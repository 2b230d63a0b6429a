"""Every endpoint on every database: SQLite and PostgreSQL answer alike."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from config.clock import utc_now
from policies.refusals import iso
from policies.terms import Metric
from policies.windows import UTC_CALENDAR, window_at
from store.ids import id_text
from tests.proxy.management.service import Service, running


async def test_a_customers_whole_life(service_anywhere: Service) -> None:
    """From the first look to the end of a subscription, every answer true to the document."""
    service = service_anywhere
    for path in ("/subscription/plans", "/subscriptions/plans", "/models/popular", "/openapi.json"):
        await service.get(path, user=None)
    assert (await service.post("/quote", {"modelKey": "video:alpha", "units": {"duration_seconds": 7.5}}))[
        "credits"
    ] == 8
    hold = await service.use("video:alpha", duration_seconds=8)
    await service.services.store.ledger.refund(hold.hold_id, hold.account_id, 1_000_000, "a second was cut")
    balance = await service.get("/credits/balance")
    assert (balance["balance"], balance["lastTransaction"]["type"]) == (93, "refund")

    await service.post("/subscription/subscribe", {"planId": "basic"}, status=201)
    await service.post("/subscription/subscribe", {"planId": "basic"}, status=409)
    await service.paid(hold.account_id)
    used = await service.use("video:beta")
    await service.reserve("video:alpha")
    await service.services.store.ledger.refund(used.hold_id, used.account_id, None, "failed")
    await service.use("video:alpha")
    status = await service.get("/quota/status")
    assert (status["used"], status["breakdown"], status["monthly"]["used"]) == (2, {"video:alpha": 1}, 2)
    assert (await service.get("/quota/history"))["history"][0]["usageCount"] == 2
    assert (await service.get("/quotas/usage"))["modelBreakdown"] == {"video:alpha": 1}
    assert (await service.post("/quotas/check", {"modelKey": "video:alpha"}))["remaining"] == 48

    assert (await service.post("/subscription/change-plan", {"newPlanId": "pro"}))["direction"] == "upgrade"
    assert (await service.post("/subscription/change-plan", {"newPlanId": "free"}))["direction"] == "downgrade"
    await service.post("/subscription/cancel", {"reason": "Adieu 👋", "immediately": True})
    assert (await service.get("/subscription/status"))["subscription"]["cancelReason"] == "Adieu 👋"

    usages = [row async for page in service.pages("/models/usage", "usages", 2) for row in page]
    assert [usage["usageType"] for usage in usages] == ["quota", "quota", "credit"]
    assert (usages[-1]["id"], usages[-1]["creditRefunded"]) == (id_text(hold.hold_id), 1)
    movements = [row async for page in service.pages("/credits/history", "transactions", 2) for row in page]
    assert [movement["type"] for movement in movements] == ["refund", "usage", "bonus"]
    assert {model["accessible"] for model in (await service.get("/models/available"))["models"]} == {True, False}
    assert (await service.get("/apps"))["apps"]
    assert (await service.get("/apps/video/models"))["models"]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_quota_is_shown_by_the_clock_of_the_database(tmp_path: Path, database_url: str) -> None:
    """A node whose own clock is three days ahead shows what its ledger will decide, and not another day's quota."""
    async with running(tmp_path, database_url, lambda: utc_now() + timedelta(days=3)) as service:
        await service.subscribed("basic")
        for _ in range(3):
            await service.use("video:alpha")
        database = service.services.store.database
        now = await database.read(database.now)
        status = await service.get("/quota/status")
        assert (status["used"], status["breakdown"]) == (3, {"video:alpha": 3})
        assert status["resetAt"] == iso(window_at(Metric.DAILY, UTC_CALENDAR, now).end)
        quote = await service.post("/quote", {"modelKey": "video:alpha"})
        assert quote["quotaRemaining"] == 47

"""The price list."""

from __future__ import annotations

import json

from tests.proxy.management.service import PLANS, Service


async def test_the_plans_on_sale_are_listed_in_display_order_to_anyone(service: Service) -> None:
    """No credential is needed, and a plan that is not on sale is not shown."""
    plans = (await service.get("/subscription/plans", user=None))["plans"]
    assert [plan["planId"] for plan in plans] == [name for name in reversed(PLANS) if name != "retired"]
    assert [plan["displayOrder"] for plan in plans] == sorted(plan["displayOrder"] for plan in plans)
    assert all(plan["isActive"] for plan in plans)


async def test_a_plan_keeps_the_fields_of_the_origin(service: Service) -> None:
    """Clients of the origin read these names; `features` is a text that they parse a second time."""
    plans = (await service.get("/subscription/plans", user=None))["plans"]
    basic = next(plan for plan in plans if plan["planId"] == "basic")
    assert json.loads(basic.pop("features")) == {"emailSupport": True}
    assert basic == {
        "id": "basic",
        "planId": "basic",
        "version": 1,
        "tier": "basic",
        "name": "Basic",
        "description": "",
        "price": 99_000,
        "currency": "IDR",
        "billingCycle": "monthly",
        "dailyQuota": 50,
        "monthlyQuota": 60,
        "trialDays": None,
        "quotaTimeZone": "UTC",
        "quotaDayStarts": "00:00",
        "quotaMonth": "calendar",
        "dailyRollover": 0,
        "monthlyRollover": 0,
        "maxModelTier": "basic",
        "createdAt": "2026-01-15T10:30:00.000Z",
        "isActive": True,
        "displayOrder": 99,
    }


async def test_the_documented_list_has_features_as_an_object(service: Service) -> None:
    """The origin documented a plain list under /subscriptions, with features that need no second parsing."""
    plans = await service.get("/subscriptions/plans", user=None)
    assert [plan["planId"] for plan in plans] == [name for name in reversed(PLANS) if name != "retired"]
    assert all(plan["features"] == {"emailSupport": True} for plan in plans)


async def test_a_bad_credential_does_not_hide_the_price_list(service: Service) -> None:
    """What is public is public for a client with an expired token, too."""
    headers = {"Authorization": "Bearer expired"}
    assert (await service.ask("GET", "/subscription/plans", user=None, status=200, headers=headers))["plans"]

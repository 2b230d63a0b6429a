"""The catalogue: what is for sale, in versions that subscribers and records keep."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from policies.terms import Cycle
from store import catalogue
from store.catalogue import put_app, put_model, put_plan
from store.engine import StoreUnavailable
from tests.store.till import NOON, Till

pytestmark = pytest.mark.asyncio(loop_scope="session")

APP: dict[str, Any] = {
    "name": "Video",
    "description": "",
    "icon": "",
    "version": "1",
    "route_prefix": "/video",
    "enabled": True,
    "beta": False,
    "coming_soon": False,
    "position": 1,
    "color": "",
}
MODEL: dict[str, Any] = {
    "app_id": "video",
    "name": "Veo 3",
    "description": "",
    "provider": "google",
    "tier": "pro",
    "enabled": True,
    "beta": False,
    "price_base": 5_000_000,
    "price_rates": {"seconds": "1000000.5"},
    "price_step": 1,
    "quota_cost": 2,
    "capabilities": {"sizes": [1, 2]},
}
PLAN: dict[str, Any] = {
    "tier": "basic",
    "name": "Basic",
    "description": "",
    "price": 9900,
    "currency": "USD",
    "cycle": "monthly",
    "daily_quota": 100,
    "monthly_quota": None,
    "max_model_tier": "basic",
    "features": {"support": "email"},
}


async def _put(till: Till, key: str = "video:veo3", **changes: Any) -> dict[str, tuple[Any, Any]]:
    await till.database.write(put_app, "video", APP)
    return await till.database.write(put_model, key, MODEL | changes)


async def test_a_model_is_read_back_as_it_was_put(till: Till) -> None:
    """Rates are exact decimals, and the id is all that follows the first colon."""
    await _put(till, "video:llama3:8b")
    model = (await till.database.read(catalogue.load)).models["video:llama3:8b"]
    assert (model.app, model.model_id, model.tier, model.quota_cost) == ("video", "llama3:8b", "pro", 2)
    assert (model.price.base, model.price.rates) == (5_000_000, {"seconds": Decimal("1000000.5")})
    assert model.capabilities == {"sizes": [1, 2]}


async def test_putting_the_same_again_changes_nothing(till: Till) -> None:
    """Loading seeds is safe to repeat."""
    assert await _put(till) != {}
    assert await _put(till) == {}
    assert await till.database.write(put_app, "video", APP) == {}


@pytest.mark.parametrize(
    ("change", "version"),
    [
        ({"price_base": 1}, 2),
        ({"price_rates": {}}, 2),
        ({"price_step": 100}, 2),
        ({"quota_cost": 3}, 2),
        ({"name": "Veo"}, 1),
    ],
)
async def test_a_changed_price_is_a_new_version_of_the_price(till: Till, change: dict[str, Any], version: int) -> None:
    """And nothing else is; a change is told with its old and its new value."""
    await _put(till)
    changes = await _put(till, **change)
    name, value = next(iter(change.items()))
    assert changes[name] == (MODEL[name], value)
    assert (await till.database.read(catalogue.load)).models["video:veo3"].price.version == version


@pytest.mark.parametrize("change", [{"price_base": -1}, {"price_step": 0}, {"quota_cost": -1}])
async def test_a_price_that_pays_the_caller_is_impossible(till: Till, change: dict[str, int]) -> None:
    """The schema refuses it, whoever puts it."""
    with pytest.raises(IntegrityError):
        await _put(till, **change)


async def test_a_model_needs_its_app(till: Till) -> None:
    """A model of no app could not be routed to."""
    with pytest.raises(IntegrityError):
        await till.database.write(put_model, "music:lyria", MODEL | {"app_id": "music"})


async def test_a_changed_plan_is_a_new_version(till: Till) -> None:
    """The old one stays as it was, for those who are subscribed to it."""
    await till.database.write(put_plan, "basic", PLAN, 1, True, NOON)
    old = (await till.database.read(catalogue.load)).plans[0]
    changes = await till.database.write(put_plan, "basic", PLAN | {"price": 12900}, 1, True, NOON)
    new = (await till.database.read(catalogue.load)).plans[0]
    assert changes == {"price": (9900, 12900)}
    assert (old.version, old.price, new.version, new.price) == (1, 9900, 2, 12900)
    assert (new.cycle, new.monthly_quota, new.features) == (Cycle.MONTHLY, None, {"support": "email"})
    rows = await till.rows("SELECT price FROM plan_versions ORDER BY version")
    assert [row["price"] for row in rows] == [9900, 12900]


async def test_a_plan_can_leave_the_shop_without_a_new_version(till: Till) -> None:
    """Its offer changes, its terms do not."""
    await till.database.write(put_plan, "basic", PLAN, 1, True, NOON)
    assert await till.database.write(put_plan, "basic", PLAN, 2, False, NOON) == {
        "position": (1, 2),
        "active": (True, False),
    }
    loaded = await till.database.read(catalogue.load)
    assert loaded.plan("basic") is None
    assert loaded.plans[0].version == 1


async def test_plans_are_in_display_order(till: Till) -> None:
    """As the price list shows them."""
    for plan_id, position in (("c", 1), ("a", 2), ("b", 1)):
        await till.database.write(put_plan, plan_id, PLAN, position, True, NOON)
    loaded = await till.database.read(catalogue.load)
    assert [plan.plan_id for plan in loaded.plans] == ["b", "c", "a"]


async def test_a_revision_announces_a_change(till: Till) -> None:
    """It counts up from nothing, and the catalogue carries it."""
    assert await till.database.read(catalogue.revision) == 0
    assert [await till.database.write(catalogue.changed) for _ in range(2)] == [1, 2]
    assert (await till.database.read(catalogue.load)).revision == 2


async def test_a_plan_in_a_zone_that_is_not_known_here_stops_what_would_count_by_it(till: Till) -> None:
    """It is told what to do; whoever counted by another zone instead would give a quota twice, or not at all."""
    await till.plan_version(1, quota_timezone="Mars/Olympus_Mons")
    await till.tamper("INSERT INTO plans (id, active, position, version_id) VALUES ('plan', TRUE, 1, 1)")
    with pytest.raises(StoreUnavailable, match=r"unknown time zone 'Mars/Olympus_Mons'.*; update tzdata"):
        await till.database.read(catalogue.load)

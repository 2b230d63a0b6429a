"""Loading seeds: the numbers of the catalogue, the same result every time, and only what the seeds name."""

from __future__ import annotations

import json
from datetime import time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from config.findings import InvalidDocument
from policies.callers import Account
from policies.pricing import cost
from policies.rulebook import Rulebook, compile_rulebook
from policies.subscription import GRACE_DEFAULT, Status
from policies.subscription_acts import cancel
from policies.terms import MICRO, Catalogue, Cycle, QuotaMonth, QuotaRules
from seeds.diff import Change, SeedDiff
from seeds.load import load_catalogue, load_demo
from seeds.reading import default_files
from store import accounts, catalogue, reports, subscriptions
from store.opening import Store
from store.users import ensure_user


async def _catalogue(store: Store) -> Catalogue:
    return await store.database.read(catalogue.load)


async def _account(store: Store, user_id: str) -> Account:
    user = await store.database.read(accounts.find_user, user_id)
    assert user is not None
    return user.account.at(store.clock())


def _with(folder: Path, name: str, old: str, new: str) -> list[Path]:
    """The packaged files, one of them a copy with a change."""
    files = list(default_files())
    index = [path.name for path in files].index(name)
    text = files[index].read_text()
    assert old in text
    files[index] = folder / name
    files[index].write_text(text.replace(old, new, 1))
    return files


def _changed(diff: SeedDiff) -> dict[str, dict[str, tuple[object, object]]]:
    return {row.key: dict(row.fields) for row in diff.rows if row.change is not Change.UNCHANGED}


@pytest.mark.parametrize(
    ("plan_id", "price", "cycle", "daily", "monthly", "top", "order"),
    [
        ("free-forever", 0, Cycle.MONTHLY, 10, 300, "free", 0),
        ("basic-monthly", 99_000, Cycle.MONTHLY, 50, 1_500, "basic", 1),
        ("pro-monthly", 299_000, Cycle.MONTHLY, 100, 3_000, "pro", 2),
        ("enterprise-monthly", 999_000, Cycle.MONTHLY, 500, 15_000, "enterprise", 3),
        ("pro-yearly", 2_870_000, Cycle.YEARLY, 100, 3_000, "pro", 4),
    ],
)
async def test_the_plans_have_the_numbers_of_the_price_list(
    store: Store, plan_id: str, price: int, cycle: Cycle, daily: int, monthly: int, top: str, order: int
) -> None:
    """Every plan of the origin is on sale with its price in rupiah, its quotas and its place in the list."""
    await load_catalogue(store, default_files())
    plan = (await _catalogue(store)).plan(plan_id)
    assert plan is not None
    assert (plan.price, plan.currency, plan.cycle) == (price, "IDR", cycle)
    assert (plan.daily_quota, plan.monthly_quota, plan.max_model_tier, plan.order) == (daily, monthly, top, order)


@pytest.mark.parametrize(
    ("key", "tier", "quota", "units", "credits"),
    [
        ("video-generator:wan2.2", "free", 1, {}, 5),
        ("video-generator:wan2.2", "free", 1, {"duration_seconds": 6}, 6),
        ("video-generator:veo2", "basic", 1, {"duration_seconds": 2}, 10),
        ("video-generator:kling-2.5", "pro", 2, {"duration_seconds": 10}, 30),
        ("video-generator:veo3", "enterprise", 3, {"duration_seconds": 20}, 100),
        ("poster-editor:inpaint-standard", "free", 1, {"pixels": 2048 * 2048}, 5),
        ("poster-editor:inpaint-pro", "pro", 2, {"pixels": 4096 * 4096}, 51),
        ("poster-editor:super-resolution", "enterprise", 5, {"pixels": 10**9}, 50),
        ("video-mixer:ffmpeg-standard", "free", 1, {}, 2),
        ("carousel-mix:canvas-standard", "free", 1, {}, 1),
        ("looping-flow:ffmpeg-loop", "free", 1, {}, 2),
        ("avatar-creator:flux-dev-hd", "basic", 2, {}, 15),
        ("avatar-generator:controlnet-openpose-sdxl-ultra", "pro", 2, {}, 8),
    ],
)
async def test_the_models_cost_what_the_catalogue_says(
    store: Store, key: str, tier: str, quota: int, units: dict[str, int], credits: int
) -> None:
    """A unit raises a price and never lowers it; a rate per pixel is for one pixel; prices are whole credits."""
    await load_catalogue(store, default_files())
    model = (await _catalogue(store)).models[key]
    measured = {unit: Decimal(value) for unit, value in units.items()}
    assert (model.tier, model.quota_cost) == (tier, quota)
    assert cost(model.price, measured) == credits * MICRO


async def test_a_trial_is_a_term_of_a_plan(store: Store, tmp_path: Path) -> None:
    """Offered or taken back it is a new version of the plan, told in the words of the file."""
    await load_catalogue(store, default_files())
    offered = _with(
        tmp_path, "plans.yaml", "daily: 50, monthly: 1500}", "daily: 50, monthly: 1500}\n    trial: {days: 14}"
    )
    assert _changed(await load_catalogue(store, offered)) == {"basic-monthly": {"trial.days": (None, 14)}}
    plan = (await _catalogue(store)).plan("basic-monthly")
    assert plan is not None
    assert (plan.version, plan.trial_days) == (2, 14)
    assert _changed(await load_catalogue(store, default_files())) == {"basic-monthly": {"trial.days": (14, None)}}


async def test_a_second_load_changes_nothing(store: Store) -> None:
    """The first load creates everything, the second one has an empty diff and wakes no process."""
    first = await load_catalogue(store, default_files())
    revision = (await _catalogue(store)).revision
    second = await load_catalogue(store, default_files())
    assert (first.count(Change.CREATED), first.empty) == (29, False)
    assert (second.count(Change.UNCHANGED), second.empty) == (29, True)
    assert revision == 1
    assert (await _catalogue(store)).revision == revision


async def test_the_catalogue_compiles_with_the_built_in_policy(store: Store) -> None:
    """What comes with Farebox fits together: the tier ladder over the packaged catalogue is a rulebook."""
    await load_catalogue(store, default_files())
    assert isinstance(compile_rulebook([], await _catalogue(store)), Rulebook)


async def test_a_changed_price_is_a_new_price_version(store: Store, tmp_path: Path) -> None:
    """The diff names the field as the file does, in credits, with the old value and the new one."""
    await load_catalogue(store, default_files())
    diff = await load_catalogue(store, _with(tmp_path, "models.yaml", "{base: 50, per:", "{base: 60.5, per:"))
    assert _changed(diff) == {"video-generator:veo3": {"price.base": (50, 60.5), "price.version": (1, 2)}}
    model = (await _catalogue(store)).models["video-generator:veo3"]
    assert (model.price.base, model.price.version) == (60_500_000, 2)
    assert (await _catalogue(store)).revision == 2


async def test_a_changed_rate_is_a_new_price_version_and_a_changed_name_is_not(store: Store, tmp_path: Path) -> None:
    """A price version names what a call costs, and nothing else."""
    await load_catalogue(store, default_files())
    diff = await load_catalogue(store, _with(tmp_path, "models.yaml", "pixels: 0.000003", "pixels: 0.0000035"))
    rates = ({"pixels": "0.000003"}, {"pixels": "0.0000035"})
    assert _changed(diff) == {"poster-editor:inpaint-pro": {"price.per": rates, "price.version": (1, 2)}}
    await load_catalogue(store, default_files())
    diff = await load_catalogue(store, _with(tmp_path, "models.yaml", "name: Inpaint Pro", "name: Inpaint Best"))
    assert _changed(diff) == {"poster-editor:inpaint-pro": {"name": ("Inpaint Pro", "Inpaint Best")}}


async def test_when_a_quota_renews_is_a_term_of_the_plan(store: Store, tmp_path: Path) -> None:
    """Zone, hour, month and rollover are read back as they were written; a change of them is a new version."""
    await load_catalogue(store, default_files())
    more = 'timezone: Asia/Jakarta, day_starts: "06:00", month: subscription, rollover: {daily: 5, monthly: 300}'
    changed = _with(tmp_path, "plans.yaml", "{daily: 10, monthly: 300}", f"{{daily: 10, monthly: 300, {more}}}")
    diff = await load_catalogue(store, changed)
    assert _changed(diff) == {
        "free-forever": {
            "quota.timezone": ("UTC", "Asia/Jakarta"),
            "quota.day_starts": ("00:00", "06:00"),
            "quota.month": ("calendar", "subscription"),
            "quota.rollover.daily": (0, 5),
            "quota.rollover.monthly": (0, 300),
        }
    }
    assert (await load_catalogue(store, changed)).empty
    plan = (await _catalogue(store)).plan("free-forever")
    assert plan is not None
    assert plan.version == 2
    assert plan.quota_rules == QuotaRules(ZoneInfo("Asia/Jakarta"), time(6), QuotaMonth.SUBSCRIPTION, 5, 300)


async def test_a_changed_plan_is_a_new_version_and_subscribers_keep_the_old_one(store: Store, tmp_path: Path) -> None:
    """Nobody's terms change under their feet: the new price and quota are for those who subscribe after it."""
    await load_catalogue(store, default_files())
    user, _ = await ensure_user(store, "ana", None, 0)
    old = (await _catalogue(store)).plan("free-forever")
    assert old is not None
    arguments = (user.account.account_id, old, GRACE_DEFAULT, "ana", store.clock())
    await store.database.write(subscriptions.subscribe, *arguments)
    changed = _with(tmp_path, "plans.yaml", "{daily: 10, monthly: 300}", "{daily: 5, monthly: 300}")
    diff = await load_catalogue(store, changed)
    assert _changed(diff) == {"free-forever": {"quota.daily": (10, 5)}}
    new = (await _catalogue(store)).plan("free-forever")
    assert new is not None
    assert (new.version, new.daily_quota) == (2, 5)
    kept = (await _account(store, "ana")).plan
    assert kept is not None
    assert (kept.version, kept.daily_quota) == (1, 10)


async def test_what_operators_switched_stays_where_the_seed_is_silent(store: Store, tmp_path: Path) -> None:
    """A model that was disabled and a plan that was taken off sale stay so; a named switch is put back."""
    await load_catalogue(store, default_files())
    plan = next(plan for plan in (await _catalogue(store)).plans if plan.plan_id == "pro-yearly")
    terms = {"name": plan.name}
    await store.database.write(catalogue.put_model, "video-generator:veo3", {"enabled": False})
    await store.database.write(catalogue.put_app, "chat-to-come", _APP)
    await store.database.write(catalogue.put_app, "video-mixer", {"beta": True})
    await store.database.write(catalogue.put_plan, "pro-yearly", terms, plan.order, False, store.clock())
    diff = await load_catalogue(store, default_files())
    assert _changed(diff) == {"video-mixer": {"beta": (True, False)}}
    after = await _catalogue(store)
    assert not after.models["video-generator:veo3"].enabled
    assert after.plan("pro-yearly") is None
    assert "chat-to-come" in after.apps
    silent = _with(tmp_path, "apps.yaml", "    beta: false\n", "")
    await store.database.write(catalogue.put_app, "video-generator", {"beta": True})
    assert (await load_catalogue(store, silent)).empty


_APP = {
    "name": "Chat",
    "description": "Talks",
    "icon": "x",
    "version": "1",
    "route_prefix": "/chat",
    "enabled": True,
    "beta": False,
    "coming_soon": True,
    "position": 9,
    "color": "red",
}


async def test_a_bad_file_changes_nothing(store: Store, tmp_path: Path) -> None:
    """One wrong price, and not even the good files are loaded."""
    with pytest.raises(InvalidDocument):
        await load_catalogue(store, _with(tmp_path, "models.yaml", "{base: 50, per:", "{base: -50, per:"))
    assert await _catalogue(store) == Catalogue(0, {}, {}, ())


async def test_models_may_be_loaded_alone_once_their_apps_are_there(store: Store) -> None:
    """A models file is enough for apps that the store has, and is refused whole for apps that nobody has."""
    models = [path for path in default_files() if path.name == "models.yaml"]
    with pytest.raises(InvalidDocument, match="unknown app 'video-generator'"):
        await load_catalogue(store, models)
    assert (await _catalogue(store)).models == {}
    await load_catalogue(store, [path for path in default_files() if path.name == "apps.yaml"])
    assert (await load_catalogue(store, models)).count(Change.CREATED) == 17


async def test_the_diff_is_json(store: Store) -> None:
    """Machines get counts and rows, without losing a digit of a rate."""
    diff = await load_catalogue(store, default_files())
    document = json.loads(json.dumps(diff.as_json()))
    assert (document["created"], document["changed"], document["unchanged"]) == (29, 0, 0)
    row = next(row for row in document["rows"] if row["key"] == "poster-editor:inpaint-standard")
    assert row["kind"] == "model"
    assert row["fields"]["price.base"] == {"old": None, "new": 3}
    assert row["fields"]["price.per"] == {"old": None, "new": {"pixels": "0.000001"}}


async def test_the_demo_has_a_chat_app_ten_models_and_two_users(store: Store) -> None:
    """A payg user with credits and a subscriber who has paid, over the first version's models and two for chat."""
    await load_demo(store)
    models = (await _catalogue(store)).models
    assert len([model for model in models.values() if model.enabled]) == 12
    assert cost(models["chat:gpt-4o"].price, {"output_tokens": Decimal(1000)}) == 8 * MICRO
    payg, subscriber = await _account(store, "demo-payg"), await _account(store, "demo-subscriber")
    balance = await store.database.read(reports.balance, payg.account_id, store.clock())
    assert (payg.plan, balance.posted) == (None, 100 * MICRO)
    assert subscriber.plan is not None
    assert (subscriber.plan.plan_id, subscriber.subscription and subscriber.subscription.status) == (
        "basic-monthly",
        Status.ACTIVE,
    )


async def test_a_second_demo_changes_nothing(store: Store) -> None:
    """Neither credits nor a subscription are given twice, and the catalogue's seeds leave the demo's switches alone."""
    await load_demo(store)
    assert (await load_demo(store)).empty
    assert (await load_catalogue(store, default_files())).empty
    payg = await _account(store, "demo-payg")
    assert (await store.database.read(reports.balance, payg.account_id, store.clock())).posted == 100 * MICRO


@pytest.mark.parametrize("days", [1, 33, 60])
async def test_the_demos_subscriber_can_ride_whenever_the_demo_is_started(store: Store, clock: Any, days: int) -> None:
    """Still paid, past due or lapsed since the last time: after loading, the subscription is active."""
    await load_demo(store)
    clock.now += timedelta(days=days)
    diff = await load_demo(store)
    account = await _account(store, "demo-subscriber")
    assert account.subscription is not None
    assert account.subscription.status is Status.ACTIVE
    assert diff.empty == (days == 1)


async def test_a_demo_that_was_interrupted_before_the_payment_goes_on(store: Store) -> None:
    """A subscription that still waits for its payment is confirmed, not made a second time."""
    await load_catalogue(store, default_files())
    user, _ = await ensure_user(store, "demo-subscriber", None, 0)
    plan = (await _catalogue(store)).plan("basic-monthly")
    assert plan is not None
    arguments = (user.account.account_id, plan, GRACE_DEFAULT, "seed", store.clock())
    first = await store.database.write(subscriptions.subscribe, *arguments)
    await load_demo(store)
    account = await _account(store, "demo-subscriber")
    assert account.subscription is not None
    assert account.subscription.subscription_id == first.subscription_id
    assert account.subscription.status is Status.ACTIVE


async def test_a_demo_plan_that_is_off_sale_is_not_sold(store: Store) -> None:
    """An operator's decision counts for the demo's users as well: the subscriber stays pay-as-you-go."""
    await load_catalogue(store, default_files())
    plan = (await _catalogue(store)).plan("basic-monthly")
    assert plan is not None
    await store.database.write(catalogue.put_plan, "basic-monthly", {}, plan.order, False, store.clock())
    await load_demo(store)
    assert (await _account(store, "demo-subscriber")).plan is None


async def test_a_subscriber_who_has_canceled_is_left_alone_until_the_end(store: Store) -> None:
    """Loading the demo again does not undo what somebody tried out with it."""
    await load_demo(store)
    account = await _account(store, "demo-subscriber")
    now = store.clock()
    await store.database.write(
        subscriptions.change, account.account_id, lambda row: cancel(row, now, False, None), "demo-subscriber", now
    )
    assert (await load_demo(store)).empty
    after = (await _account(store, "demo-subscriber")).subscription
    assert after is not None
    assert after.cancel_at == after.period_end

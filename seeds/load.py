"""Loading seeds into the store, as often as you like: the second time changes nothing.

A seed is the source of the fields it names, and of those only. What operators have changed by hand stays where the
seed is silent, such as a model that was disabled or a plan that was taken off sale; where the seed names a value, the
seed wins, and the diff shows what was replaced. What a seed does not list is never removed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from policies.callers import Account
from policies.pricing import to_credits
from policies.rulebook import DEFAULT_TIERS
from policies.subscription import GRACE_DEFAULT, Status
from seeds.diff import Change, SeedDiff, SeedRow, diff_of
from seeds.documents import AppSeed, ModelSeed, PlanSeed, UserSeed
from seeds.reading import Seeds, app_of, read_demo, read_seeds
from store import catalogue, subscriptions
from store.ids import id_text
from store.opening import Store
from store.price_rows import quota_terms_of, rates_of, terms_of
from store.seeding import Entry, Kind, put_all
from store.users import ensure_user
from store.verbs import Granted, GrantSource

_GRANT_KEY = "seed"
_ACTOR = "seed"


async def load_catalogue(store: Store, files: Sequence[Path], tiers: Sequence[str] = DEFAULT_TIERS) -> SeedDiff:
    """Bring apps, models and plans to what `files` say, in one transaction. `tiers` is the ladder of the policy.

    Raises InvalidDocument with every finding in every file; then nothing has changed. Safe to repeat.
    """
    known = await store.database.read(catalogue.load)
    return await _load(store, read_seeds(files, tiers, known.apps))


async def load_demo(store: Store) -> SeedDiff:
    """The catalogue that comes with Farebox, the demo's app and models, and its users. Safe to repeat."""
    seeds = read_demo()
    diff = await _load(store, seeds)
    users = [await _load_user(store, user) for user in seeds.users]
    return SeedDiff((*diff.rows, *users))


async def _load(store: Store, seeds: Seeds) -> SeedDiff:
    # In the order of `Kind`: a model needs its app.
    entries = [_app(app) for app in seeds.apps]
    entries += [_model(model, disabled=model.key in seeds.disabled_models) for model in seeds.models]
    entries += [_plan(plan) for plan in seeds.plans]
    return diff_of(await store.database.write(put_all, entries, store.clock()))


def _app(app: AppSeed) -> Entry:
    named = {
        "name": app.name,
        "description": app.description,
        "icon": app.icon,
        "version": app.version,
        "route_prefix": app.route_prefix,
        "position": app.order,
        "color": app.color,
    }
    switches = _given({"enabled": app.enabled, "beta": app.beta, "coming_soon": app.coming_soon})
    return Entry(Kind.APP, app.id, {**named, **switches}, {"enabled": True, "beta": False, "coming_soon": False})


def _model(model: ModelSeed, disabled: bool) -> Entry:
    price, quota = model.price.price(), model.quota_cost.price()
    named = {
        "app_id": app_of(model.key),
        "name": model.name,
        "description": model.description,
        "provider": model.provider,
        "tier": model.tier,
        "price_base": price.base,
        "price_rates": rates_of(price),
        "price_step": price.round_up_to,
        "price_terms": terms_of(price),
        "quota_cost": quota.base,
        "quota_terms": quota_terms_of(quota),
        "capabilities": model.capabilities,
    }
    switches = _given({"enabled": False if disabled else model.enabled, "beta": model.beta})
    return Entry(Kind.MODEL, model.key, {**named, **switches}, {"enabled": True, "beta": False})


def _plan(plan: PlanSeed) -> Entry:
    named = {
        "tier": plan.tier,
        "name": plan.name,
        "description": plan.description,
        "price": plan.price.amount,
        "currency": plan.price.currency,
        "cycle": plan.cycle.value,
        "daily_quota": plan.quota.daily,
        "monthly_quota": plan.quota.monthly,
        "trial_days": plan.trial.days if plan.trial else None,
        "quota_timezone": plan.quota.timezone,
        "quota_day_starts": plan.quota.day_starts,
        "quota_month": plan.quota.month.value,
        "daily_rollover": plan.quota.rollover.daily,
        "monthly_rollover": plan.quota.rollover.monthly,
        "max_model_tier": plan.max_model_tier,
        "features": plan.features,
        "position": plan.order,
    }
    return Entry(Kind.PLAN, plan.id, {**named, **_given({"active": plan.active})}, {"active": True})


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


async def _load_user(store: Store, seed: UserSeed) -> SeedRow:
    user, created = await ensure_user(store, seed.id, seed.email, 0)
    fields: dict[str, tuple[object, object]] = {}
    if seed.credits and await _grant(store, user.account, seed.credits):
        fields["credits"] = (None, to_credits(seed.credits))
    if seed.plan is not None and await _subscribe(store, user.account, seed.plan):
        fields["plan"] = (None, seed.plan)
    change = Change.CREATED if created else Change.CHANGED if fields else Change.UNCHANGED
    return SeedRow("user", seed.id, change, fields)


async def _grant(store: Store, account: Account, micro_credits: int) -> bool:
    """Whether the account has got its credits by this call; it gets them once."""
    granted = await store.ledger.grant(
        account.account_id, micro_credits, GrantSource.BONUS, _GRANT_KEY, "Credits to try with"
    )
    assert isinstance(granted, Granted), "the account exists"
    return granted.changed


async def _subscribe(store: Store, account: Account, plan_id: str) -> bool:
    """Subscribe unless something is current, and confirm what is due; whether anything had to be done.

    A plan that an operator has taken off sale is not sold to anybody, the demo's users included.
    """
    now, key = store.clock(), f"{_ACTOR}:{id_text(store.ids.next())}"
    row = account.at(now).subscription
    if row is None or not row.current:
        plan = (await store.database.read(catalogue.load)).plan(plan_id)
        if plan is None:
            return False
        arguments = (account.account_id, plan, GRACE_DEFAULT, _ACTOR, now)
        await store.database.write(subscriptions.subscribe, *arguments, payment_key=key)
        return True
    if row.status is Status.ACTIVE or not row.amount_due:
        return False
    await store.database.write(subscriptions.confirm, account.account_id, key, None, _ACTOR, now)
    return True

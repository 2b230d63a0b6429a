"""Small catalogues, callers and policies for tests of decisions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import settings

from config.documents import parse_document
from config.time_zones import zone_named
from policies.callers import Account, Caller
from policies.checks import Problem
from policies.document import PolicyFile
from policies.evaluate import Allow, Ask, evaluate, situation_of
from policies.fitting import Situation
from policies.refusals import Refusal
from policies.rulebook import Rulebook, compile_rulebook
from policies.subscription import Status, Subscription
from policies.terms import (
    AccountId,
    AccountKind,
    App,
    Catalogue,
    Credential,
    Cycle,
    Model,
    ModelKey,
    Plan,
    Price,
    Tier,
    UserId,
)

NOW = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)
TIERS = ("free", "basic", "pro", "enterprise")

LAW = settings(deadline=None, max_examples=150)
"""For properties: how long an example takes says nothing about the law."""


def model(key: str, tier: str = "free", **fields: Any) -> Model:
    app, _, model_id = key.partition(":")
    known: dict[str, Any] = {"name": key, "provider": "acme", "price": Price(1_000_000)}
    return Model(key=ModelKey(key), app=app, model_id=model_id, tier=Tier(tier), **known | fields)


def app(app_id: str) -> App:
    return App(app_id, app_id, "", "box", "1.0.0", f"/{app_id}", True, False, False, 1, "gray")


def plan(tier: str, price: int = 99_000, **fields: Any) -> Plan:
    known: dict[str, Any] = {
        "version_id": 1,
        "plan_id": f"{tier}-monthly",
        "version": 1,
        "name": tier.capitalize(),
        "description": "",
        "currency": "IDR",
        "cycle": Cycle.MONTHLY,
        "daily_quota": 50,
        "monthly_quota": None,
        "max_model_tier": Tier(tier),
        "features": {},
        "active": True,
        "order": 1,
        "created_at": NOW,
    }
    return Plan(tier=Tier(tier), price=price, **known | fields)


def catalogue(*models: Model, plans: tuple[Plan, ...] = (), revision: int = 1) -> Catalogue:
    apps = {name: app(name) for name in sorted({model.app for model in models})}
    return Catalogue(revision, {model.key: model for model in models}, apps, plans)


LADDER = catalogue(
    model("video:wan2.2", "free"),
    model("video:veo2", "basic", provider="edenai"),
    model("video:kling-2.5", "pro", provider="edenai", beta=True),
    model("video:veo3", "enterprise", provider="edenai", capabilities={"supportsAudio": True, "silent": False}),
    model("poster:inpaint", "free", capabilities={"maxResolution": "2048x2048"}),
)
"""One model for each tier, and a second app."""


def policy(text: str, name: str = "main.yaml") -> tuple[str, PolicyFile]:
    """A policy file from its YAML, `version` left out."""
    return name, parse_document(name, "version: 1\n" + text, PolicyFile)[0]


def compiled(text: str, things: Catalogue = LADDER) -> Rulebook:
    """The rulebook of one file that has nothing wrong with it."""
    rulebook = compile_rulebook([policy(text)], things, zones=zone_named)
    assert isinstance(rulebook, Rulebook), rulebook
    return rulebook


def problems(text: str, things: Catalogue = LADDER) -> list[Problem]:
    """Everything that is wrong with one file."""
    found = compile_rulebook([policy(text)], things, zones=zone_named)
    assert isinstance(found, list), "nothing is wrong"
    return found


def subscribed(entitling: Plan, status: Status = Status.ACTIVE) -> Subscription:
    end = NOW + timedelta(days=10)
    return Subscription(1, AccountId(1), entitling, status, NOW, NOW, NOW - timedelta(days=20), end)


def caller(
    tier: str | None = None,
    *,
    user: str = "someone",
    tags: Iterable[str] = (),
    credential: Credential = Credential.JWT,
    models: tuple[str, ...] = (),
    frozen: bool = False,
    roles: Iterable[str] = (),
    team: bool = False,
) -> Caller:
    """A subscriber of a plan of `tier`; without one, a pay-as-you-go account."""
    subscription = subscribed(plan(tier)) if tier is not None else None
    kind = AccountKind.TEAM if team else AccountKind.USER
    account = Account(AccountId(1), 0, kind, tags=frozenset(tags), frozen=frozen, subscription=subscription)
    return Caller(UserId(user), account, credential, models=models, roles=frozenset(roles))


def decide(
    rulebook: Rulebook, who: Caller, model_key: str, units: Mapping[str, Decimal] | None = None
) -> Allow | Refusal:
    return evaluate(who, Ask(model_key, units or {}, "any", "any"), rulebook, NOW)


def situation(
    rulebook: Rulebook,
    who: Caller,
    model_key: str,
    units: Mapping[str, Decimal] | None = None,
    occasion: tuple[str, str] = ("any", "any"),
) -> Situation:
    """A request with everything that entries can ask about; `occasion` is its action and route."""
    ask, its = Ask(model_key, units or {}, *occasion), rulebook.catalogue.models[model_key]
    return situation_of(who, who.account.at(NOW), its, ask, rulebook, NOW)


def allowed(rulebook: Rulebook, who: Caller, model_key: str) -> bool:
    return isinstance(decide(rulebook, who, model_key), Allow)

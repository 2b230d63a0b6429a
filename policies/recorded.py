"""A call and its caller as plain data, to be kept with the decision and decided again later.

What is kept is what policies can ask about, and nothing else: no token, no e-mail, no body. With `masked` the user id
is a digest, which is the same for the same user. A policy names the users it asks about, so whoever decides again with
it finds out by their digests which of them a caller was, if any (`users_named_in`): what it decides is what it would
have decided.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any

from policies.callers import Account, Caller
from policies.conditions import When
from policies.evaluate import Ask
from policies.refusals import iso
from policies.rulebook import Rulebook
from policies.scope import Who
from policies.subscription import Status, Subscription
from policies.terms import AccountId, AccountKind, Credential, Cycle, Plan, Tier, UserId

Kept = Mapping[str, Any]


def kept_caller(caller: Caller, now: datetime, *, masked: bool) -> dict[str, Any]:
    """A caller as JSON can say it. Tags, roles and patterns are as many as an account may have."""
    account = caller.account.at(now)
    plan = account.plan
    return {
        "user": digest(caller.user_id) if masked else caller.user_id,
        "account": account.account_id,
        "kind": account.kind,
        "tier": plan.tier if plan is not None else None,
        "subscription": kept_subscription(account, now),
        "tags": sorted(account.tags),
        "roles": sorted(caller.roles),
        "credential": caller.credential,
        "models": list(caller.models),
        "frozen": account.frozen,
    }


def kept_subscription(account: Account, now: datetime) -> dict[str, Any] | None:
    """Why an account has the tier that it has: its subscription, with the end of what entitles it."""
    subscription = account.at(now).subscription
    if subscription is None:
        return None
    overdue = subscription.status is Status.PAST_DUE
    return {
        "plan": subscription.plan.plan_id,
        "tier": subscription.plan.tier,
        "status": subscription.status,
        "entitled": subscription.entitled,
        "until": iso(subscription.grace_until if overdue else subscription.period_end),
    }


@lru_cache(maxsize=10_000)
def digest(user_id: str) -> str:
    """The same for the same user, and not to be read back by whoever sees the log alone."""
    return "sha256:" + hashlib.sha256(user_id.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def users_named_in(rulebook: Rulebook) -> dict[str, str]:
    """The users that a policy asks about, by their digests."""
    asked: list[tuple[Who, When | None]] = [(entry.content.who, entry.when) for entry in rulebook.rules.entries]
    asked += [(entry.content.who, entry.when) for entry in rulebook.exemptions.entries]
    asked += [(entry.content.who, entry.when) for entry in rulebook.limits.entries]
    return {digest(name): name for who, when in asked for name in _users_in(who, when)}


def _users_in(who: Who, when: When | None) -> Iterable[str]:
    """A condition may compare the user with any of its texts."""
    yield from who.user or ()
    if who.not_ is not None:
        yield from who.not_.user or ()
    if when is not None:
        yield from when.texts


def caller_of(kept: Kept, now: datetime, users: Mapping[str, str]) -> Caller:
    """The caller that was kept; its subscription is nothing but its tier. `users` are those of `users_named_in`."""
    subscription = subscription_of(Tier(kept["tier"]), now) if kept["tier"] is not None else None
    account = Account(
        AccountId(kept["account"]),
        0,
        AccountKind(kept["kind"]),
        frozenset(kept["tags"]),
        kept["frozen"],
        subscription,
    )
    return Caller(
        UserId(users.get(kept["user"], kept["user"])),
        account,
        Credential(kept["credential"]),
        models=tuple(kept["models"]),
        roles=frozenset(kept["roles"]),
    )


def kept_ask(ask: Ask) -> dict[str, Any]:
    units = {name: str(value) for name, value in (ask.units or {}).items()}
    return {"model": ask.model_key, "action": ask.action, "route": ask.route, "units": units}


def ask_of(kept: Kept) -> Ask:
    units = {name: Decimal(text) for name, text in kept["units"].items()}
    return Ask(kept["model"], units, kept["action"], kept["route"])


def subscription_of(tier: Tier, now: datetime) -> Subscription:
    """Active at `now`, to a plan that is nothing but its tier."""
    plan = Plan(
        version_id=1,
        plan_id=f"any-{tier}-plan",
        version=1,
        tier=tier,
        name=f"any plan of the tier {tier}",
        description="",
        price=0,
        currency="",
        cycle=Cycle.MONTHLY,
        daily_quota=0,
        monthly_quota=None,
        max_model_tier=tier,
        features={},
        active=True,
        order=0,
        created_at=now,
    )
    return Subscription(1, AccountId(1), plan, Status.ACTIVE, now, now, now, now + timedelta(days=1))

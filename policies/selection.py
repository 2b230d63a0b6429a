"""The parts of an entry as predicates with a text each: which callers, which models, on which occasions.

Casbin's rows are made of them, and so are the sentences of explanations. Traits are texts of the form `kind=value`, for
example `tag=beta_tester`. How a call is decided quickly is another matter (`table`), and has to come to the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from policies.access import Condition, Occasion, Selector
from policies.callers import Caller
from policies.patterns import matches
from policies.scope import AtLeast, ModelAttributes, Scope, Who
from policies.terms import AccountKind, AccountType, Model, Tier


def values_of(caller: Caller, account_type: AccountType) -> tuple[tuple[str, Iterable[str]], ...]:
    """Everything that an entry can ask about a caller, its tier aside, by kind."""
    account = caller.account
    return (
        ("account_type", (account_type,)),
        ("tag", account.tags),
        ("role", caller.roles),
        ("team", (str(account.account_id),) if account.kind is AccountKind.TEAM else ()),
        ("user", (caller.user_id,)),
        ("credential", (caller.credential,)),
    )


def asked_of(who: Who) -> tuple[tuple[str, Sequence[str] | None], ...]:
    """What an entry asks about callers, their tier aside, by kind: alternatives, or None where it does not ask."""
    return (
        ("account_type", who.account_type),
        ("tag", who.tag),
        ("role", who.role),
        ("team", who.team),
        ("user", who.user),
        ("credential", who.credential),
    )


def traits_of(values: Iterable[tuple[str, Iterable[str]]], tier: Tier) -> frozenset[str]:
    """The traits of a caller with these values."""
    return frozenset((f"tier={tier}", *(f"{kind}={value}" for kind, found in values for value in found)))


def condition(who: Who, tiers: Sequence[Tier]) -> Condition:
    """`who` without its tier, as a predicate on traits."""
    wanted = _groups(who)
    refused = _refused_groups(who.not_, tiers) if who.not_ is not None else []
    text = " and ".join("|".join(group) for group in wanted)
    if refused:
        text = " and ".join(filter(None, (text, "not (" + " and ".join("|".join(group) for group in refused) + ")")))

    def holds(traits: frozenset[str]) -> bool:
        fits = all(not traits.isdisjoint(group) for group in wanted)
        return fits and not (refused and all(not traits.isdisjoint(group) for group in refused))

    return Condition(text or "anyone", holds)


def _groups(who: Who) -> list[list[str]]:
    """One list of alternatives for each kind that is asked about."""
    return [[f"{kind}={value}" for value in values] for kind, values in asked_of(who) if values is not None]


def _refused_groups(who: Who, tiers: Sequence[Tier]) -> list[list[str]]:
    """The groups of a `not`, where a tier is a trait like any other."""
    if who.tier is None:
        return _groups(who)
    names = tiers[tiers.index(Tier(who.tier.at_least)) :] if isinstance(who.tier, AtLeast) else who.tier
    return [[f"tier={name}" for name in names], *_groups(who)]


def occasion(scope: Scope) -> Occasion:
    """The actions and routes that an entry is about."""
    asked = [
        (kind, values) for kind, values in (("action", scope.action), ("route", scope.route)) if values is not None
    ]
    text = " and ".join(f"{kind}={'|'.join(values)}" for kind, values in asked)

    def fits(action: str, route: str) -> bool:
        return (scope.action is None or action in scope.action) and (scope.route is None or route in scope.route)

    return Occasion(text or "any request", fits)


def selector(scope: Scope, only_tier: Tier | None = None) -> Selector:
    """The models that an entry is about, of one tier only where the ladder is being drawn.

    The text stands for the choice in Casbin's rows: no name or pattern may hold `|`, so that no two choices share it.
    """
    parts: list[tuple[str, Callable[[Model], bool]]] = []
    if scope.app is not None:
        apps = frozenset(scope.app)
        parts.append((f"app={'|'.join(scope.app)}", lambda model: model.app in apps))
    if isinstance(scope.model, list):
        patterns = tuple(scope.model)
        named = f"model={'|'.join(patterns)}"
        parts.append((named, lambda model: any(matches(model.key, pattern) for pattern in patterns)))
    elif isinstance(scope.model, ModelAttributes):
        parts += _attributes(scope.model)
    if only_tier is not None:
        parts.append((f"tier={only_tier}", lambda model: model.tier == only_tier))
    tests = tuple(test for _, test in parts)
    text = " and ".join(text for text, _ in parts) or "any model"
    return Selector(text, lambda model: all(test(model) for test in tests))


def _attributes(wanted: ModelAttributes) -> Iterable[tuple[str, Callable[[Model], bool]]]:
    if wanted.tier is not None:
        tiers = frozenset(wanted.tier)
        yield f"tier={'|'.join(wanted.tier)}", lambda model: model.tier in tiers
    if wanted.provider is not None:
        providers = frozenset(wanted.provider)
        yield f"provider={'|'.join(wanted.provider)}", lambda model: model.provider in providers
    if wanted.beta is not None:
        beta = wanted.beta
        yield f"beta={str(beta).lower()}", lambda model: model.beta is beta
    if wanted.capability is not None:
        names = tuple(wanted.capability)
        yield f"capability={'|'.join(names)}", lambda model: any(_has(model, name) for name in names)


def _has(model: Model, capability: str) -> bool:
    value = model.capabilities.get(capability)
    return value is not None and value is not False

"""The two halves of a rule as predicates: which callers it is about, and which models.

Traits are texts of the form `kind=value`, for example `tag=beta_tester`. A caller's traits are cut down to those that
rules mention, so that there are as many kinds of callers as a policy tells apart, however many users there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from policies.access import Condition, Selector
from policies.callers import Caller
from policies.document import AtLeast, ModelAttributes, Rule, Who
from policies.patterns import matches
from policies.terms import AccountType, Model, Tier


def caller_traits(caller: Caller, account_type: AccountType, tier: Tier) -> frozenset[str]:
    """Everything a rule can ask about a caller."""
    return frozenset(
        (
            f"tier={tier}",
            f"account_type={account_type}",
            f"user={caller.user_id}",
            f"credential={caller.credential}",
            *(f"tag={tag}" for tag in caller.account.tags),
        )
    )


def traits_of(who: Who, tiers: Sequence[Tier]) -> frozenset[str]:
    """The traits that decide whether `who` fits a caller. Its tiers are left to Casbin's role graph."""
    wanted = [value for group in _groups(who) for value in group]
    if who.not_ is not None:
        wanted += [value for group in _refused_groups(who.not_, tiers) for value in group]
    return frozenset(wanted)


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
    """One list of alternatives for each field that is given."""
    fields: tuple[tuple[str, Iterable[str] | None], ...] = (
        ("account_type", who.account_type),
        ("tag", who.tag),
        ("user", who.user),
        ("credential", who.credential),
    )
    return [[f"{kind}={value}" for value in values] for kind, values in fields if values is not None]


def _refused_groups(who: Who, tiers: Sequence[Tier]) -> list[list[str]]:
    """The groups of a `not`, where a tier is a trait like any other."""
    if who.tier is None:
        return _groups(who)
    names = tiers[tiers.index(Tier(who.tier.at_least)) :] if isinstance(who.tier, AtLeast) else who.tier
    return [[f"tier={name}" for name in names], *_groups(who)]


def selector(rule: Rule, only_tier: Tier | None = None) -> Selector:
    """The models that a rule is about, of one tier only where the ladder is being drawn.

    The text stands for the choice in Casbin's rows: no name or pattern may hold `|`, so that no two choices share it.
    """
    parts: list[tuple[str, Callable[[Model], bool]]] = []
    if rule.app is not None:
        apps = frozenset(rule.app)
        parts.append((f"app={'|'.join(rule.app)}", lambda model: model.app in apps))
    if isinstance(rule.model, list):
        patterns = tuple(rule.model)
        named = f"model={'|'.join(patterns)}"
        parts.append((named, lambda model: any(matches(model.key, pattern) for pattern in patterns)))
    elif isinstance(rule.model, ModelAttributes):
        parts += _attributes(rule.model)
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

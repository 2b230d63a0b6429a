"""Policy documents compiled into one immutable rulebook, or the complete list of what is wrong with them.

Called at start and at every change of a policy file or of the catalogue. A rulebook is never changed: requests keep
the one they began with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from policies.access import Access, Grant
from policies.document import AT_LEAST_MODEL, AtLeast, ModelAttributes, PolicyFile, Rule, Who
from policies.patterns import is_literal, matches
from policies.selection import condition, selector, traits_of
from policies.terms import Catalogue, Model, Tier

DEFAULT_TIERS = ("free", "basic", "pro", "enterprise")

DEFAULT_RULES = (Rule(id="tier-models", allow="use", who=Who.model_validate({"tier": [AT_LEAST_MODEL]})),)
"""In force without policy files: the tier ladder, with pay-as-you-go at the free tier."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding about a document, located by the path of keys and indices inside its file."""

    file: str
    path: tuple[str | int, ...]
    code: str
    message: str
    candidates: tuple[str, ...] = ()
    """Names that exist where an unknown one was found; the reader may suggest the nearest."""


@dataclass(frozen=True, slots=True)
class Rulebook:
    """The compiled policy. `revision` names exactly this policy over exactly this catalogue."""

    revision: str
    tiers: tuple[Tier, ...]
    payg_tier: Tier
    overflow_to_credits: bool
    rules: Mapping[str, Rule]
    mentioned: frozenset[str]
    """The traits that rules mention; all others make no difference and are not looked at."""
    access: Access
    catalogue: Catalogue

    def rank(self, tier: Tier) -> int:
        """The place on the ladder. A tier that it has lost, of a plan no longer on sale, is below all others."""
        return self.tiers.index(tier) if tier in self.tiers else -1


Files = Sequence[tuple[str, PolicyFile]]


def compile_rulebook(files: Files, catalogue: Catalogue) -> Rulebook | list[Problem]:
    """The rulebook of `files`, named and in order, over `catalogue`; or everything that is wrong with them."""
    problems: list[Problem] = []
    tiers = tuple(Tier(name) for name in _only(files, "tiers", problems) or DEFAULT_TIERS)
    payg = _only(files, "payg", problems)
    subscription = _only(files, "subscription", problems)
    rules = _rules(files, problems)
    payg_tier = Tier(payg.tier) if payg else tiers[0]
    if payg_tier not in tiers:
        problems.append(_unknown(_file_of(files, "payg"), ("payg", "tier"), "tier", payg_tier, tiers))
    problems += _catalogue_problems(files, tiers, catalogue)
    for file, path, rule in rules:
        problems += [
            Problem(file, (*path, *where), code, message, candidates)
            for where, code, message, candidates in _rule_problems(rule, tiers, catalogue)
        ]
    if problems:
        return problems
    chosen = [rule for _, _, rule in rules] or list(DEFAULT_RULES)
    if not any(rule.allow for rule in chosen):
        return [
            Problem(files[0][0], ("rules",), "nothing-allowed", "no rule allows anything: add an `allow: use` rule")
        ]
    grants = [grant for rule in chosen for grant in _grants(rule, tiers)]
    return Rulebook(
        revision=_revision(files, catalogue),
        tiers=tiers,
        payg_tier=payg_tier,
        overflow_to_credits=bool(subscription) and subscription.overflow == "credits",
        rules={rule.id: rule for rule in chosen},
        mentioned=frozenset().union(*(traits_of(rule.who, tiers) for rule in chosen)),
        access=Access(grants, tiers, catalogue.models),
        catalogue=catalogue,
    )


def _only(files: Files, key: str, problems: list[Problem]):  # type: ignore[no-untyped-def]
    """The one value of a setting that may be said in one file only."""
    said = [(name, getattr(file, key)) for name, file in files if getattr(file, key) is not None]
    problems += [
        Problem(name, (key,), "said-twice", f"`{key}` is said in {said[0][0]} already; say it once")
        for name, _ in said[1:]
    ]
    return said[0][1] if said else None


def _file_of(files: Files, key: str) -> str:
    return next((name for name, file in files if getattr(file, key) is not None), "")


def _rules(files: Files, problems: list[Problem]) -> list[tuple[str, tuple[str | int, ...], Rule]]:
    found: list[tuple[str, tuple[str | int, ...], Rule]] = []
    seen: dict[str, str] = {}
    for name, file in files:
        for index, rule in enumerate(file.rules):
            if rule.id in seen:
                message = f"rule id {rule.id!r} is used in {seen[rule.id]} already; every rule has its own"
                problems.append(Problem(name, ("rules", index, "id"), "duplicate-rule", message))
            seen.setdefault(rule.id, name)
            found.append((name, ("rules", index), rule))
    return found


def _catalogue_problems(files: Files, tiers: Sequence[Tier], catalogue: Catalogue) -> Iterable[Problem]:
    """A model or plan of a tier that the ladder does not have could never be reached."""
    file = _file_of(files, "tiers")
    for model in catalogue.models.values():
        if model.tier not in tiers:
            message = f"model {model.key} is of tier {model.tier!r}, which `tiers` does not have"
            yield Problem(file, ("tiers",), "unknown-tier", message, tuple(tiers))
    for plan in catalogue.plans:
        if plan.active and plan.tier not in tiers:
            message = f"plan {plan.plan_id} is of tier {plan.tier!r}, which `tiers` does not have"
            yield Problem(file, ("tiers",), "unknown-tier", message, tuple(tiers))


def _unknown(file: str, path: tuple[str | int, ...], kind: str, name: str, known: Iterable[str]) -> Problem:
    return Problem(file, path, f"unknown-{kind}", f"unknown {kind} {name!r}", tuple(known))


_Finding = tuple[tuple[str | int, ...], str, str, tuple[str, ...]]


def _rule_problems(rule: Rule, tiers: Sequence[Tier], catalogue: Catalogue) -> Iterable[_Finding]:
    yield from _who_problems(rule.who, ("who",), tiers)
    for index, app in enumerate(rule.app or ()):
        if app not in catalogue.apps:
            yield ("app", index), "unknown-app", f"unknown app {app!r}", tuple(catalogue.apps)
    if isinstance(rule.model, list):
        yield from _pattern_problems(rule.model, catalogue)
    elif isinstance(rule.model, ModelAttributes):
        yield from _attribute_problems(rule.model, tiers, catalogue.models.values())


def _who_problems(who: Who, path: tuple[str | int, ...], tiers: Sequence[Tier]) -> Iterable[_Finding]:
    if isinstance(who.tier, AtLeast):
        named: list[tuple[tuple[str | int, ...], str]] = [((*path, "tier", "at_least"), who.tier.at_least)]
    else:
        named = [((*path, "tier", index), name) for index, name in enumerate(who.tier or ()) if name != AT_LEAST_MODEL]
    for where, name in named:
        if name not in tiers:
            ladder = (AT_LEAST_MODEL,) if path == ("who",) and not isinstance(who.tier, AtLeast) else ()
            yield where, "unknown-tier", f"unknown tier {name!r}", (*tiers, *ladder)
    if who.not_ is not None:
        yield from _who_problems(who.not_, (*path, "not"), tiers)


def _pattern_problems(patterns: Sequence[str], catalogue: Catalogue) -> Iterable[_Finding]:
    for index, pattern in enumerate(patterns):
        if not any(matches(key, pattern) for key in catalogue.models):
            what = "unknown model" if is_literal(pattern) else "no model of the catalogue fits"
            yield ("model", index), "unknown-model", f"{what} {pattern!r}", tuple(catalogue.models)


def _attribute_problems(wanted: ModelAttributes, tiers: Sequence[Tier], models: Iterable[Model]) -> Iterable[_Finding]:
    models = list(models)
    for index, tier in enumerate(wanted.tier or ()):
        if tier not in tiers:
            yield ("model", "tier", index), "unknown-tier", f"unknown tier {tier!r}", tuple(tiers)
    providers = {model.provider for model in models}
    for index, provider in enumerate(wanted.provider or ()):
        if provider not in providers:
            yield ("model", "provider", index), "unknown-provider", f"unknown provider {provider!r}", tuple(providers)
    capabilities = {name for model in models for name in model.capabilities}
    for index, name in enumerate(wanted.capability or ()):
        if name not in capabilities:
            message = f"no model has the capability {name!r}"
            yield ("model", "capability", index), "unknown-capability", message, tuple(capabilities)


def _grants(rule: Rule, tiers: Sequence[Tier]) -> Iterable[Grant]:
    """The Casbin rows of a rule: one for each tier that it names."""
    who, tier = condition(rule.who, tiers), rule.who.tier
    if isinstance(tier, AtLeast):
        yield Grant(rule.id, rule.allow is not None, Tier(tier.at_least), False, who, selector(rule))
    elif tier is None:
        yield Grant(rule.id, rule.allow is not None, tiers[0], False, who, selector(rule))
    else:
        for name in tier:
            if name == AT_LEAST_MODEL:
                for step in tiers:
                    yield Grant(rule.id, rule.allow is not None, step, False, who, selector(rule, only_tier=step))
            else:
                yield Grant(rule.id, rule.allow is not None, Tier(name), True, who, selector(rule))


def _revision(files: Files, catalogue: Catalogue) -> str:
    # Not the names of the files: the same policy in another folder is the same policy.
    text = "\n".join(file.model_dump_json() for _, file in files)
    return hashlib.sha256(f"{catalogue.revision}\n{text}".encode()).hexdigest()[:12]

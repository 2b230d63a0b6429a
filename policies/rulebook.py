"""Policy documents compiled into one immutable rulebook, or the complete list of what is wrong with them.

Called at start and at every change of a policy file or of the catalogue. A rulebook is never changed: requests keep
the one they began with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import tzinfo
from typing import Generic, TypeVar

from policies.access import Authority, Grant
from policies.checks import Files, Ground, Problem, Settled, Zones, check, only, only_utc
from policies.conditions import When, parse
from policies.document import Exemption, Limit, PolicyFile, Rule
from policies.doubts import doubts
from policies.scope import AT_LEAST_MODEL, AtLeast, Mode, Who
from policies.selection import condition, occasion, selector
from policies.table import Table
from policies.terms import Catalogue, MeteredRoute, Tier

DEFAULT_TIERS = ("free", "basic", "pro", "enterprise")

DEFAULT_RULES = (Rule(id="tier-models", allow="use", who=Who.model_validate({"tier": [AT_LEAST_MODEL]})),)
"""In force without policy files: the tier ladder, with pay-as-you-go at the free tier."""

Content = TypeVar("Content", Rule, Exemption, Limit)


@dataclass(frozen=True, slots=True)
class Entry(Generic[Content]):
    """A rule, an exemption or a limit, with its condition compiled and its mode settled."""

    content: Content
    when: When | None
    mode: Mode

    @property
    def id(self) -> str:
        return self.content.id

    @property
    def enforced(self) -> bool:
        return self.mode is Mode.ENFORCE


@dataclass(frozen=True, slots=True)
class Section(Generic[Content]):
    """Entries of one kind with their table; `enforced`, `allows` and `denies` are sets as the table has them."""

    entries: tuple[Entry[Content], ...]
    by_id: Mapping[str, Entry[Content]]
    table: Table
    enforced: int
    allows: int = 0
    denies: int = 0


@dataclass(frozen=True, slots=True)
class Rulebook:
    """The compiled policy. `revision` names exactly this policy over exactly this catalogue."""

    revision: str
    tiers: tuple[Tier, ...]
    payg_tier: Tier
    overflow_to_credits: bool
    zone: tzinfo
    rules: Section[Rule]
    exemptions: Section[Exemption]
    limits: Section[Limit]
    authority: Authority
    catalogue: Catalogue
    routes: tuple[MeteredRoute, ...]
    doubts: tuple[Problem, ...] = ()

    def rank(self, tier: Tier) -> int:
        """The place on the ladder. A tier that it has lost, of a plan no longer on sale, is below all others."""
        return self.tiers.index(tier) if tier in self.tiers else -1


def compile_rulebook(
    files: Files, catalogue: Catalogue, routes: Sequence[MeteredRoute] | None = None, zones: Zones = only_utc
) -> Rulebook | list[Problem]:
    """The rulebook of `files`, named and in order, over `catalogue`; or everything that is wrong with them.

    Without `routes`, names of routes, actions and units are not checked. `zones` finds time zones by their names: their
    rules are facts from outside.
    """
    ground = Ground(catalogue, None if routes is None else tuple(routes))
    settled = _settle(files, zones)
    problems = check(files, settled, ground)
    if problems:
        return problems
    rules = [_entry(rule, file, ground) for _, file in files for rule in file.rules]
    rules = rules or [Entry(rule, None, Mode.ENFORCE) for rule in DEFAULT_RULES]
    exemptions = [_entry(exemption, file, ground) for _, file in files for exemption in file.exemptions]
    limits = [_entry(limit, file, ground) for _, file in files for limit in file.limits]
    enforced = [entry for entry in rules if entry.enforced]
    grants = [grant for entry in enforced for grant in _grants(entry, settled.tiers)]
    return Rulebook(
        revision=_revision(files, catalogue),
        tiers=settled.tiers,
        payg_tier=settled.payg_tier,
        overflow_to_credits=settled.overflow_to_credits,
        zone=settled.zone,
        rules=_section(rules, settled.tiers, catalogue),
        exemptions=_section(exemptions, settled.tiers, catalogue),
        limits=_section(limits, settled.tiers, catalogue),
        authority=Authority(grants, settled.tiers, catalogue.models),
        catalogue=catalogue,
        routes=ground.routes or (),
        doubts=tuple(doubts(files, settled, ground)),
    )


def _settle(files: Files, zones: Zones) -> Settled:
    tiers = tuple(Tier(name) for name in only(files, "tiers") or DEFAULT_TIERS)
    payg, subscription = only(files, "payg"), only(files, "subscription")
    return Settled(
        tiers=tiers,
        payg_tier=Tier(payg.tier) if payg else tiers[0],
        overflow_to_credits=bool(subscription) and subscription.overflow == "credits",
        zone_name=only(files, "timezone") or "UTC",
        zones=zones,
    )


def _entry(content: Content, file: PolicyFile, ground: Ground) -> Entry[Content]:
    when = None if content.when is None else parse(content.when, ground.unit_names)
    return Entry(content, when, content.mode or file.mode)


def _section(entries: Sequence[Entry[Content]], tiers: Sequence[Tier], catalogue: Catalogue) -> Section[Content]:
    rules = [entry.content if isinstance(entry.content, Rule) else None for entry in entries]
    return Section(
        tuple(entries),
        {entry.id: entry for entry in entries},
        Table([entry.content for entry in entries], tiers, catalogue.models),
        enforced=_set_of(entry.enforced for entry in entries),
        allows=_set_of(rule is not None and rule.allow is not None for rule in rules),
        denies=_set_of(rule is not None and rule.deny is not None for rule in rules),
    )


def _set_of(flags: Iterable[bool]) -> int:
    return sum(1 << number for number, flag in enumerate(flags) if flag)


def _grants(entry: Entry[Rule], tiers: Sequence[Tier]) -> Iterable[Grant]:
    """The Casbin rows of a rule: one for each tier that it names."""
    rule = entry.content
    lowest = Grant(
        rule=rule.id,
        allow=rule.allow is not None,
        tier=tiers[0],
        exact=False,
        who=condition(rule.who, tiers),
        what=selector(rule),
        occasion=occasion(rule),
        when=entry.when.text if entry.when is not None else None,
    )
    tier = rule.who.tier
    if tier is None:
        yield lowest
    elif isinstance(tier, AtLeast):
        yield replace(lowest, tier=Tier(tier.at_least))
    else:
        for name in tier:
            if name == AT_LEAST_MODEL:
                for step in tiers:
                    yield replace(lowest, tier=step, what=selector(rule, only_tier=step))
            else:
                yield replace(lowest, tier=Tier(name), exact=True)


def _revision(files: Files, catalogue: Catalogue) -> str:
    # Not the names of the files: the same policy in another folder is the same policy.
    text = "\n".join(file.model_dump_json() for _, file in files)
    return hashlib.sha256(f"{catalogue.revision}\n{text}".encode()).hexdigest()[:12]

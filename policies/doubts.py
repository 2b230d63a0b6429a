"""What is doubtful about a policy that is valid: entries that can be about no call, conditions that say nothing.

Warnings only: a policy with doubts can be put in force. `farebox check` tells them, and with `--strict` fails on them.
Everything here follows from the documents, the catalogue and the routes; no request is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property

from policies.checks import Files, Ground, Path, Problem, Settled
from policies.conditions import UNITS, WEEKDAYS, When, parse
from policies.document import Exemption, Limit, Rule
from policies.scope import AT_LEAST_MODEL, AtLeast, Mode, Scope, Who
from policies.selection import asked_of, selector
from policies.terms import AccountType, Tier
from policies.truth import Value

MAX_COMPARED = 200
"""Rules that are compared with each other: forty thousand pairs in a tenth of a second. A longer policy is not looked
through for rules that stand in each other's shadow."""


@dataclass(frozen=True)
class _Placed:
    """An entry with its place, and what it comes to."""

    file: str
    path: Path
    entry: Rule | Exemption | Limit
    mode: Mode
    settled: Settled
    ground: Ground

    def doubt(self, where: Path, code: str, message: str) -> Problem:
        return Problem(self.file, (*self.path, *where), code, message, severity="warning")

    @cached_property
    def when(self) -> When | None:
        return None if self.entry.when is None else parse(self.entry.when, self.ground.unit_names)

    @cached_property
    def reach(self) -> Mapping[str, frozenset[Tier]]:
        """The models that it may be about, each with the tiers of callers."""
        selects, tiers = selector(self.entry).selects, self.settled.tiers
        found: dict[str, frozenset[Tier]] = {}
        for model in self.ground.catalogue.models.values():
            if selects(model):
                found[model.key] = _tiers(self.entry.who, tiers, tiers.index(model.tier))
        return found


def doubts(files: Files, settled: Settled, ground: Ground) -> list[Problem]:
    """Every doubt, in the order of the files."""
    placed = [
        _Placed(name, (section, index), entry, entry.mode or file.mode, settled, ground)
        for name, file in files
        for section, index, entry in file.entries
    ]
    found = [doubt for one in placed for doubt in _alone(one)]
    return found + list(_shadowed([one for one in placed if isinstance(one.entry, Rule)]))


def _alone(one: _Placed) -> Iterable[Problem]:
    """What is doubtful about an entry whatever else there is."""
    entry, ground = one.entry, one.ground
    yield from _nobody(one)
    if entry.when is None and entry.action is None and entry.route is None:
        return
    routes = ground.routes_of(entry)
    if ground.routes is not None and (entry.action or entry.route) and not routes:
        where = "route" if entry.route else "action"
        yield one.doubt((where,), "unreachable", "no metered route has this, and leads to the models of the entry")
    if one.when is None:
        return
    truths = {one.when.holds(facts) for facts in _all_facts(one)}
    if truths == {False}:
        yield one.doubt(("when",), "never-true", "the condition can never be true")
    elif truths == {True}:
        yield one.doubt(("when",), "always-true", "the condition is true of every request; leave it out")
    for unit in sorted(one.when.units):
        optional = [route.route_id for route in routes if unit in route.units and route.units[unit].optional]
        if optional:
            message = f"requests of route {optional[0]!r} may leave out {unit!r}; then {_in_doubt(entry)}"
            yield one.doubt(("when",), "optional-unit", message)


def _in_doubt(entry: Scope) -> str:
    if isinstance(entry, Limit):
        return "the limit counts them"
    return "the rule denies them" if isinstance(entry, Rule) and entry.deny else "they are not meant"


def _nobody(one: _Placed) -> Iterable[Problem]:
    """Callers that there cannot be."""
    who, settled = one.entry.who, one.settled
    only_payg = who.account_type == [AccountType.PAYG]
    if only_payg and not any(settled.payg_tier in tiers for tiers in one.reach.values()):
        message = f"this fits nobody: pay-as-you-go accounts are of the tier {settled.payg_tier!r}"
        yield one.doubt(("who", "tier") if who.tier is not None else ("who",), "nobody", message)
    if who.not_ is not None and _is_within(who, who.not_, settled.tiers):
        yield one.doubt(
            ("who", "not"), "nobody", "this fits nobody: `not` takes away all that the rest of `who` asks for"
        )


def _is_within(who: Who, other: Who, tiers: Sequence[Tier]) -> bool:
    """Whether whoever fits `who` fits `other` as well, models aside."""
    asked = dict(asked_of(who))
    for kind, names in asked_of(other):
        if names is not None and not (asked[kind] and set(asked[kind] or ()) <= set(names)):
            return False
    if other.tier is None:
        return True
    wanted = isinstance(who.tier, list) and AT_LEAST_MODEL in who.tier
    return who.tier is not None and not wanted and _tiers(who, tiers, 0) <= _tiers(other, tiers, 0)


def _tiers(who: Who, tiers: Sequence[Tier], model_rank: int) -> frozenset[Tier]:
    """The tiers of callers that `who` is about, for a model of that rank."""
    if who.tier is None:
        return frozenset(tiers)
    if isinstance(who.tier, AtLeast):
        return frozenset(tiers[tiers.index(Tier(who.tier.at_least)) :])
    named = frozenset(Tier(name) for name in who.tier if name != AT_LEAST_MODEL)
    return named | frozenset(tiers[model_rank:]) if AT_LEAST_MODEL in who.tier else named


def _all_facts(one: _Placed) -> Iterable[Mapping[str, Value]]:
    """What may be known of requests, one set of ranges for each route."""
    models = [model for key, model in one.ground.catalogue.models.items() if key in one.reach]
    facts: dict[str, Value] = {
        "time.hour": (Decimal(0), Decimal(23)),
        "time.minute": (Decimal(0), Decimal(59)),
        "time.weekday": frozenset(WEEKDAYS),
        "time.day": (Decimal(1), Decimal(31)),
        "time.month": (Decimal(1), Decimal(12)),
        "caller.tier": frozenset(str(tier) for tiers in one.reach.values() for tier in tiers),
        "caller.account_type": frozenset(map(str, AccountType)),
        "model.app": frozenset(model.app for model in models),
        "model.tier": frozenset(str(model.tier) for model in models),
        "model.provider": frozenset(model.provider for model in models),
        "model.beta": frozenset(model.beta for model in models),
    }
    known = {name: value for name, value in facts.items() if value}
    routes = one.ground.routes_of(one.entry)
    for route in routes:
        yield known | {UNITS + name: (unit.least, unit.most) for name, unit in route.units.items() if not unit.optional}
    if not routes:
        yield known


def _shadowed(rules: Sequence[_Placed]) -> Iterable[Problem]:
    """Rules that make no difference, since another one decides all of their calls."""
    enforced = [one for one in rules if one.mode is Mode.ENFORCE]
    if len(enforced) > MAX_COMPARED:
        return
    broad = [
        (place, one) for place, one in enumerate(enforced) if one.entry.when is None and one.entry.who.not_ is None
    ]
    for place, one in enumerate(enforced):
        for earlier, other in broad:
            if other is one or not _covers(other, one):
                continue
            denies, denied = _denies(other), _denies(one)
            if denies and not denied:
                message = f"allows nothing: rule {other.entry.id!r} denies all of its calls"
                yield one.doubt(("id",), "shadowed", message)
                break
            # Of two that say the same, the later one is the one too many.
            if denies == denied and (earlier < place or not _covers(one, other)):
                what = "denies" if denies else "allows"
                yield one.doubt(("id",), "redundant", f"rule {other.entry.id!r} {what} all of its calls already")
                break


def _denies(one: _Placed) -> bool:
    return isinstance(one.entry, Rule) and one.entry.deny is not None


def _covers(other: _Placed, one: _Placed) -> bool:
    """Whether every call that `one` may be about is one of `other`, which has no condition and no `not`."""
    for names, wanted in ((other.entry.action, one.entry.action), (other.entry.route, one.entry.route)):
        if names is not None and not (wanted and set(wanted) <= set(names)):
            return False
    asked = dict(asked_of(one.entry.who))
    for kind, alternatives in asked_of(other.entry.who):
        if alternatives is not None and not (asked[kind] and set(asked[kind] or ()) <= set(alternatives)):
            return False
    return bool(one.reach) and all(tiers <= other.reach.get(key, frozenset()) for key, tiers in one.reach.items())

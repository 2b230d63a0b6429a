"""Which entries of a policy are about a call: the compiled form that every request is decided by.

Entries are numbered, and a set of them is an integer with a bit for each. For every name that entries ask about there
is the set of those that it fits; the entries about a call are the intersection of a few sets that are looked up. That
costs the same for ten entries as for ten thousand, nothing is remembered about callers, and what the table needs grows
with the policy and the catalogue alone.

Conditions (`when`) are left to the caller, who asks about the few entries that are left. Casbin is the authority on
what rules mean (`access`); the tests prove that the table comes to the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from operator import or_

from policies.patterns import is_literal
from policies.scope import AT_LEAST_MODEL, AtLeast, Scope, Who
from policies.selection import asked_of, selector
from policies.terms import Model, Tier
from policies.values import value

KINDS = tuple(kind for kind, _ in asked_of(Who()))


@value
class Call:
    """What decides which entries are about a call. An action or route of None is not known yet."""

    tier: Tier
    values: tuple[tuple[str, Iterable[str]], ...]
    model: Model
    action: str | None
    route: str | None


class _Sets:
    """For one thing that entries may ask about: the sets of those that a name fits, and of those that do not ask."""

    def __init__(self, asked: Iterable[Sequence[str] | None]) -> None:
        self.open = 0
        self.named: dict[str, int] = {}
        for number, names in enumerate(asked):
            if names is None:
                self.open |= 1 << number
            for name in names or ():
                self.named[name] = self.named.get(name, 0) | 1 << number

    def of(self, names: Iterable[str]) -> int:
        fitting = self.open
        for name in names:
            fitting |= self.named.get(name, 0)
        return fitting

    @property
    def asked(self) -> bool:
        return bool(self.named)


class Table:
    """The entries of one kind: rules, exemptions or limits."""

    def __init__(self, scopes: Sequence[Scope], tiers: Sequence[Tier], models: Mapping[str, Model]) -> None:
        self._ranks = {tier: rank for rank, tier in enumerate(tiers)}
        self._tiers = _Sets(_exact_tiers(scope.who, tiers) for scope in scopes)
        self._ladder = _set_of(_asks_for_ladder(scope.who) for scope in scopes)
        self._models = _model_sets(scopes, models)
        self._actions = _Sets(scope.action for scope in scopes)
        self._routes = _Sets(scope.route for scope in scopes)
        self._who = _by_kind([scope.who for scope in scopes])
        refusing = [scope.who.not_ or Who() for scope in scopes]
        self._refusing = _set_of(scope.who.not_ is not None for scope in scopes)
        self._refused = _by_kind(refusing)
        self._refused_tiers = _Sets(_exact_tiers(who, tiers) for who in refusing)

    def about(self, call: Call) -> int:
        """The set of entries about a call, `when` aside; of a call that is not all known yet, those that may be."""
        rank = self._ranks.get(call.tier)
        if rank is None:
            # A tier that the ladder has lost: no entry is about its callers.
            return 0
        fitting = self._tiers.of((call.tier,))
        if rank >= self._ranks.get(call.model.tier, len(self._ranks)):
            fitting |= self._ladder
        fitting &= self._models.get(call.model.key, 0)
        if call.action is not None and self._actions.asked:
            fitting &= self._actions.of((call.action,))
        if call.route is not None and self._routes.asked:
            fitting &= self._routes.of((call.route,))
        values = dict(call.values)
        for kind, sets in self._who:
            fitting &= sets.of(values[kind])
        if fitting & self._refusing:
            refused = self._refusing & self._refused_tiers.of((call.tier,))
            for kind, sets in self._refused:
                refused &= sets.of(values[kind])
            fitting &= ~refused
        return fitting

    def uncertain(self, call: Call) -> int:
        """Of a call that is not all known yet: the set of entries that ask about what is not known."""
        unknown = 0
        if call.action is None:
            unknown |= _union(self._actions.named.values())
        if call.route is None:
            unknown |= _union(self._routes.named.values())
        return unknown


def members(entries: int) -> Iterator[int]:
    """The numbers in a set, in order."""
    while entries:
        lowest = entries & -entries
        yield lowest.bit_length() - 1
        entries ^= lowest


def _union(sets: Iterable[int]) -> int:
    return reduce(or_, sets, 0)


def _set_of(flags: Iterable[bool]) -> int:
    return _union(1 << number for number, flag in enumerate(flags) if flag)


def _by_kind(asking: Sequence[Who]) -> tuple[tuple[str, _Sets], ...]:
    """The sets for each kind of trait that some entry asks about."""
    asked = [dict(asked_of(who)) for who in asking]
    found = ((kind, _Sets(one[kind] for one in asked)) for kind in KINDS)
    return tuple((kind, sets) for kind, sets in found if sets.asked)


def _asks_for_ladder(who: Who) -> bool:
    return isinstance(who.tier, list) and AT_LEAST_MODEL in who.tier


def _exact_tiers(who: Who, tiers: Sequence[Tier]) -> Sequence[str] | None:
    """The tiers that `who` fits whatever the model; None where it does not ask."""
    if isinstance(who.tier, AtLeast):
        return tiers[tiers.index(Tier(who.tier.at_least)) :]
    return who.tier


def _model_sets(scopes: Sequence[Scope], models: Mapping[str, Model]) -> dict[str, int]:
    """For each model the set of entries about it. Entries with the same choice are looked at once."""
    choices: dict[str, tuple[Scope, int]] = {}
    everywhere = 0
    for number, scope in enumerate(scopes):
        if scope.app is None and scope.model is None:
            everywhere |= 1 << number
            continue
        text = selector(scope).text
        choices[text] = (scope, choices.get(text, (scope, 0))[1] | 1 << number)
    sets = dict.fromkeys(models, everywhere)
    for scope, entries in choices.values():
        selects = selector(scope).selects
        for key in _candidates(scope, models):
            if selects(models[key]):
                sets[key] |= entries
    return sets


def _candidates(scope: Scope, models: Mapping[str, Model]) -> Iterable[str]:
    """The models that a scope can be about: few where it names them, so that many such entries are compiled quickly."""
    if isinstance(scope.model, list) and all(map(is_literal, scope.model)):
        return [key for key in dict.fromkeys(scope.model) if key in models]
    return models

"""Which entries are about a call, their conditions included, and what the rules among them decide.

The table finds the entries that may be about a call; the conditions of those few are asked here. What is unknown never
lets anything through: a denial or a limit with an unknown condition holds, a grant or an exemption does not. For lists,
which ask without units, action or route, it is the other way round: they ask whether a call may pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from policies.access import Verdict
from policies.callers import Caller
from policies.conditions import UNITS, WEEKDAYS
from policies.rulebook import Content, Entry, Rulebook, Section
from policies.selection import values_of
from policies.table import Call, members
from policies.terms import AccountType, Model, Tier
from policies.truth import Truth, Value, known
from policies.values import value


@value
class Occasion:
    """How and when something is asked for. `now` is in the time zone of the policy; None is not known yet."""

    action: str | None
    route: str | None
    units: Mapping[str, Decimal] | None
    now: datetime


@value
class Situation:
    """A call with everything that entries can ask about it."""

    caller: Caller
    account_type: AccountType
    tier: Tier
    model: Model
    occasion: Occasion

    @property
    def call(self) -> Call:
        values = values_of(self.caller, self.account_type)
        return Call(self.tier, values, self.model, self.occasion.action, self.occasion.route)

    def of_subscriber(self, tier: Tier) -> Situation:
        """The same call, by a subscriber of a plan of `tier`."""
        return replace(self, account_type=AccountType.SUBSCRIPTION, tier=tier)

    def facts(self) -> Mapping[str, Value]:
        """What conditions may ask about, by name; what is not known is left out."""
        occasion, model, now = self.occasion, self.model, self.occasion.now
        found: dict[str, Value] = {
            "time.hour": known(Decimal(now.hour)),
            "time.minute": known(Decimal(now.minute)),
            "time.weekday": known(WEEKDAYS[now.weekday()]),
            "time.day": known(Decimal(now.day)),
            "time.month": known(Decimal(now.month)),
            "caller.tier": known(self.tier),
            "caller.account_type": known(str(self.account_type)),
            "caller.credential": known(str(self.caller.credential)),
            "caller.user": known(self.caller.user_id),
            "caller.tags": self.caller.account.tags,
            "model.app": known(model.app),
            "model.tier": known(model.tier),
            "model.provider": known(model.provider),
            "model.beta": known(model.beta),
        }
        found |= {UNITS + name: known(value) for name, value in (occasion.units or {}).items()}
        return found


class _Conditions:
    """The conditions of the entries of one call; what they ask about is gathered when the first of them is asked."""

    def __init__(self, situation: Situation) -> None:
        self._situation = situation
        self._facts: Mapping[str, Value] | None = None

    def truth(self, entry: Entry[Any]) -> Truth:
        if entry.when is None:
            return True
        if self._facts is None:
            self._facts = self._situation.facts()
        return entry.when.holds(self._facts)


def verdict(rulebook: Rulebook, situation: Situation) -> Verdict:
    """Some rule allows, and none denies. The first rule that denies is named, else the first that allows."""
    rules, call = rulebook.rules, situation.call
    about = rules.table.about(call) & rules.enforced
    conditions = _Conditions(situation)
    # A list asks whether a call may pass: then a denial has to be certain, and a grant need not be.
    strict = situation.occasion.units is not None
    for number in members(about & rules.denies & ~rules.table.uncertain(call)):
        truth = conditions.truth(rules.entries[number])
        if truth or (truth is None and strict):
            return Verdict(False, rules.entries[number].id)
    for number in members(about & rules.allows):
        truth = conditions.truth(rules.entries[number])
        if truth or (truth is None and not strict):
            return Verdict(True, rules.entries[number].id)
    return Verdict(False, None)


def fitting(
    section: Section[Content], situation: Situation, *, doubtful: bool, among: int = -1
) -> Iterator[Entry[Content]]:
    """The entries about a call, in their order; with those of which it is not known when `doubtful`."""
    if not section.entries or not among:
        return
    conditions, call = _Conditions(situation), situation.call
    about = section.table.about(call) & among
    if not doubtful:
        about &= ~section.table.uncertain(call)
    for number in members(about):
        truth = conditions.truth(section.entries[number])
        if truth or (truth is None and doubtful):
            yield section.entries[number]


def truths(entries: Iterable[Entry[Any]], situation: Situation) -> dict[str, Truth]:
    """The conditions of entries, by their texts, for the authority to decide by."""
    facts = situation.facts()
    return {entry.when.text: entry.when.holds(facts) for entry in entries if entry.when is not None}

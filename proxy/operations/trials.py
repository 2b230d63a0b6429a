"""Each entry of a policy tried on one call, with the first part of it that does not fit.

Whether an entry fits is asked of the table and the conditions that the gate decides by. Only the sentence comes from
elsewhere: from the predicates that Casbin's rows are made of, each of which can say in words what it asks for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from policies.document import Limit, Rule
from policies.fitting import Situation, truths
from policies.rulebook import Entry, Rulebook, Section
from policies.scope import AT_LEAST_MODEL, AtLeast, Scope
from policies.selection import condition, occasion, selector, traits_of, values_of
from policies.terms import Tier
from policies.truth import Truth


@dataclass(frozen=True, slots=True)
class Trial:
    """`fits`: the entry is about this call. `why` names what fits, or the first thing that does not."""

    rule: str
    effect: str
    mode: str
    fits: bool
    why: str


def try_entries(rulebook: Rulebook, situation: Situation) -> list[Trial]:
    """Every rule, then every exemption and limit, in their order."""
    sections: tuple[Section[Any], ...] = (rulebook.rules, rulebook.exemptions, rulebook.limits)
    return [trial for section in sections for trial in _tried(section, rulebook, situation)]


def _tried(section: Section[Any], rulebook: Rulebook, situation: Situation) -> Iterator[Trial]:
    about = section.table.about(situation.call)
    known = truths(section.entries, situation)
    for number, entry in enumerate(section.entries):
        truth = None if entry.when is None else known[entry.when.text]
        is_about = bool(about >> number & 1)
        fits = is_about and (entry.when is None or truth is True or (truth is None and _holds_in_doubt(entry)))
        reason = _mismatch(entry.content, rulebook, situation) if not is_about else None
        why = reason or _told_condition(entry, truth) or _told_scope(entry.content, rulebook, situation)
        yield Trial(entry.id, _effect(entry), entry.mode, fits, why)


def _holds_in_doubt(entry: Entry[Any]) -> bool:
    """What is unknown never lets anything through."""
    return isinstance(entry.content, Limit) or (isinstance(entry.content, Rule) and entry.content.deny is not None)


def _effect(entry: Entry[Any]) -> str:
    content = entry.content
    if isinstance(content, Rule):
        return "allow" if content.allow is not None else "deny"
    return "limit" if isinstance(content, Limit) else "exempt"


def _told_condition(entry: Entry[Any], truth: Truth) -> str | None:
    """What a condition has to say about a call that the entry is about otherwise; nothing when it is true."""
    if entry.when is None or truth is True:
        return None
    if truth is False:
        return f"the condition is not true: {entry.when.text}"
    return f"the request leaves out what the condition asks about: {entry.when.text}"


def _mismatch(scope: Scope, rulebook: Rulebook, situation: Situation) -> str:
    """The first part of an entry that does not fit."""
    reaches, wanted = _tier_fits(scope, situation, rulebook)
    if not reaches:
        return f"the caller's tier is {situation.tier}, not {wanted}"
    who = condition(scope.who, rulebook.tiers)
    if not who.holds(traits_of(values_of(situation.caller, situation.account_type), situation.tier)):
        return f"the caller is not {who.text}"
    what = selector(scope)
    if not what.selects(situation.model):
        return f"the model is not {what.text}"
    return f"the request is not {occasion(scope).text}"


def _told_scope(scope: Scope, rulebook: Rulebook, situation: Situation) -> str:
    """What an entry is about, in words."""
    _, wanted = _tier_fits(scope, situation, rulebook)
    parts = [f"tier {wanted}", f"caller: {condition(scope.who, rulebook.tiers).text}", f"model: {selector(scope).text}"]
    if scope.action is not None or scope.route is not None:
        parts.append(f"request: {occasion(scope).text}")
    if scope.when is not None:
        parts.append(f"when {scope.when}")
    return "; ".join(parts)


def _tier_fits(scope: Scope, situation: Situation, rulebook: Rulebook) -> tuple[bool, str]:
    """Whether the caller's tier is one that the entry is about, and which those are."""
    wanted, tier, rank = scope.who.tier, situation.tier, rulebook.rank(situation.tier)
    if rank < 0:
        return False, "on the ladder"
    if wanted is None:
        return True, "any"
    if isinstance(wanted, AtLeast):
        return rank >= rulebook.rank(Tier(wanted.at_least)), f"at least {wanted.at_least}"
    model_tier = situation.model.tier
    names = [f"at least {model_tier}" if name == AT_LEAST_MODEL else name for name in wanted]
    reached = tier in wanted or (AT_LEAST_MODEL in wanted and rank >= rulebook.rank(model_tier))
    return reached, " or ".join(names)

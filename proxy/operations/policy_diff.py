"""What another policy would decide differently: both are asked about every kind of caller and every model.

Kinds are told apart by what rules can ask: the tier, and each tag, user and credential that one of the two policies
mentions. Callers with several such tags at once are not tried, nor what depends on the request: its route, its units,
the time, how many there are. Entries that ask for those are named (`not_compared`), so that nobody takes the silence
about them for an answer; recorded decisions (`policy_replay`) and cases (`policy_cases`) are the places for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from policies.evaluate import Allow, Ask, evaluate
from policies.rulebook import Rulebook, Section
from policies.selection import asked_of
from policies.terms import Credential
from proxy.operations.imagined import CaseCaller, imagined


@dataclass(frozen=True, slots=True)
class Decision:
    """Of one policy; `rule` is the deciding one, None when no rule allows."""

    allowed: bool
    rule: str | None
    fundings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Flip:
    """One kind of caller on one model, where the two policies differ in whether, or with what, a call is paid."""

    caller: str
    model: str
    before: Decision
    after: Decision

    def as_json(self) -> dict[str, object]:
        return {
            "caller": self.caller,
            "model": self.model,
            "before": _told(self.before),
            "after": _told(self.after),
            "rule_before": self.before.rule,
            "rule_after": self.after.rule,
        }


def _told(decision: Decision) -> str:
    return f"allow, by {' then '.join(decision.fundings)}" if decision.allowed else "deny"


def diff(before: Rulebook, after: Rulebook, now: datetime) -> list[Flip]:
    """Every difference, by caller and model. Other rules with the same outcome are none."""
    flips = []
    for name, kind in kinds_of_callers(before, after).items():
        caller = imagined(kind, now)
        for model_key in sorted({*before.catalogue.models, *after.catalogue.models}):
            old, new = (_decision(evaluate(caller, Ask(model_key), rulebook, now)) for rulebook in (before, after))
            if (old.allowed, old.fundings) != (new.allowed, new.fundings):
                flips.append(Flip(name, model_key, old, new))
    return flips


def not_compared(before: Rulebook, after: Rulebook) -> list[str]:
    """The entries that are not the same in both policies, and depend on more than the caller and the model."""
    old, new = _by_request(before), _by_request(after)
    return sorted(entry_id for entry_id in old.keys() | new.keys() if old.get(entry_id) != new.get(entry_id))


def _by_request(rulebook: Rulebook) -> dict[str, object]:
    sections: tuple[Section[Any], ...] = (rulebook.rules, rulebook.exemptions, rulebook.limits)
    return {
        entry.id: (entry.content, entry.mode)
        for section in sections
        for entry in section.entries
        if section is rulebook.limits or entry.content.model_fields_set & {"when", "action", "route"}
    }


def _decision(answer: object) -> Decision:
    if isinstance(answer, Allow):
        return Decision(True, answer.rule, tuple(map(str, answer.quote.fundings)))
    rule = getattr(answer, "fields", {}).get("rule")
    return Decision(False, str(rule) if rule else None, ())


def kinds_of_callers(*rulebooks: Rulebook) -> Mapping[str, CaseCaller]:
    """One caller for each tier, alone and with each trait that a rule mentions, by a name for people."""
    tiers = list(dict.fromkeys(tier for rulebook in rulebooks for tier in rulebook.tiers))
    mentioned = sorted(frozenset().union(*(mentioned_by(rulebook) for rulebook in rulebooks)))
    kinds: dict[str, CaseCaller] = {}
    for tier in (None, *tiers):
        plain = CaseCaller() if tier is None else CaseCaller(tier=tier)
        name = f"subscriber of {tier}" if tier else "payg"
        kinds[name] = plain
        for text, changes in _variants(mentioned):
            kinds[f"{name}, {text}"] = plain.model_copy(update=changes)
    return kinds


def mentioned_by(rulebook: Rulebook) -> frozenset[str]:
    """What the entries of a policy ask about callers, their tier aside, as `kind=value`."""
    sections: tuple[Section[Any], ...] = (rulebook.rules, rulebook.exemptions, rulebook.limits)
    asking = [entry.content.who for section in sections for entry in section.entries]
    asking += [who.not_ for who in asking if who.not_ is not None]
    return frozenset(f"{kind}={value}" for who in asking for kind, values in asked_of(who) for value in values or ())


def _variants(mentioned: list[str]) -> Iterator[tuple[str, dict[str, object]]]:
    for trait in mentioned:
        kind, _, value = trait.partition("=")
        if kind == "tag":
            yield f"tag {value}", {"tags": [value]}
        elif kind == "role":
            yield f"role {value}", {"roles": [value]}
        elif kind == "team" and value.isdecimal():
            yield f"team {value}", {"team": value}
        elif kind == "user":
            yield f"user {value}", {"user": value}
        elif kind == "credential" and value != Credential.JWT:
            yield f"by {value}", {"credential": Credential(value)}

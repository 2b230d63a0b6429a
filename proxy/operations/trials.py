"""Each rule of a policy tried on one caller and one model, with the first part of it that does not fit.

The verdict comes from `policies.evaluate` alone; this only shows the way to it, from the same conditions and
selectors that the rulebook is compiled from.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from policies.callers import Caller
from policies.document import AT_LEAST_MODEL, AtLeast, Rule
from policies.rulebook import Rulebook
from policies.selection import caller_traits, condition, selector
from policies.terms import Model, Tier


@dataclass(frozen=True, slots=True)
class Trial:
    """`fits`: the rule is about this call. `why` names what fits, or the first thing that does not."""

    rule: str
    allows: bool
    fits: bool
    why: str


def try_rules(caller: Caller, model: Model, rulebook: Rulebook, now: datetime) -> list[Trial]:
    """Every rule in its order. A call passes when some rule that allows fits and none that denies."""
    account = caller.account.at(now)
    tier = account.tier(rulebook.payg_tier)
    traits = caller_traits(caller, account.account_type, tier)
    return [_trial(rule, tier, traits, model, rulebook) for rule in rulebook.rules.values()]


def _trial(rule: Rule, tier: Tier, traits: frozenset[str], model: Model, rulebook: Rulebook) -> Trial:
    reaches, wanted = _tier_fits(rule, tier, model, rulebook)
    who, what = condition(rule.who, rulebook.tiers), selector(rule)
    if not reaches:
        fits, why = False, f"the caller's tier is {tier}, not {wanted}"
    elif not who.holds(traits):
        fits, why = False, f"the caller is not {who.text}"
    elif not what.selects(model):
        fits, why = False, f"the model is not {what.text}"
    else:
        fits, why = True, f"tier {wanted}; caller: {who.text}; model: {what.text}"
    return Trial(rule.id, rule.allow is not None, fits, why)


def _tier_fits(rule: Rule, tier: Tier, model: Model, rulebook: Rulebook) -> tuple[bool, str]:
    """Whether the caller's tier is one that the rule is about, and which those are."""
    wanted, rank = rule.who.tier, rulebook.rank(tier)
    if wanted is None:
        return True, "any"
    if isinstance(wanted, AtLeast):
        return rank >= rulebook.rank(Tier(wanted.at_least)), f"at least {wanted.at_least}"
    names = [f"at least {model.tier}" if name == AT_LEAST_MODEL else name for name in wanted]
    reached = tier in wanted or (AT_LEAST_MODEL in wanted and rank >= rulebook.rank(model.tier))
    return reached, " or ".join(names)

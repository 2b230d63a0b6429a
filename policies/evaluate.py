"""May this caller use this model, and how would it be paid: the one decision function.

The gate calls it for every metered request; the lists of models and apps and the quotes call the same function, so
that a model is listed as accessible exactly when a request for it would pass policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from policies.access import Verdict
from policies.callers import Account, Caller
from policies.patterns import matches
from policies.pricing import cost, quota_cost
from policies.refusals import Refusal, account_frozen, model_denied
from policies.rulebook import Rulebook
from policies.selection import caller_traits
from policies.terms import AccountType, Funding, Model, Plan, Tier


@dataclass(frozen=True, slots=True)
class Quote:
    """What a call would take: micro-credits or quota units, whichever of `fundings` can pay first."""

    credits: int
    quota: int
    fundings: tuple[Funding, ...]


@dataclass(frozen=True, slots=True)
class Allow:
    """Policy lets the call through; whether it can be paid is for the store to say, atomically."""

    account: Account
    model: Model
    tier: Tier
    rule: str
    quote: Quote
    plan: Plan | None
    revision: str


def evaluate(
    caller: Caller, model_key: str, units: Mapping[str, Decimal], rulebook: Rulebook, now: datetime
) -> Allow | Refusal:
    """The decision on one call of one model. The refusal names the rule, and the tier that would unlock it."""
    account = caller.account.at(now)
    if account.frozen:
        return account_frozen()
    model = rulebook.catalogue.models.get(model_key)
    if model is None:
        return model_denied(model_key, "Model not found")
    if not model.enabled:
        return model_denied(model_key, "Model is currently disabled")
    if caller.models and not any(matches(model_key, pattern) for pattern in caller.models):
        return model_denied(model_key, "This API key is not allowed to use this model")
    tier = account.tier(rulebook.payg_tier)
    verdict = _verdict(caller, account.account_type, tier, model, rulebook)
    if not verdict.allowed:
        return _denied(caller, tier, model, verdict.rule, rulebook)
    quote = Quote(cost(model.price, units), quota_cost(model, units), _fundings(account, rulebook))
    return Allow(account, model, tier, verdict.rule or "", quote, account.plan, rulebook.revision)


def _verdict(caller: Caller, account_type: AccountType, tier: Tier, model: Model, rulebook: Rulebook) -> Verdict:
    traits = caller_traits(caller, account_type, tier) & rulebook.mentioned
    return rulebook.access.decide(tier, traits, model.key)


def _denied(caller: Caller, tier: Tier, model: Model, rule: str | None, rulebook: Rulebook) -> Refusal:
    unlocking = unlocking_tier(caller, tier, model, rulebook)
    denying = rulebook.rules.get(rule) if rule else None
    if denying is not None and denying.because:
        return model_denied(model.key, denying.because, rule, unlocking)
    if unlocking is not None:
        return model_denied(model.key, f"This model requires {unlocking} tier or higher", rule, unlocking)
    return model_denied(model.key, "No policy rule allows this model for this account", rule)


def unlocking_tier(caller: Caller, tier: Tier, model: Model, rulebook: Rulebook) -> Tier | None:
    """The lowest tier above `tier` whose subscribers would pass, by the same decision; None when none would."""
    for higher in rulebook.tiers[rulebook.rank(tier) + 1 :]:
        if _verdict(caller, AccountType.SUBSCRIPTION, higher, model, rulebook).allowed:
            return higher
    return None


def _fundings(account: Account, rulebook: Rulebook) -> tuple[Funding, ...]:
    if account.account_type is AccountType.PAYG:
        return (Funding.CREDITS,)
    return (Funding.QUOTA, Funding.CREDITS) if rulebook.overflow_to_credits else (Funding.QUOTA,)

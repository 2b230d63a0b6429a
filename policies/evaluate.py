"""May this caller use this model, and how would it be paid: the one decision function.

The gate calls it for every metered request; the lists of models and apps and the quotes call the same function, so
that a model is listed as accessible exactly when a request for it may pass policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from policies.access import Verdict
from policies.callers import Account, Caller
from policies.document import Limit
from policies.fitting import Occasion, Situation, fitting, verdict
from policies.patterns import matches
from policies.pricing import cost, quota_cost
from policies.quota import FairUseTerms
from policies.rates import FairUse
from policies.refusals import Refusal, account_frozen, model_denied
from policies.rulebook import Entry, Rulebook
from policies.scope import Mode
from policies.terms import AccountType, Funding, Model, Plan, Tier
from policies.values import value


@value
class Ask:
    """What is asked for. Lists ask without units, action and route: whether any request for the model may pass."""

    model_key: str
    units: Mapping[str, Decimal] | None = None
    action: str | None = None
    route: str | None = None


@value
class Quote:
    """What a call would take: micro-credits or quota units, whichever of `fundings` can pay first."""

    credits: int
    quota: int
    fundings: tuple[Funding, ...]


@dataclass(frozen=True, slots=True)
class Exempt:
    """The exemption that a call has, and how many such calls are fair; None is any number."""

    id: str
    fair_use: FairUse | None

    @property
    def terms(self) -> FairUseTerms | None:
        """How the ledger has to count such calls, if it has to."""
        if self.fair_use is None:
            return None
        return FairUseTerms(f"exempt:{self.id}", self.fair_use.calls, self.fair_use.period)


@dataclass(frozen=True, slots=True)
class Notice:
    """What an entry that is not enforced would have done."""

    rule: str
    mode: Mode
    sentence: str


@value
class Allow:
    """Policy lets the call through; whether it can be paid is for the store to say, atomically."""

    account: Account
    model: Model
    tier: Tier
    rule: str
    quote: Quote
    plan: Plan | None
    revision: str
    exempt: Exempt | None = None
    limits: tuple[Entry[Limit], ...] = ()
    """The limits that the call has to keep; those that are not enforced too."""
    notices: tuple[Notice, ...] = ()


def evaluate(caller: Caller, ask: Ask, rulebook: Rulebook, now: datetime) -> Allow | Refusal:
    """The decision on one call of one model. The refusal names the rule, and the tier that would unlock it."""
    account = caller.account.at(now)
    if account.frozen:
        return account_frozen()
    model = rulebook.catalogue.models.get(ask.model_key)
    if model is None:
        return model_denied(ask.model_key, "Model not found")
    if not model.enabled:
        return model_denied(ask.model_key, "Model is currently disabled")
    if caller.models and not any(matches(ask.model_key, pattern) for pattern in caller.models):
        return model_denied(ask.model_key, "This API key is not allowed to use this model")
    situation = situation_of(caller, account, model, ask, rulebook, now)
    decided = verdict(rulebook, situation)
    if not decided.allowed:
        return _denied(situation, decided, rulebook)
    exempt = _exempt(rulebook, situation)
    fundings = _fundings(account, rulebook)
    units = ask.units or {}
    payable = (Funding.EXEMPT, *fundings) if exempt else fundings
    quote = Quote(cost(model.price, units), quota_cost(model, units), payable)
    return Allow(
        account,
        model,
        situation.tier,
        decided.rule or "",
        quote,
        account.plan,
        rulebook.revision,
        exempt,
        tuple(fitting(rulebook.limits, situation, doubtful=True)),
        tuple(_notices(rulebook, situation)),
    )


def situation_of(
    caller: Caller, account: Account, model: Model, ask: Ask, rulebook: Rulebook, now: datetime
) -> Situation:
    """A call with everything that entries can ask about it. The account is resolved at `now`."""
    occasion = Occasion(ask.action, ask.route, ask.units, now.astimezone(rulebook.zone))
    return Situation(caller, account.account_type, account.tier(rulebook.payg_tier), model, occasion)


def _denied(situation: Situation, decided: Verdict, rulebook: Rulebook) -> Refusal:
    unlocking, model_key, rule = unlocking_tier(situation, rulebook), situation.model.key, decided.rule
    denying = rulebook.rules.by_id[rule].content if rule else None
    if denying is not None and denying.because:
        return model_denied(model_key, denying.because, rule, unlocking)
    if unlocking is not None:
        return model_denied(model_key, f"This model requires {unlocking} tier or higher", rule, unlocking)
    return model_denied(model_key, "No policy rule allows this model for this account", rule)


def unlocking_tier(situation: Situation, rulebook: Rulebook) -> Tier | None:
    """The lowest tier above the caller's whose subscribers would pass, by the same decision; None when none would."""
    for higher in rulebook.tiers[rulebook.rank(situation.tier) + 1 :]:
        if verdict(rulebook, situation.of_subscriber(higher)).allowed:
            return higher
    return None


def _exempt(rulebook: Rulebook, situation: Situation) -> Exempt | None:
    """The first exemption that is about the call."""
    for entry in fitting(rulebook.exemptions, situation, doubtful=False, among=rulebook.exemptions.enforced):
        return Exempt(entry.id, entry.content.fair_use)
    return None


def _fundings(account: Account, rulebook: Rulebook) -> tuple[Funding, ...]:
    if account.account_type is AccountType.PAYG:
        return (Funding.CREDITS,)
    return (Funding.QUOTA, Funding.CREDITS) if rulebook.overflow_to_credits else (Funding.QUOTA,)


def _notices(rulebook: Rulebook, situation: Situation) -> list[Notice]:
    """What rules and exemptions that are not enforced would have done to a call that is let through."""
    rules, exemptions = rulebook.rules, rulebook.exemptions
    denying = fitting(rules, situation, doubtful=True, among=rules.denies & ~rules.enforced)
    exempting = fitting(exemptions, situation, doubtful=False, among=~exemptions.enforced)
    return [
        *(Notice(rule.id, rule.mode, rule.content.because or "This call would be denied") for rule in denying),
        *(Notice(exemption.id, exemption.mode, "This call would cost nothing") for exemption in exempting),
    ]

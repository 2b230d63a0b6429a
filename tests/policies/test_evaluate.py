"""The one decision function: what it refuses with which sentence, and what it says a call would take."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from policies.callers import Caller
from policies.evaluate import Allow, Ask, Quote, evaluate
from policies.refusals import Reason, Refusal
from policies.subscription import Status
from policies.terms import Credential, Funding, Price, Tier
from tests.policies.samples import (
    LADDER,
    LAW,
    NOW,
    TIERS,
    allowed,
    caller,
    catalogue,
    compiled,
    decide,
    model,
    plan,
    subscribed,
)


def _refusal(decision: Allow | Refusal) -> Refusal:
    assert isinstance(decision, Refusal)
    return decision


def _allow(decision: Allow | Refusal) -> Allow:
    assert isinstance(decision, Allow)
    return decision


def _with_status(status: Status, **fields: Any) -> Caller:
    who = caller("pro")
    return replace(who, account=replace(who.account, subscription=replace(subscribed(plan("pro"), status), **fields)))


@pytest.mark.parametrize("key", ["video:nope", "", "veo3", "VIDEO:VEO3", "video:veo3 ", "video:veo3\n", "*", "video:*"])
def test_an_unknown_model_is_refused(key: str) -> None:
    """Only the exact key of a model of the catalogue is a model; a pattern sent as a model is none."""
    refusal = _refusal(decide(compiled(""), caller("enterprise"), key))
    assert (refusal.reason, refusal.fields["reason"], refusal.fields["modelKey"]) == (
        Reason.MODEL_DENIED,
        "Model not found",
        key,
    )


def test_a_disabled_model_is_refused_whoever_asks() -> None:
    """Disabled comes before the ladder: no tier unlocks it."""
    rulebook = compiled("", catalogue(model("app:x", enabled=False)))
    refusal = _refusal(decide(rulebook, caller("enterprise"), "app:x"))
    assert refusal.fields["reason"] == "Model is currently disabled"
    assert "requiredTier" not in refusal.fields


def test_a_frozen_account_is_refused_before_everything_else() -> None:
    """It learns nothing about the model it asked for."""
    for key in ("video:wan2.2", "video:nope"):
        refusal = _refusal(decide(compiled(""), caller("enterprise", frozen=True), key))
        assert (refusal.reason, refusal.fields) == (Reason.ACCOUNT_FROZEN, {})


def test_a_key_with_a_list_of_models_reaches_no_others() -> None:
    """The list of an API key narrows what its account may use, and never widens it."""
    rulebook = compiled("")
    limited = caller("basic", credential=Credential.API_KEY, models=("poster:*", "video:veo3"))
    assert allowed(rulebook, limited, "poster:inpaint")
    assert not allowed(rulebook, limited, "video:veo3")
    refusal = _refusal(decide(rulebook, limited, "video:veo2"))
    assert refusal.fields["reason"] == "This API key is not allowed to use this model"
    assert "requiredTier" not in refusal.fields


@pytest.mark.parametrize("pattern", ["video:veo", "", "video:veo?x", "veo2"])
def test_a_list_of_models_is_anchored(pattern: str) -> None:
    """A pattern of a key's list has to fit the whole model key, as in policies."""
    assert not allowed(compiled(""), caller("enterprise", models=(pattern,)), "video:veo2")


def test_a_refusal_names_the_lowest_tier_that_would_do() -> None:
    """The origin's fields, a hint that says the same, and no rule where nothing allows."""
    refusal = _refusal(decide(compiled(""), caller(), "video:kling-2.5"))
    assert refusal.error == "Model access denied"
    assert refusal.fields == {
        "reason": "This model requires pro tier or higher",
        "requiredTier": "pro",
        "modelKey": "video:kling-2.5",
        "rule": None,
    }
    assert refusal.hint == "Subscribe to a plan of the pro tier."


def test_a_refusal_repeats_what_its_rule_says() -> None:
    """`because` is the sentence, the rule is named, and no tier is promised where none would help."""
    rulebook = compiled(
        "rules: [{id: all, allow: use}, {id: closed, deny: use, model: {beta: true}, because: Not yet},"
        " {id: video-closed, deny: use, app: video, model: '*:veo3'}]"
    )
    refusal = _refusal(decide(rulebook, caller("pro"), "video:kling-2.5"))
    assert (refusal.fields["reason"], refusal.fields["rule"], refusal.hint) == ("Not yet", "closed", None)
    assert "requiredTier" not in refusal.fields
    silent = _refusal(decide(rulebook, caller("pro"), "video:veo3"))
    assert silent.fields["reason"] == "No policy rule allows this model for this account"
    assert silent.fields["rule"] == "video-closed"


def test_a_denied_tier_is_told_the_one_that_is_not_denied() -> None:
    """The tier that unlocks is found by asking the rules, not by comparing with the model's tier."""
    rulebook = compiled("rules: [{id: all, allow: use}, {id: low, deny: use, who: {tier: [free, basic]}}]")
    assert _refusal(decide(rulebook, caller("free"), "video:wan2.2")).fields["requiredTier"] == "pro"


_rules = st.lists(
    st.sampled_from(
        [
            "{id: a, allow: use, who: {tier: at-least-model}}",
            "{id: b, deny: use, who: {tier: [basic]}, model: 'video:*'}",
            "{id: c, deny: use, who: {not: {tier: {at_least: pro}}}, app: video}",
            "{id: d, allow: use, who: {tier: [pro], account_type: subscription}}",
            "{id: e, deny: use, who: {account_type: payg}, model: {beta: true}}",
            "{id: f, deny: use, who: {tag: blocked}}",
            "{id: g, allow: use, who: {account_type: subscription}, app: poster}",
            "{id: h, deny: use, who: {account_type: payg}, app: poster}",
        ]
    ),
    min_size=1,
    unique=True,
).map(lambda rules: "rules: [{id: z, allow: use, who: {user: nobody}}, " + ", ".join(rules) + "]")


@LAW
@given(_rules, st.one_of(st.none(), st.sampled_from(TIERS)), st.booleans(), st.sampled_from(sorted(LADDER.models)))
def test_the_required_tier_is_what_evaluate_says_at_that_tier(
    rules: str, tier: str | None, blocked: bool, key: str
) -> None:
    """A subscriber of the required tier passes, none of a tier between does; without one nobody above passes."""
    rulebook = compiled(rules)
    tags = ["blocked"] if blocked else []
    decision = decide(rulebook, caller(tier, tags=tags), key)
    assume(isinstance(decision, Refusal))
    above = TIERS[TIERS.index(tier or "free") + 1 :]
    passing = [higher for higher in above if allowed(rulebook, caller(higher, tags=tags), key)]
    assert _refusal(decision).fields.get("requiredTier") == (passing[0] if passing else None)


def test_an_allowed_call_says_what_it_rests_on() -> None:
    """Account, model, tier, rule, price, plan and revision: all that a record of the decision needs."""
    things = catalogue(model("app:x", "pro", price=Price(5_000_000, {"seconds": Decimal(1_000_000)}), quota_cost=3))
    rulebook = compiled("", things)
    decision = _allow(decide(rulebook, caller("pro"), "app:x", {"seconds": Decimal(7), "unpriced": Decimal(10**9)}))
    assert (decision.tier, decision.rule, decision.revision) == ("pro", "tier-models", rulebook.revision)
    assert decision.quote == Quote(credits=7_000_000, quota=3, fundings=(Funding.QUOTA,))
    assert decision.plan is not None
    assert decision.plan.tier == "pro"


def test_the_account_type_decides_what_pays() -> None:
    """Credits for pay-as-you-go, quota for subscribers, and after it credits only where the policy says so."""
    plain, overflowing = compiled(""), compiled("subscription: {overflow: credits}")
    assert _allow(decide(plain, caller(), "video:wan2.2")).quote.fundings == (Funding.CREDITS,)
    assert _allow(decide(overflowing, caller(), "video:wan2.2")).quote.fundings == (Funding.CREDITS,)
    assert _allow(decide(plain, caller("free"), "video:wan2.2")).quote.fundings == (Funding.QUOTA,)
    assert _allow(decide(overflowing, caller("free"), "video:wan2.2")).quote.fundings == (
        Funding.QUOTA,
        Funding.CREDITS,
    )


@pytest.mark.parametrize("status", [Status.INCOMPLETE, Status.CANCELED, Status.EXPIRED])
def test_who_is_not_entitled_pays_as_they_go(status: Status) -> None:
    """Unpaid and ended subscriptions give neither tier nor quota."""
    decision = decide(compiled(""), _with_status(status), "video:wan2.2")
    assert (_allow(decision).tier, _allow(decision).plan, _allow(decision).quote.fundings[0]) == (
        "free",
        None,
        "credits",
    )
    assert not allowed(compiled(""), _with_status(status), "video:kling-2.5")


def test_entitlement_ends_by_the_clock_alone() -> None:
    """The stored row says active; the decision is made as of `now`, also in the grace time and after it."""
    rulebook, who = compiled(""), _with_status(Status.ACTIVE)
    end = NOW + timedelta(days=10)
    for moment, passing in [
        (NOW, True),
        (end - timedelta(microseconds=1), True),
        (end, True),
        (end + timedelta(days=7) - timedelta(microseconds=1), True),
        (end + timedelta(days=7), False),
    ]:
        assert isinstance(evaluate(who, Ask("video:kling-2.5"), rulebook, moment), Allow) == passing


def test_a_canceled_subscription_ends_at_its_moment() -> None:
    """Until `cancel_at` everything is as before, at `cancel_at` nothing is, and there is no grace."""
    rulebook, who = compiled(""), _with_status(Status.ACTIVE, cancel_at=NOW + timedelta(days=10))
    before, at = NOW + timedelta(days=10, microseconds=-1), NOW + timedelta(days=10)
    assert isinstance(evaluate(who, Ask("video:kling-2.5"), rulebook, before), Allow)
    assert isinstance(evaluate(who, Ask("video:kling-2.5"), rulebook, at), Refusal)


def test_the_tier_of_an_account_without_plan_is_the_policys() -> None:
    """`Account.tier` of a pay-as-you-go account is whatever the policy says it is."""
    assert caller().account.tier(Tier("pro")) == "pro"
    assert caller("basic").account.tier(Tier("pro")) == "basic"

"""Explaining a decision."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.documents import parse_document
from policies.callers import Account, Caller
from policies.document import PolicyFile
from policies.evaluate import Allow, Ask, evaluate, situation_of
from policies.refusals import Reason
from policies.rulebook import Rulebook, compile_rulebook
from policies.subscription import Status, Subscription
from policies.terms import AccountId, Catalogue, Credential, Cycle, Model, ModelKey, Plan, Price, Tier, UserId
from proxy.operations.trials import try_entries
from tests.proxy.operations.desk import Counter

NOW = datetime(2026, 1, 15, tzinfo=UTC)
TIERS = ("free", "basic", "pro")


@pytest.fixture
async def ana(counter: Counter) -> str:
    await counter.do("accounts create", user="ana", credits=10)
    return "ana"


async def test_a_refusal_names_the_rule_and_what_would_unlock(counter: Counter, ana: str) -> None:
    """Each rule says why it does not fit, and the verdict names the tier that would pass."""
    told = await counter.do("policy explain", user=ana, model="video-generator:veo3")
    assert (told["allowed"], told["passes"], told["tier"]) == (False, False, "free")
    assert told["required_tier"] == "enterprise"
    (rule,) = told["rules"]
    assert (rule["fits"], rule["why"]) == (False, "the caller's tier is free, not at least enterprise")


async def test_allowed_is_not_yet_paid(counter: Counter, ana: str) -> None:
    """Policy lets it through, the account cannot pay: both are said, and the whole does not pass."""
    told = await counter.do("policy explain", user=ana, model="video-generator:wan2.2", unit=["duration_seconds=10"])
    assert (told["allowed"], told["credits"], told["paid_with"], told["passes"]) == (True, 10, "credits", True)
    told = await counter.do("policy explain", user=ana, model="video-generator:wan2.2", unit=["duration_seconds=11"])
    assert (told["allowed"], told["credits"], told["paid_with"], told["passes"]) == (True, 11, None, False)


async def test_a_subscriber_pays_with_quota(counter: Counter, ana: str) -> None:
    """What is left of today counts, holds included; used up, it does not pass."""
    from policies.terms import Funding

    await counter.do("subscriptions subscribe", account=ana, plan="basic-monthly", paid=True)
    told = await counter.do("policy explain", user=ana, model="video-generator:veo2")
    assert (told["paid_with"], told["funds"]["daily_quota"]) == ("quota", 50)
    await counter.reserve(ana, 50, Funding.QUOTA)
    told = await counter.do("policy explain", user=ana, model="video-generator:veo2")
    assert (told["allowed"], told["passes"], told["funds"]["daily_quota"]) == (True, False, 0)


async def test_a_key_is_explained_with_its_limits(counter: Counter, ana: str) -> None:
    """With the id of a key the caller is that key; a key of somebody else is not found."""
    key = await counter.do("keys create", user=ana, models=["poster-editor:*"])
    told = await counter.do("policy explain", user=ana, model="video-generator:wan2.2", key=key["id"])
    assert (told["credential"], told["reason"]) == ("api_key", "This API key is not allowed to use this model")
    await counter.do("accounts create", user="budi")
    await counter.refused("policy explain", Reason.NOT_FOUND, user="budi", model="video-generator:veo2", key=key["id"])


async def test_a_frozen_account_is_told_as_such(counter: Counter, ana: str) -> None:
    """The reason is the freeze, whatever the rules say."""
    await counter.do("accounts freeze", account=ana)
    told = await counter.do("policy explain", user=ana, model="video-generator:wan2.2")
    assert (told["allowed"], told["reason"]) == (False, "Account is frozen")


async def test_unknown_names_come_with_the_nearest(counter: Counter, ana: str) -> None:
    """Of models; and a unit has to have a number."""
    refusal = await counter.refused("policy explain", Reason.NOT_FOUND, user=ana, model="video-generator:veo33")
    assert "did you mean" in refusal.error
    for unit in ("seconds", "seconds=", "seconds=-1", "Seconds=1", "seconds=1e9", "=1"):
        await counter.refused(
            "policy explain", Reason.INVALID_REQUEST, user=ana, model="video-generator:veo2", unit=[unit]
        )


# The law: the rules that are shown to fit are those that decide.

CATALOGUE = Catalogue(
    revision=1,
    models={
        f"{app}:{tier}{'-beta' if beta else ''}": Model(
            ModelKey(f"{app}:{tier}{'-beta' if beta else ''}"),
            app,
            tier,
            tier,
            "local",
            Tier(tier),
            Price(1),
            beta=beta,
        )
        for app, tier, beta in product(("video", "image"), TIERS, (True, False))
    },
    apps={},
    plans=(),
)
WHO = st.sampled_from(
    [
        "{}",
        "{tier: at-least-model}",
        "{tier: basic}",
        "{tier: [free, pro]}",
        "{tier: {at_least: basic}}",
        "{tag: vip}",
        "{account_type: payg}",
        "{credential: api_key, tag: [vip, staff]}",
        "{not: {tag: vip}}",
        "{tier: at-least-model, not: {tier: {at_least: pro}}}",
    ]
)
WHAT = st.sampled_from(["", ', model: "video:*"', ", model: {beta: true}", ", model: {tier: [basic, pro]}"])
CALLERS = list(product((None, *TIERS), ((), ("vip",), ("staff",)), (Credential.JWT, Credential.API_KEY)))


def _rulebook(rules: list[tuple[str, str, str]]) -> Rulebook:
    lines = [f"  - {{id: r{n}, {effect}: use, who: {who}{what}}}" for n, (effect, who, what) in enumerate(rules)]
    text = "\n".join(
        [f"version: 1\ntiers: [{', '.join(TIERS)}]\nrules:", "  - {id: base, allow: use, who: {tag: x}}", *lines]
    )
    document, _ = parse_document("policy.yaml", text, PolicyFile)
    rulebook = compile_rulebook([("policy.yaml", document)], CATALOGUE)
    assert isinstance(rulebook, Rulebook), rulebook
    return rulebook


def _caller(tier: str | None, tags: tuple[str, ...], credential: Credential) -> Caller:
    plan = Plan(1, "p", 1, Tier(tier or ""), "p", "", 0, "", Cycle.MONTHLY, 1, None, Tier(""), {}, True, 0, NOW)
    end = NOW.replace(day=16)
    row = Subscription(1, AccountId(1), plan, Status.ACTIVE, NOW, NOW, NOW, end) if tier else None
    return Caller(UserId("ana"), Account(AccountId(1), 0, tags=frozenset(tags), subscription=row), credential)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.sampled_from(["allow", "deny"]), WHO, WHAT), max_size=4))
def test_the_rules_that_are_shown_to_fit_are_those_that_decide(rules: list[tuple[str, str, str]]) -> None:
    """For any policy, caller and model: allowed is the same as some fitting allow and no fitting deny."""
    rulebook = _rulebook(rules)
    for kind in CALLERS:
        caller = _caller(*kind)
        for model in CATALOGUE.models.values():
            decision = evaluate(caller, Ask(model.key), rulebook, NOW)
            situation = situation_of(caller, caller.account.at(NOW), model, Ask(model.key, {}), rulebook, NOW)
            fitting = [trial for trial in try_entries(rulebook, situation) if trial.fits]
            effects = {trial.effect for trial in fitting}
            assert isinstance(decision, Allow) == (effects == {"allow"})
            if isinstance(decision, Allow):
                assert decision.rule in {trial.rule for trial in fitting}


def test_the_packaged_default_is_the_policy_without_files() -> None:
    """policies/rules/default.yaml says what is in force without a policy: starting from it changes nothing."""
    text = (Path(__file__).parents[3] / "policies" / "rules" / "default.yaml").read_text("utf-8")
    document, _ = parse_document("default.yaml", text, PolicyFile)
    models = CATALOGUE.models
    written = compile_rulebook([("default.yaml", document)], Catalogue(1, models, {}, ()))
    built_in = compile_rulebook([], Catalogue(1, models, {}, ()))
    assert isinstance(written, Rulebook)
    assert isinstance(built_in, Rulebook)
    assert (written.tiers, written.payg_tier) == (built_in.tiers, built_in.payg_tier)
    assert written.overflow_to_credits == built_in.overflow_to_credits
    assert [rule.content for rule in written.rules.entries] == [rule.content for rule in built_in.rules.entries]


async def test_an_explanation_may_be_about_one_request(counter: Counter, ana: str) -> None:
    """A route that there is not is told; the tier says where it comes from."""
    await counter.refused("policy explain", Reason.NOT_FOUND, user=ana, model="video-generator:wan2.2", route="nowhere")
    answer = await counter.do("policy explain", user=ana, model="video-generator:wan2.2", at="2026-01-17T12:00:00Z")
    assert answer["tier_because"].startswith("no subscription")
    assert (answer["rules"][0]["mode"], answer["passes"]) == ("enforce", True)


async def test_an_explanation_does_not_look_beyond_all_calendars(counter: Counter, ana: str) -> None:
    """A subscription without end is followed period by period, which holds up everybody: ten years are enough."""
    await counter.do("subscriptions subscribe", account=ana, plan="free-forever")
    asked = {"user": ana, "model": "video-generator:wan2.2"}
    for at in ("2036-02-01", "9999-12-31T23:59:59Z"):
        assert (await counter.refused("policy explain", Reason.INVALID_REQUEST, **asked, at=at)).fields["field"] == "at"
    told = await counter.do("policy explain", **asked, at="2036-01-01")
    assert told["tier_because"].startswith("the plan free-forever, active until 2036-01-15")

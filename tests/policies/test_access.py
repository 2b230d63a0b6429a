"""Who may use what: the ladder, the rules, and a second opinion on both.

The traps are those of Casbin: it stops following roles after nine hops, lets a user named like a role have its rights,
keeps every name that it is asked about, and allows everything to everybody when its policy is empty.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from decimal import Decimal
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.document import PolicyFile
from policies.fitting import verdict
from policies.patterns import matches
from policies.proof import by_authority
from policies.rulebook import Rulebook, compile_rulebook
from policies.terms import AccountKind, AccountType, Credential, Model, Tier
from tests.policies.samples import LADDER, LAW, TIERS, allowed, caller, catalogue, compiled, model, situation

ALLOW_ALL = "{id: all, allow: use}"


# The ladder.


@LAW
@given(st.integers(1, 12), st.data())
def test_a_tier_reaches_its_own_rung_and_all_below(height: int, data: st.DataObject) -> None:
    """For a ladder of any height, also of more than nine rungs: allowed if and only if rank(model) <= rank(caller)."""
    tiers = [f"t{rung}" for rung in range(height)]
    names = data.draw(st.permutations(tiers))
    rulebook = compiled(f"tiers: [{', '.join(names)}]", catalogue(*(model(f"app:{tier}", tier) for tier in tiers)))
    for mine, its in product(names, repeat=2):
        assert allowed(rulebook, caller(mine), f"app:{its}") == (names.index(its) <= names.index(mine))


def test_the_highest_ladder_has_no_rung_out_of_reach() -> None:
    """Fifty tiers, the most that a policy may have: the last one reaches the first."""
    tiers = [f"t{rung}" for rung in range(50)]
    rulebook = compiled(f"tiers: [{', '.join(tiers)}]", catalogue(model("app:first", "t0"), model("app:last", "t49")))
    assert allowed(rulebook, caller("t49"), "app:first")
    assert not allowed(rulebook, caller("t48"), "app:last")


@pytest.mark.parametrize(("tier", "passing"), [("free", "free"), ("basic", "free basic"), ("pro", "free basic pro")])
def test_the_default_ladder(tier: str, passing: str) -> None:
    """free < basic < pro < enterprise, and pay-as-you-go stands on the first rung."""
    rulebook = compiled("")
    reached = {model.tier for model in LADDER.models.values() if allowed(rulebook, caller(tier), model.key)}
    assert reached == set(passing.split())
    assert allowed(rulebook, caller(), "video:wan2.2")
    assert not allowed(rulebook, caller(), "video:veo2")


def test_payg_may_stand_higher() -> None:
    """`payg: {tier: pro}` lets accounts without a subscription reach the pro tier, and no further."""
    rulebook = compiled("payg: {tier: pro}")
    assert allowed(rulebook, caller(), "video:kling-2.5")
    assert not allowed(rulebook, caller(), "video:veo3")


# Rules, one field at a time.


def _allowing(condition: str) -> Rulebook:
    return compiled(f"rules: [{{id: a, allow: use, {condition}}}]")


def test_exact_tiers_do_not_include_those_below() -> None:
    """`tier: [free, pro]` is about these two; `at_least` is about all from one upwards."""
    exact, least = _allowing("who: {tier: [free, pro]}"), _allowing("who: {tier: {at_least: basic}}")
    assert [tier for tier in TIERS if allowed(exact, caller(tier), "poster:inpaint")] == ["free", "pro"]
    assert [tier for tier in TIERS if allowed(least, caller(tier), "poster:inpaint")] == ["basic", "pro", "enterprise"]


def test_a_deny_overrides_every_allow() -> None:
    """One rule that denies is enough, in whichever order the rules stand."""
    for rules in (
        f"{ALLOW_ALL}, {{id: closed, deny: use, app: video}}",
        f"{{id: closed, deny: use, app: video}}, {ALLOW_ALL}",
    ):
        rulebook = compiled(f"rules: [{rules}]")
        assert not allowed(rulebook, caller("enterprise"), "video:wan2.2")
        assert allowed(rulebook, caller(), "poster:inpaint")


def test_not_turns_a_condition_round() -> None:
    """`not` denies those who lack the tag; with several fields it spares only who fits all of them."""
    beta = compiled(f"rules: [{ALLOW_ALL}, {{id: b, deny: use, who: {{not: {{tag: tester}}}}, model: {{beta: true}}}}]")
    assert allowed(beta, caller(tags=["tester"]), "video:kling-2.5")
    assert not allowed(beta, caller(tags=["other"]), "video:kling-2.5")
    assert allowed(beta, caller(), "video:veo2")
    both = compiled(f"rules: [{ALLOW_ALL}, {{id: b, deny: use, who: {{not: {{tag: tester, tier: pro}}}}}}]")
    passing = [
        (tier, tags)
        for tier in TIERS
        for tags in ("", "tester")
        if allowed(both, caller(tier, tags=[tags]), "video:veo2")
    ]
    assert passing == [("pro", "tester")]


def test_the_fields_of_a_rule_are_joined_by_and() -> None:
    """A rule about a tag and a credential is about callers who have both, its names are alternatives."""
    rulebook = _allowing("who: {tag: [partner, staff], credential: api_key}")
    for tags, credential in product((["partner"], ["staff"], ["other"], []), Credential):
        fits = credential is Credential.API_KEY and bool({"partner", "staff"} & set(tags))
        assert allowed(rulebook, caller(tags=tags, credential=credential), "poster:inpaint") == fits


def test_account_types() -> None:
    """A subscriber is no pay-as-you-go account, and the other way round."""
    payg, subscription = _allowing("who: {account_type: payg}"), _allowing("who: {account_type: subscription}")
    assert allowed(payg, caller(), "poster:inpaint")
    assert not allowed(payg, caller("free"), "poster:inpaint")
    assert allowed(subscription, caller("free"), "poster:inpaint")
    assert not allowed(subscription, caller(), "poster:inpaint")


def test_single_users() -> None:
    """A rule may name users, by their whole id."""
    rulebook = _allowing("who: {user: [ann@example.com, 'google-oauth2:1']}")
    assert allowed(rulebook, caller(user="ann@example.com"), "poster:inpaint")
    assert allowed(rulebook, caller(user="google-oauth2:1"), "poster:inpaint")
    assert not allowed(rulebook, caller(user="ann@example.co"), "poster:inpaint")


@pytest.mark.parametrize(
    ("condition", "models"),
    [
        ("app: poster", "poster:inpaint"),
        ("model: 'video:veo*'", "video:veo2 video:veo3"),
        ("model: 'video:veo?'", "video:veo2 video:veo3"),
        ("model: ['video:wan2.2', 'poster:*']", "video:wan2.2 poster:inpaint"),
        ("app: poster, model: '*:*'", "poster:inpaint"),
        ("model: {beta: true}", "video:kling-2.5"),
        ("model: {tier: [free, pro]}", "video:wan2.2 video:kling-2.5 poster:inpaint"),
        ("model: {provider: acme}", "video:wan2.2 poster:inpaint"),
        ("model: {provider: edenai, beta: false}", "video:veo2 video:veo3"),
        ("model: {capability: supportsAudio}", "video:veo3"),
        ("model: {capability: [supportsAudio, maxResolution]}", "video:veo3 poster:inpaint"),
    ],
)
def test_models_are_chosen_by_name_or_by_what_they_are(condition: str, models: str) -> None:
    """App, pattern, tier, provider, beta and capability select; several attributes have to fit together."""
    rulebook = _allowing(condition)
    assert {key for key in LADDER.models if allowed(rulebook, caller(), key)} == set(models.split())


@pytest.mark.parametrize(
    ("value", "has"), [(True, True), ("4K", True), (0, True), ("", True), ([], True), (False, False), (None, False)]
)
def test_a_capability_is_had_unless_it_is_false_or_null(value: object, has: bool) -> None:
    """A guidance scale of 0 is a capability like any other."""
    things = catalogue(model("app:x", capabilities={"scale": value}))
    rulebook = compiled("rules: [{id: a, allow: use, model: {capability: scale}}]", things)
    assert allowed(rulebook, caller(), "app:x") == has


# Casbin's traps.


@pytest.mark.parametrize(
    "model_id", ["llama3:8b", "gpt-4.1", "meta/llama-3.1", "claude-v1:0", "a+b$", "r.tier", "p.what"]
)
def test_model_ids_of_any_spelling_are_only_themselves(model_id: str) -> None:
    """Ids with `:`, `.` and `/`, or that look like parts of a matcher, are granted alone."""
    others = ["llama3:8B", "llama3-XL", "gpt-4x1", "meta_llama-3.1", "claude-v1ANYTHING", "aab", "free", "rxtier"]
    things = catalogue(*(model(f"app:{name}") for name in (model_id, *others)))
    rulebook = compiled(f"rules: [{{id: a, allow: use, model: 'app:{model_id}'}}]", things)
    assert [key for key in things.models if allowed(rulebook, caller(), key)] == [f"app:{model_id}"]


@pytest.mark.parametrize(
    "name", ["enterprise", "tier:enterprise", "least:enterprise", "tier=enterprise", "x\ntier=enterprise", "x\ntag=vip"]
)
def test_a_user_named_like_a_tier_is_only_a_user(name: str) -> None:
    """No name of a user, tag or line break in either gives the rights of a tier or of another trait."""
    rulebook = compiled(
        "rules: [{id: a, allow: use, who: {tier: at-least-model}}, {id: b, allow: use, who: {tag: vip}},"
        " {id: c, deny: use, who: {not: {tier: [free, enterprise]}}}]"
    )
    for who in (caller(user=name), caller(tags=[name])):
        assert not allowed(rulebook, who, "video:veo3")


def test_names_that_were_never_seen_do_not_stay_in_memory() -> None:
    """Ten thousand users with a tag each, asking once, leave nothing behind."""
    rulebook = compiled(
        "rules: [{id: a, allow: use, who: {tier: at-least-model}}, {id: b, deny: use, who: {user: eve}}]"
    )
    allowed(rulebook, caller("pro", user="first"), "video:veo2")
    tracemalloc.start()
    for number in range(10_000):
        assert allowed(rulebook, caller("pro", user=f"user-{number}", tags=[f"tag-{number}"]), "video:veo2")
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 100_000


def test_a_decision_names_its_rule() -> None:
    """The rule that allows, the rule that denies, or none when nothing allows."""
    rulebook = compiled(
        "rules: [{id: ladder, allow: use, who: {tier: at-least-model}}, {id: closed, deny: use, model: {beta: true}}]"
    )
    verdicts = {key: verdict(rulebook, situation(rulebook, caller("pro"), key)) for key in LADDER.models}
    assert (verdicts["video:veo2"].allowed, verdicts["video:veo2"].rule) == (True, "ladder")
    assert (verdicts["video:kling-2.5"].allowed, verdicts["video:kling-2.5"].rule) == (False, "closed")
    assert (verdicts["video:veo3"].allowed, verdicts["video:veo3"].rule) == (False, None)


# A second opinion.

_tier_names = st.lists(st.sampled_from(TIERS), min_size=1, max_size=3, unique=True)
_plain_who = st.fixed_dictionaries(
    {},
    optional={
        "tier": st.one_of(_tier_names, st.builds(lambda tier: {"at_least": tier}, st.sampled_from(TIERS))),
        "account_type": st.lists(st.sampled_from(["payg", "subscription"]), min_size=1, unique=True),
        "tag": st.lists(st.sampled_from(["red", "blue"]), min_size=1, unique=True),
        "user": st.lists(st.sampled_from(["ann", "ben"]), min_size=1, unique=True),
        "credential": st.lists(st.sampled_from(["jwt", "api_key"]), min_size=1, unique=True),
        "role": st.lists(st.sampled_from(["editor", "viewer"]), min_size=1, unique=True),
        "team": st.lists(st.sampled_from(["1", "2"]), min_size=1, unique=True),
    },
)
_who = st.builds(
    lambda plain, relation, refused: plain | relation | ({"not": refused} if refused else {}),
    _plain_who,
    st.sampled_from([{}, {}, {"tier": ["at-least-model"]}, {"tier": ["at-least-model", "free"]}]),
    st.one_of(st.none(), _plain_who),
)
_attributes = st.fixed_dictionaries(
    {},
    optional={
        "tier": _tier_names,
        "provider": st.just(["edenai"]),
        "beta": st.booleans(),
        "capability": st.sampled_from([["supportsAudio"], ["silent", "maxResolution"]]),
    },
)
_models = st.one_of(
    _attributes, st.lists(st.sampled_from(["video:*", "*:veo?", "poster:inpaint", "*"]), min_size=1, unique=True)
)
_CONDITIONS: dict[str, Callable[[int | None], bool | None]] = {
    "units.length > 10": lambda length: None if length is None else length > 10,
    "units.length <= 3 or time.hour < 6": lambda length: None if length is None else length <= 3,
    "time.hour == 12": lambda length: True,
    "not (units.length == 5)": lambda length: None if length is None else length != 5,
}
"""Conditions with what they are at noon for a request of some length, or of none."""

_rule = st.fixed_dictionaries(
    {"effect": st.sampled_from(["allow", "deny"])},
    optional={
        "who": _who,
        "model": _models,
        "app": st.sampled_from([["video"], ["poster", "video"]]),
        "action": st.sampled_from([["make"], ["make", "mend"]]),
        "route": st.sampled_from([["front"], ["back", "front"]]),
        "when": st.sampled_from(list(_CONDITIONS)),
        "mode": st.sampled_from(["enforce", "enforce", "warn"]),
    },
)
_callers = st.builds(
    caller,
    st.one_of(st.none(), st.sampled_from(TIERS)),
    user=st.sampled_from(["ann", "ben", "eve"]),
    tags=st.lists(st.sampled_from(["red", "blue", "green"]), unique=True),
    credential=st.sampled_from(list(Credential)),
    roles=st.lists(st.sampled_from(["editor", "admin"]), unique=True),
    team=st.booleans(),
)
_occasions = st.tuples(st.sampled_from(["make", "mend", "else"]), st.sampled_from(["front", "back", "else"]))
_lengths = st.one_of(st.none(), st.integers(0, 20))


def _fits(who: dict[str, Any], tier: str, facts: dict[str, set[str]], its: Model) -> bool:
    wanted = who.get("tier")
    if isinstance(wanted, dict):
        wanted = TIERS[TIERS.index(wanted["at_least"]) :]
    within = TIERS.index(its.tier) <= TIERS.index(tier)
    fits = wanted is None or tier in wanted or ("at-least-model" in wanted and within)
    fits = fits and all(facts[field] & set(names) for field, names in who.items() if field in facts)
    return fits and not ("not" in who and _fits(who["not"], tier, facts, its))


def _about(rule: dict[str, Any], its: Model) -> bool:
    wanted = rule.get("model", {})
    if isinstance(wanted, list):
        fits = any(matches(its.key, pattern) for pattern in wanted)
    else:
        fits = all(getattr(its, field) in wanted[field] for field in ("tier", "provider") if field in wanted)
        fits = fits and wanted.get("beta", its.beta) == its.beta
        had = {name for name, value in its.capabilities.items() if value not in (False, None)}
        fits = fits and ("capability" not in wanted or bool(had & set(wanted["capability"])))
    return fits and its.app in rule.get("app", [its.app])


def _holds(rule: dict[str, Any], length: int | None) -> bool:
    """What is unknown never lets anything through."""
    truth = _CONDITIONS[rule["when"]](length) if "when" in rule else True
    return rule["effect"] == "deny" if truth is None else truth


@LAW
@given(st.lists(_rule, max_size=6), _callers, _occasions, _lengths)
def test_decisions_agree_with_casbin_and_with_a_second_opinion(
    rules: list[dict[str, Any]], who: Any, occasion: tuple[str, str], length: int | None
) -> None:
    """For random rules, callers, models and requests, the table, Casbin and the plain reading of the rules agree: some
    rule allows and none denies, and the rule that is named is the first of those.
    """
    rules = [*rules, {"effect": "allow", "who": {"tag": ["red"]}}]
    written = [{k: v for k, v in rule.items() if k != "effect"} | {rule["effect"]: "use"} for rule in rules]
    document = {"version": 1, "rules": [rule | {"id": f"r{index}"} for index, rule in enumerate(written)]}
    rulebook = compile_rulebook([("main.yaml", PolicyFile.model_validate(document))], LADDER)
    assert isinstance(rulebook, Rulebook)
    tier = who.account.tier(Tier("free"))
    facts = {
        "account_type": {AccountType.SUBSCRIPTION if who.account.plan else AccountType.PAYG},
        "tag": set(who.account.tags),
        "role": set(who.roles),
        "team": {str(who.account.account_id)} if who.account.kind is AccountKind.TEAM else set(),
        "user": {who.user_id},
        "credential": {who.credential},
    }
    for its in LADDER.models.values():
        fitting = {
            effect: [
                f"r{index}"
                for index, rule in enumerate(rules)
                if rule["effect"] == effect
                and rule.get("mode", "enforce") == "enforce"
                and _about(rule, its)
                and _fits(rule.get("who", {}), tier, facts, its)
                and occasion[0] in rule.get("action", [occasion[0]])
                and occasion[1] in rule.get("route", [occasion[1]])
                and _holds(rule, length)
            ]
            for effect in ("allow", "deny")
        }
        units = {} if length is None else {"length": Decimal(length)}
        call = situation(rulebook, who, its.key, units, occasion)
        decided = verdict(rulebook, call)
        assert decided.allowed == (bool(fitting["allow"]) and not fitting["deny"])
        assert decided.rule == next(iter(fitting["deny"] or fitting["allow"]), None)
        # Casbin names another one of the rules that allow, where there are several.
        authority = by_authority(rulebook, call)
        assert authority.allowed == decided.allowed
        assert authority.allowed or authority.rule == decided.rule
        assert authority.rule is None or authority.rule in fitting["allow" if decided.allowed else "deny"]

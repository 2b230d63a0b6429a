"""What is doubtful: entries about no call, conditions that say nothing, rules in each other's shadow."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.document import PolicyFile
from policies.rulebook import Rulebook, compile_rulebook
from policies.terms import Credential, MeteredRoute, UnitRange
from tests.policies.samples import LADDER, LAW, TIERS, allowed, caller, policy

ROUTES = (
    MeteredRoute("video", "make", "video", {"seconds": UnitRange(Decimal(1), Decimal(60))}),
    MeteredRoute("poster", "paint", "poster", {"pixels": UnitRange(Decimal(0), Decimal(100), optional=True)}),
)
ALL = "{id: all, allow: use}"
NEVER = "the condition can never be true"


def doubts(text: str) -> list[tuple[tuple[str | int, ...], str, str]]:
    rulebook = compile_rulebook([policy(text)], LADDER, ROUTES)
    assert isinstance(rulebook, Rulebook), rulebook
    return [(doubt.path, doubt.code, doubt.message) for doubt in rulebook.doubts]


@pytest.mark.parametrize(
    ("rule", "where", "code", "message"),
    [
        ("{id: r, deny: use, app: video, when: units.seconds > 60}", "when", "never-true", NEVER),
        ("{id: r, deny: use, when: time.hour > 23}", "when", "never-true", NEVER),
        ("{id: r, deny: use, app: video, when: model.tier == 'silver'}", "when", "never-true", NEVER),
        (
            "{id: r, deny: use, app: video, when: units.seconds >= 1}",
            "when",
            "always-true",
            "the condition is true of every request; leave it out",
        ),
        (
            "{id: r, deny: use, app: poster, when: units.pixels > 9}",
            "when",
            "optional-unit",
            "requests of route 'poster' may leave out 'pixels'; then the rule denies them",
        ),
        (
            "{id: r, deny: use, app: video, route: poster}",
            "route",
            "unreachable",
            "no metered route has this, and leads to the models of the entry",
        ),
        (
            "{id: r, deny: use, who: {account_type: payg, tier: pro}}",
            ("who", "tier"),
            "nobody",
            "this fits nobody: pay-as-you-go accounts are of the tier 'free'",
        ),
        (
            "{id: r, deny: use, who: {tag: [a, b], credential: jwt, not: {tag: [a, b, c]}}}",
            ("who", "not"),
            "nobody",
            "this fits nobody: `not` takes away all that the rest of `who` asks for",
        ),
    ],
)
def test_an_entry_about_no_call_is_doubtful(rule: str, where: Any, code: str, message: str) -> None:
    """Impossible numbers, times, routes and callers, told where they stand."""
    path = ("rules", 1, *((where,) if isinstance(where, str) else where))
    assert doubts(f"rules: [{ALL}, {rule}]") == [(path, code, message)]


@pytest.mark.parametrize(
    ("rules", "index", "code", "message"),
    [
        (
            "{id: p, allow: use, app: poster}, {id: one, allow: use, app: video}, {id: closed, deny: use, app: video}",
            1,
            "shadowed",
            "allows nothing: rule 'closed' denies all of its calls",
        ),
        (
            f"{ALL}, {{id: one, allow: use, who: {{tag: x}}}}",
            1,
            "redundant",
            "rule 'all' allows all of its calls already",
        ),
        (
            "{id: one, deny: use, model: 'video:veo2'}, {id: two, deny: use, app: video}, {id: all, allow: use}",
            0,
            "redundant",
            "rule 'two' denies all of its calls already",
        ),
    ],
)
def test_a_rule_that_makes_no_difference_is_doubtful(rules: str, index: int, code: str, message: str) -> None:
    """A denial that is wider than a grant, and a second rule to the same effect."""
    assert ((("rules", index, "id"), code, message)) in doubts(f"rules: [{rules}]")


@pytest.mark.parametrize(
    "rules",
    [
        f"{ALL}, {{id: d, deny: use, app: video, when: units.seconds > 10}}",
        f"{ALL}, {{id: d, deny: use, app: video, mode: audit}}, {{id: e, deny: use, model: 'video:veo2'}}",
        "{id: ladder, allow: use, who: {tier: at-least-model}}, {id: b, allow: use, who: {tag: x}}",
        f"{ALL}, {{id: d, deny: use, who: {{tag: x}}}}, {{id: e, deny: use, who: {{tag: [x, y]}}, app: video}}",
        f"{ALL}, {{id: d, deny: use, who: {{account_type: payg}}}}",
    ],
)
def test_an_ordinary_policy_is_not_doubtful(rules: str) -> None:
    """What may make a difference is left alone."""
    assert doubts(f"rules: [{rules}]") == []


_who = st.fixed_dictionaries(
    {},
    optional={
        "tier": st.sampled_from([["free"], ["free", "pro"], ["at-least-model"], {"at_least": "basic"}]),
        "tag": st.sampled_from([["red"], ["red", "blue"]]),
        "credential": st.sampled_from([["jwt"], ["api_key"]]),
        "not": st.sampled_from([{"tag": ["red"]}, {"tier": ["free"]}]),
    },
)
_rule = st.fixed_dictionaries(
    {"effect": st.sampled_from(["allow", "deny"])},
    optional={"who": _who, "model": st.sampled_from([["video:*"], ["video:veo?"], {"tier": ["pro"]}])},
)


@LAW
@given(st.lists(_rule, min_size=1, max_size=4))
def test_a_rule_that_makes_no_difference_may_be_left_out(rules: list[dict[str, Any]]) -> None:
    """For random policies: without the first rule that is shadowed or redundant, every decision is the same."""
    written = [{"id": "base", "allow": "use", "who": {"tag": ["red"]}}]
    written += [
        {"id": f"r{n}", rule["effect"]: "use", **{k: v for k, v in rule.items() if k != "effect"}}
        for n, rule in enumerate(rules)
    ]
    before = _compiled(written)
    idle = [doubt.path[1] for doubt in before.doubts if doubt.code in ("shadowed", "redundant", "nobody")]
    if not idle or len(written) == 1:
        return
    left = [rule for index, rule in enumerate(written) if index != idle[0]]
    if not any("allow" in rule for rule in left):
        return
    after = _compiled(left)
    for tier in (None, *TIERS):
        for tags in ((), ("red",), ("blue",), ("red", "blue")):
            for credential in Credential:
                who = caller(tier, tags=tags, credential=credential)
                for key in LADDER.models:
                    assert allowed(before, who, key) == allowed(after, who, key)


def _compiled(rules: list[dict[str, Any]]) -> Rulebook:
    document = PolicyFile.model_validate({"version": 1, "rules": rules})
    rulebook = compile_rulebook([("main.yaml", document)], LADDER, ROUTES)
    assert isinstance(rulebook, Rulebook), rulebook
    return rulebook

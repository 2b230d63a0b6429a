"""Compiling a policy: everything that is wrong with it at once and in its place, or a rulebook with a revision."""

from __future__ import annotations

import pytest

from policies.access import Authority
from policies.checks import Problem
from policies.refusals import Refusal
from policies.rulebook import DEFAULT_TIERS, Rulebook, compile_rulebook
from policies.terms import Tier
from tests.policies.samples import LADDER, allowed, caller, catalogue, compiled, decide, model, plan, policy, problems


def _only(text: str) -> Problem:
    found = problems(text)
    assert len(found) == 1, found
    return found[0]


@pytest.mark.parametrize(
    ("text", "path", "code", "message"),
    [
        (
            "rules: [{id: a, allow: use, who: {tier: [free, por]}}]",
            ("rules", 0, "who", "tier", 1),
            "unknown-tier",
            "unknown tier 'por'",
        ),
        (
            "rules: [{id: a, allow: use, who: {tier: {at_least: por}}}]",
            ("rules", 0, "who", "tier", "at_least"),
            "unknown-tier",
            "unknown tier 'por'",
        ),
        (
            "rules: [{id: a, allow: use, who: {not: {tier: por}}}]",
            ("rules", 0, "who", "not", "tier", 0),
            "unknown-tier",
            "unknown tier 'por'",
        ),
        (
            "rules: [{id: a, allow: use}, {id: b, deny: use, model: 'video:veo9'}]",
            ("rules", 1, "model", 0),
            "unknown-model",
            "unknown model 'video:veo9'",
        ),
        (
            "rules: [{id: a, allow: use, model: ['video:*', 'audio:*']}]",
            ("rules", 0, "model", 1),
            "unknown-model",
            "no model of the catalogue fits 'audio:*'",
        ),
        (
            "rules: [{id: a, allow: use, app: [video, audio]}]",
            ("rules", 0, "app", 1),
            "unknown-app",
            "unknown app 'audio'",
        ),
        (
            "rules: [{id: a, allow: use, model: {tier: por}}]",
            ("rules", 0, "model", "tier", 0),
            "unknown-tier",
            "unknown tier 'por'",
        ),
        (
            "rules: [{id: a, allow: use, model: {provider: [acme, acne]}}]",
            ("rules", 0, "model", "provider", 1),
            "unknown-provider",
            "unknown provider 'acne'",
        ),
        (
            "rules: [{id: a, allow: use, model: {capability: telepathy}}]",
            ("rules", 0, "model", "capability", 0),
            "unknown-capability",
            "no model has the capability 'telepathy'",
        ),
        ("payg: {tier: por}", ("payg", "tier"), "unknown-tier", "unknown tier 'por'"),
        (
            "rules: [{id: a, allow: use}, {id: a, deny: use, app: video}]",
            ("rules", 1, "id"),
            "duplicate-rule",
            "rule id 'a' is used in main.yaml already; every rule has its own",
        ),
        (
            "rules: [{id: a, deny: use}]",
            ("rules",),
            "nothing-allowed",
            "no rule allows anything: add an `allow: use` rule",
        ),
        (
            "tiers: [free, basic, pro]",
            ("tiers",),
            "unknown-tier",
            "model video:veo3 is of tier 'enterprise', which `tiers` does not have",
        ),
    ],
)
def test_what_is_wrong_is_said_where_it_stands(text: str, path: tuple[str | int, ...], code: str, message: str) -> None:
    """Every kind of problem has a code, a sentence, and the path of keys to its place in the file."""
    problem = _only(text)
    assert (problem.file, problem.path, problem.code, problem.message) == ("main.yaml", path, code, message)


@pytest.mark.parametrize(
    ("text", "candidates"),
    [
        ("rules: [{id: a, allow: use, who: {tier: por}}]", (*DEFAULT_TIERS, "at-least-model")),
        ("rules: [{id: a, allow: use, who: {tier: {at_least: at-least-model}}}]", DEFAULT_TIERS),
        ("rules: [{id: a, allow: use, who: {not: {tier: por}}}]", DEFAULT_TIERS),
        ("rules: [{id: a, allow: use, app: vidoe}]", ("poster", "video")),
        ("payg: {tier: fre}", DEFAULT_TIERS),
    ],
)
def test_an_unknown_name_comes_with_those_that_could_stand_there(text: str, candidates: tuple[str, ...]) -> None:
    """Candidates for a "did you mean" are names that would be accepted in that place."""
    assert _only(text).candidates == candidates


def test_everything_is_said_at_once() -> None:
    """Problems of all files and of all rules come together, not one after the other."""
    files = [
        policy(
            "tiers: [free, basic, pro, enterprise]\npayg: {tier: gold}\nrules: [{id: a, allow: use, app: audio}]", "1"
        ),
        policy("tiers: [x]\nrules: [{id: a, allow: use, who: {tier: por}, model: 'y:*'}]", "2"),
    ]
    found = compile_rulebook(files, LADDER)
    assert isinstance(found, list)
    assert sorted((problem.file, problem.code) for problem in found) == [
        ("1", "unknown-app"),
        ("1", "unknown-tier"),
        ("2", "duplicate-rule"),
        ("2", "said-twice"),
        ("2", "unknown-model"),
        ("2", "unknown-tier"),
    ]


@pytest.mark.parametrize("key", ["tiers: [free, basic, pro, enterprise]", "payg: {tier: free}", "subscription: {}"])
def test_a_setting_is_said_in_one_file_only(key: str) -> None:
    """Two files that both say `tiers` would make the order of files decide."""
    found = compile_rulebook([policy(key, "1"), policy(key, "2")], LADDER)
    assert isinstance(found, list)
    assert [(problem.file, problem.path, problem.code) for problem in found] == [
        ("2", (key.partition(":")[0],), "said-twice")
    ]


def test_rules_of_several_files_are_one_policy() -> None:
    """A deny in one file overrides an allow in another."""
    files = [policy("rules: [{id: a, allow: use}]", "1"), policy("rules: [{id: b, deny: use, app: video}]", "2")]
    rulebook = compile_rulebook(files, LADDER)
    assert isinstance(rulebook, Rulebook)
    assert allowed(rulebook, caller("free"), "poster:inpaint")
    assert not allowed(rulebook, caller("enterprise"), "video:wan2.2")


@pytest.mark.parametrize("text", ["", "rules: []", "payg: {tier: free}"])
def test_without_rules_the_ladder_is_in_force(text: str) -> None:
    """No rules means the default rules, never that everything is allowed."""
    rulebook = compiled(text)
    assert allowed(rulebook, caller("pro"), "video:kling-2.5")
    assert not allowed(rulebook, caller("basic"), "video:kling-2.5")


def test_without_files_the_ladder_is_in_force() -> None:
    """The built-in policy: four tiers, pay-as-you-go at the first, quota only."""
    rulebook = compile_rulebook([], LADDER)
    assert isinstance(rulebook, Rulebook)
    assert (rulebook.tiers, rulebook.payg_tier, rulebook.overflow_to_credits) == (DEFAULT_TIERS, "free", False)
    assert not allowed(rulebook, caller(), "video:veo2")


def test_an_empty_policy_cannot_be_built() -> None:
    """Casbin allows everybody everything when it has no policy; here there is no such thing."""
    with pytest.raises(ValueError, match="cannot be put in force"):
        Authority([], (Tier("free"),), LADDER.models)


def test_the_plans_on_sale_are_on_the_ladder() -> None:
    """A plan of a tier that the policy lost would sell what nobody gets."""
    found = problems("tiers: [free, basic, pro, enterprise]", catalogue(*LADDER.models.values(), plans=(plan("gold"),)))
    assert [problem.message for problem in found] == [
        "plan gold-monthly is of tier 'gold', which `tiers` does not have"
    ]


def test_a_subscriber_of_a_lost_tier_is_refused_and_told() -> None:
    """A plan that is no longer on sale may be of a tier that is gone: below all others, with a way back up."""
    rulebook = compiled("", catalogue(*LADDER.models.values(), plans=(plan("gold", active=False),)))
    refusal = decide(rulebook, caller("gold"), "video:veo2")
    assert isinstance(refusal, Refusal)
    assert refusal.fields["requiredTier"] == "basic"
    assert rulebook.rank(Tier("gold")) < rulebook.rank(Tier("free"))


def test_the_revision_names_the_policy_and_the_catalogue() -> None:
    """Whatever a decision depends on changes the revision."""
    texts = [
        "",
        "payg: {tier: basic}",
        "subscription: {overflow: credits}",
        "rules: [{id: a, allow: use}]",
        "rules: [{id: b, allow: use}]",
        "rules: [{id: a, allow: use, who: {tier: free}}]",
        "rules: [{id: a, allow: use, who: {tier: {at_least: free}}}]",
        "rules: [{id: a, allow: use, who: {not: {tier: free}}}]",
        "rules: [{id: a, allow: use, model: {beta: false}}]",
        "rules: [{id: a, allow: use}, {id: c, deny: use, app: video}]",
        "rules: [{id: a, allow: use}, {id: c, deny: use, app: video, because: x}]",
    ]
    revisions = {compiled(text).revision for text in texts}
    revisions.add(compiled("", catalogue(*LADDER.models.values(), revision=2)).revision)
    assert len(revisions) == len(texts) + 1


def test_the_revision_is_the_same_everywhere() -> None:
    """The same policy has the same revision in another folder, under another name, and with other comments."""
    one = compile_rulebook([policy("payg: {tier: basic}", "/etc/farebox/a.yaml")], LADDER)
    two = compile_rulebook([policy("# PAYG\npayg:\n  tier: basic\n", "b.yaml")], LADDER)
    assert isinstance(one, Rulebook)
    assert isinstance(two, Rulebook)
    assert one.revision == two.revision


def test_two_choices_of_models_are_never_taken_for_one() -> None:
    """A pattern that is spelt like the condition on an app stays a pattern, and the condition a condition."""
    rulebook = compiled(
        "rules: [{id: all, allow: use}, {id: a, deny: use, app: video}, {id: b, deny: use, model: 'app=video'}]",
        catalogue(model("app=video"), model("video:y"), model("poster:z")),
    )
    assert not allowed(rulebook, caller(), "video:y")
    assert not allowed(rulebook, caller(), "app=video")
    assert allowed(rulebook, caller(), "poster:z")

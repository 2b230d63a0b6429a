"""What a changed policy would decide differently."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from config.documents import parse_document
from policies.document import PolicyFile
from policies.rulebook import Rulebook, compile_rulebook
from policies.terms import App, Catalogue, Model, ModelKey, Price, Tier
from proxy.operations.policy_diff import diff

NOW = datetime(2026, 1, 15, tzinfo=UTC)
CATALOGUE = Catalogue(
    revision=1,
    models={
        key: Model(ModelKey(key), "video", key[6:], key, "local", Tier(tier), Price(1), beta=beta)
        for key, tier, beta in (
            ("video:small", "free", False),
            ("video:large", "pro", False),
            ("video:new", "free", True),
        )
    },
    apps={"video": App("video", "Video", "", "", "", "", True, False, False, 1, "")},
    plans=(),
)
LADDER = "version: 1\nrules:\n  - {id: ladder, allow: use, who: {tier: at-least-model}}\n"


def _rulebook(text: str) -> Rulebook:
    compiled = compile_rulebook([("p.yaml", parse_document("p.yaml", text, PolicyFile)[0])], CATALOGUE)
    assert isinstance(compiled, Rulebook), compiled
    return compiled


def _flips(before: str, after: str) -> set[tuple[str, str, str, str]]:
    flips = [flip.as_json() for flip in diff(_rulebook(before), _rulebook(after), NOW)]
    return {(str(f["caller"]), str(f["model"]), str(f["before"]), str(f["after"])) for f in flips}


def test_the_same_policy_in_other_words_makes_no_difference() -> None:
    """Another rule with the same outcome is no difference."""
    assert _flips(LADDER, LADDER.replace("id: ladder", "id: other")) == set()


def test_a_new_rule_shows_whom_it_refuses() -> None:
    """Every tier of callers without the tag; with it nothing changes."""
    after = LADDER + "  - {id: beta, deny: use, who: {not: {tag: tester}}, model: {beta: true}}\n"
    flips = _flips(LADDER, after)
    assert {(caller, model, new) for caller, model, _, new in flips} == {
        (caller, "video:new", "deny")
        for caller in ("payg", *(f"subscriber of {tier}" for tier in ("free", "basic", "pro", "enterprise")))
    }


def test_a_raised_tier_of_payg_shows_what_it_opens() -> None:
    """Only for pay-as-you-go, and how it would be paid."""
    assert _flips(LADDER, LADDER + "payg: {tier: pro}\n") == {("payg", "video:large", "deny", "allow, by credits")}


def test_a_change_of_funding_is_a_difference() -> None:
    """Overflow to credits: allowed before and after, and paid otherwise."""
    flips = _flips(LADDER, LADDER + "subscription: {overflow: credits}\n")
    assert ("subscriber of pro", "video:large", "allow, by quota", "allow, by quota then credits") in flips
    assert not any(caller == "payg" for caller, *_ in flips)


@pytest.mark.parametrize(
    ("who", "caller"),
    [
        ("{tag: vip}", "payg, tag vip"),
        ("{user: ana}", "payg, user ana"),
        ("{credential: api_key}", "payg, by api_key"),
        ("{account_type: payg}", "payg"),
    ],
)
def test_every_trait_that_a_rule_mentions_is_tried(who: str, caller: str) -> None:
    """A rule about a tag, a user, a credential or an account type shows for callers who have it."""
    flips = _flips(LADDER, LADDER + f"  - {{id: extra, allow: use, who: {who}, model: 'video:large'}}\n")
    assert (caller, "video:large", "deny", "allow, by credits") in flips
    assert {model for _, model, _, _ in flips} == {"video:large"}


def test_a_ladder_with_other_tiers_is_compared() -> None:
    """A tier that only one of them has is the lowest in the other, and nothing breaks."""
    before = LADDER + "tiers: [free, basic, pro, enterprise]\n"
    after = LADDER + "tiers: [free, pro, gold]\n"
    flips = _flips(before, after)
    assert ("subscriber of enterprise", "video:large", "allow, by quota", "deny") in flips
    assert ("subscriber of gold", "video:large", "deny", "allow, by quota") in flips

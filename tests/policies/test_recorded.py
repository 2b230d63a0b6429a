"""Calls that were kept are decided again as they would have been, though their users are digests."""

from __future__ import annotations

from typing import Any

import pytest

from policies.callers import Caller
from policies.evaluate import Allow, Ask, evaluate
from policies.recorded import ask_of, caller_of, digest, kept_ask, kept_caller, users_named_in
from policies.refusals import Refusal
from policies.rulebook import Rulebook
from tests.policies.samples import NOW, caller, compiled

POLICIES = {
    "named": "rules: [{id: one, allow: use, who: {user: ana}}]",
    "negated": "rules: [{id: all, allow: use}, {id: shut, deny: use, who: {not: {user: [ana, ben]}}}]",
    "by condition": 'rules: [{id: one, allow: use, when: caller.user == "ana"}]',
    "by list": 'rules: [{id: all, allow: use}, {id: shut, deny: use, when: \'caller.user not in ["ana", "ben"]\'}]',
    "exempt": "rules: [{id: all, allow: use}]\nexemptions: [{id: house, who: {user: ben}, fair_use: 5/day}]",
    "limited": "rules: [{id: all, allow: use}]\nlimits: [{id: slow, who: {user: ben}, requests: 5/minute}]",
}
ASK = Ask("video:wan2.2", {}, "any", "any")


def again(who: Caller, rulebook: Rulebook, *, masked: bool) -> Any:
    kept = kept_caller(who, NOW, masked=masked)
    return told(evaluate(caller_of(kept, NOW, users_named_in(rulebook)), ask_of(kept_ask(ASK)), rulebook, NOW))


def told(decision: Allow | Refusal) -> Any:
    if isinstance(decision, Refusal):
        return decision.reason, dict(decision.fields)
    return decision.rule, decision.quote, decision.exempt, [entry.id for entry in decision.limits]


@pytest.mark.parametrize("name", list(POLICIES))
@pytest.mark.parametrize("user", ["ana", "ben", "cid"])
@pytest.mark.parametrize("masked", [True, False])
def test_a_masked_user_is_decided_like_a_plain_one(name: str, user: str, masked: bool) -> None:
    """Whom a policy names is found by the digest, in whatever place it names them; all others are nobody it names."""
    rulebook, who = compiled(POLICIES[name]), caller("basic", user=user)
    assert again(who, rulebook, masked=masked) == told(evaluate(who, ASK, rulebook, NOW))


def test_a_digest_is_no_name() -> None:
    """Who is called like the digest of somebody else is kept as a digest of that, and taken for nobody."""
    rulebook = compiled(POLICIES["named"])
    impostor = caller("basic", user=digest("ana"))
    assert again(impostor, rulebook, masked=True) == told(evaluate(impostor, ASK, rulebook, NOW))

"""What a policy file may say, and what is refused instead of being read kindly."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from config.findings import InvalidDocument
from policies.document import PolicyFile, Rule
from policies.scope import Who
from policies.terms import AccountType, Credential
from tests.policies.samples import policy


def _rule(text: str) -> Rule:
    return policy(f"rules: [{text}]")[1].rules[0]


def _refused(text: str) -> str:
    with pytest.raises(InvalidDocument) as caught:
        policy(text)
    return str(caught.value)


def test_one_name_may_stand_without_its_list() -> None:
    """`tag: beta` and `tag: [beta]` are the same rule."""
    one = _rule("{id: a, allow: use, app: x, model: 'x:*', who: {tag: beta, user: u, credential: jwt, tier: free}}")
    many = _rule(
        "{id: a, allow: use, app: [x], model: ['x:*'], who: {tag: [beta], user: [u], credential: [jwt], tier: [free]}}"
    )
    assert one == many
    assert one.who.credential == [Credential.JWT]


def test_account_types_are_those_that_there_are() -> None:
    """An account pays as it goes or has a subscription, and no third way."""
    assert _rule("{id: a, allow: use, who: {account_type: payg}}").who.account_type == [AccountType.PAYG]
    assert "expected 'payg' or 'subscription'" in _refused("rules: [{id: a, allow: use, who: {account_type: free}}]")


@pytest.mark.parametrize("effect", ["dney: use", "deny: uses", "allow: yes", "deny: []", "eft: allow"])
def test_a_mistyped_effect_is_an_error(effect: str) -> None:
    """Casbin takes any effect that it does not know for no effect at all."""
    _refused(f"rules: [{{id: a, {effect}}}]")


@pytest.mark.parametrize("effects", ["", "allow: use, deny: use, "])
def test_a_rule_has_exactly_one_effect(effects: str) -> None:
    """A rule that neither allows nor denies, or does both, is an error."""
    assert "exactly one of" in _refused(f"rules: [{{{effects}id: a}}]")


def test_only_a_refusal_says_because() -> None:
    """`because` is what a refused user reads; on an `allow` rule nobody ever would."""
    assert _rule("{id: a, deny: use, because: Not for you}").because == "Not for you"
    assert "`because`" in _refused("rules: [{id: a, allow: use, because: For you}]")


@pytest.mark.parametrize(
    "blank",
    [
        "rules: [{id: a, allow: use, who: {tag: }}]",
        "rules: [{id: a, allow: use, who: {tier: }}]",
        "rules: [{id: a, allow: use, who: {account_type: ~}}]",
        "rules: [{id: a, allow: use, who: {not: null}}]",
        "rules: [{id: a, allow: use, who: }]",
        "rules: [{id: a, allow: use, model: }]",
        "rules: [{id: a, allow: use, model: {beta: }}]",
        "rules: [{id: a, allow: use, app: }]",
        "rules: [{id: a, allow: use, deny: }]",
        "rules:",
        "tiers:",
        "payg:",
    ],
)
def test_a_key_without_a_value_is_an_error(blank: str) -> None:
    """`tag:` left blank must not become a rule for everybody."""
    assert "found nothing" in _refused(blank)


@pytest.mark.parametrize("field", ["tag", "user", "tier", "credential", "account_type"])
def test_an_empty_list_of_callers_is_an_error(field: str) -> None:
    """A rule about nobody is a mistake; where any name will do, the key is left out."""
    assert "found a list; " in _refused(f"rules: [{{id: a, allow: use, who: {{{field}: []}}}}]")


@pytest.mark.parametrize(
    "refused",
    [
        "{not: {}}",
        "{not: {not: {tag: x}}}",
        "{not: {tier: at-least-model}}",
        "{not: {tier: [free, at-least-model]}}",
    ],
)
def test_not_holds_something_plain(refused: str) -> None:
    """`not` refuses some callers: nobody, a double negation and a relation to the model are errors."""
    assert "`not`" in _refused(f"rules: [{{id: a, deny: use, who: {refused}}}]")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rules: [{id: a, allow: use, who: {teir: pro}}]", "unknown key 'teir'; did you mean 'tier'?"),
        ("rules: [{id: a, allow: use, acton: x}]", "unknown key 'acton'; did you mean 'action'?"),
        ("rules: [{id: a, allow: use, model: {beto: true}}]", "unknown key 'beto'; did you mean 'beta'?"),
        ("exemption: []", "unknown key 'exemption'; did you mean 'exemptions'?"),
        ("rules: [{id: a, allow: use, who: {tier: {at_laest: pro}}}]", "did you mean 'at_least'?"),
    ],
)
def test_unknown_keys_are_errors(text: str, message: str) -> None:
    """A key that nothing reads would be a rule that does not do what it says."""
    assert message in _refused(text)


@pytest.mark.parametrize(
    "text",
    [
        "rules: [{id: a, allow: use, who: {tier: no}}]",
        "rules: [{id: a, allow: use, who: {tag: [1]}}]",
        "rules: [{id: a, allow: use, who: {user: 1.5}}]",
        "rules: [{id: a, allow: use, model: {beta: 'true'}}]",
        "rules: [{id: a, allow: use, model: {beta: 1}}]",
        "rules: [{id: 1, allow: use}]",
        "payg: {tier: on}",
        "payg: free",
        "subscription: {overflow: credit}",
        "tiers: free",
        "tiers: []",
        "rules: {}",
    ],
)
def test_nothing_is_coerced(text: str) -> None:
    """`no`, numbers and bare texts are not silently turned into the name or the list that was meant."""
    _refused(text)


@pytest.mark.parametrize("name", ["'*'", "'a,b'", "'a|b'", "'a=b'", '"a\\nb"', "''", "'a(b)'", "'" + "x" * 101 + "'"])
def test_names_are_plain(name: str) -> None:
    """Names of tags, users and tiers have no character that Casbin's rows or conditions give a meaning."""
    _refused(f"rules: [{{id: a, allow: use, who: {{tag: {name}}}}}]")


@pytest.mark.parametrize("pattern", ["'a b'", "'a,b'", "'a;b'", "'a|b'", '"a\\tb"', "''", "'" + "*" * 201 + "'"])
def test_patterns_are_plain(pattern: str) -> None:
    """Patterns of models have no white space, no separators, and an end."""
    _refused(f"rules: [{{id: a, allow: use, model: {pattern}}}]")


@pytest.mark.parametrize("rule_id", ["A", "a b", "'-a'", "''", "a.b", "x" * 65])
def test_rule_ids_are_identifiers(rule_id: str) -> None:
    """Rule ids are shown to users and kept in records."""
    _refused(f"rules: [{{id: {rule_id}, allow: use}}]")


def test_a_ladder_has_each_tier_once() -> None:
    """A tier that stands on two rungs would have the rights of the higher one."""
    assert "the tier 'free' stands twice" in _refused("tiers: [free, basic, free]")


def test_at_least_model_is_no_tier() -> None:
    """A tier of this name could not be told from the relation to the model's tier."""
    assert "cannot be a tier" in _refused("tiers: [free, at-least-model]")


@pytest.mark.parametrize("version", [{}, {"version": 2}, {"version": "1"}, {"version": None}])
def test_the_version_is_said(version: dict[str, object]) -> None:
    """A file of another version is not guessed at."""
    with pytest.raises(ValidationError):
        PolicyFile.model_validate(version)


def test_every_field_may_be_left_out() -> None:
    """The smallest file says its version; the smallest rule its id and effect."""
    assert policy("")[1].rules == []
    assert _rule("{id: a, allow: use}").who == Who()

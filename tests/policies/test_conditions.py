"""Conditions of `when`: what they mean, what they cannot say, and what is known of them before any request."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.conditions import BadCondition, parse
from policies.truth import Facts, Truth, known
from tests.policies.samples import LAW

UNITS = frozenset({"seconds", "width", "height"})
FACTS: Facts = {
    "units.seconds": known(Decimal("12.5")),
    "units.width": known(Decimal(1920)),
    "time.hour": known(Decimal(23)),
    "time.weekday": known("sat"),
    "caller.tier": known("pro"),
    "caller.tags": frozenset({"staff", "beta"}),
    "model.beta": known(True),
}


def truth(text: str, facts: Facts = FACTS) -> Truth:
    return parse(text, UNITS).holds(facts)


def refused(text: str) -> BadCondition:
    with pytest.raises(BadCondition) as caught:
        parse(text, UNITS)
    return caught.value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("units.seconds > 12.4", True),
        ("units.seconds > 12.5", False),
        ("units.seconds >= 12.5 and units.seconds <= 12.5", True),
        ("10 < units.seconds < 13", True),
        ("10 < units.seconds < 12", False),
        ("units.seconds != 12.5", False),
        ("units.seconds * 2 == 25", True),
        ("units.seconds + -2.5 == 10", True),
        ("units.width - 1920 == 0", True),
        ("units.width in [1280, 1920]", True),
        ("units.width not in [1280, 1920]", False),
        ("time.hour >= 22 or time.hour < 6", True),
        ('time.weekday in ["sat", "sun"]', True),
        ('"staff" in caller.tags', True),
        ('"other" not in caller.tags', True),
        ('caller.tier == "pro" and not (time.hour == 3)', True),
        ("model.beta", True),
        ("model.beta == False", False),
        ("not model.beta", False),
        ("units.seconds > 1\n  and units.seconds < 20", True),
        ("units.seconds > 1\n  and units.seconds <= 12.5", True),
        ("units.width > 1\n  and 12.4 < units.seconds and units.seconds - 0.1 == 12.4", True),
        ("  15 > units.seconds", True),
        ("\n15 > units.seconds", True),
    ],
)
def test_a_condition_means_what_it_says(text: str, expected: bool) -> None:
    """Numbers are exact, comparisons chain as in Python, texts are in lists and among tags."""
    assert truth(text) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("units.height > 1", None),
        ("not (units.height > 1)", None),
        ("units.height > 1 and units.seconds > 99", False),
        ("units.height > 1 and units.seconds > 1", None),
        ("units.height > 1 or units.seconds > 1", True),
        ("units.height > 1 or units.seconds > 99", None),
        ("units.height * units.width > 1", None),
        ("units.height in [1, 2]", None),
        ("caller.user == 'ann'", None),
    ],
)
def test_what_a_request_leaves_out_is_unknown(text: str, expected: Truth) -> None:
    """An absent unit is neither large nor small; what is certain without it stays certain."""
    assert truth(text) is expected


@pytest.mark.parametrize(
    ("text", "message", "offset"),
    [
        ("units.second > 3", "unknown unit 'units.second'", 0),
        ("units.seconds > 3 and tme.hour < 3", "unknown name 'tme.hour'", 22),
        ("units.seconds > 'ten'", "a number cannot be compared with a text", 16),
        ("units.seconds", "expected a comparison, found a number", 0),
        ("caller.tier < 'pro'", "expected == or != between values that are a text", 14),
        ("caller.tags == 'staff'", "a set of texts cannot be compared with a text", 15),
        ("time.hour in 'abc'", 'expected a list such as ["sat", "sun"], or a text in caller.tags', 13),
        ("time.hour in []", "the list is empty", 13),
        ("time.weekday in ['sat', 3]", "a text cannot be compared with a number", 24),
        ("units.seconds >", "cannot be read: invalid syntax", 0),
        ("1 < 2", "the condition asks about nothing; leave `when` out for always", 0),
        ("é == 'é'", "unknown name 'é'", 0),
        ("'é' == caller.user and units.sconds > 1", "unknown unit 'units.sconds'", 23),
        ("units.seconds > 1" + "0" * 30, "expected a number of at most twenty digits", 16),
        ("  units.second > 3", "unknown unit 'units.second'", 2),
        ("\n units.seconds > 1 and\n tme.hour < 3", "unknown name 'tme.hour'", 25),
        ("  units.seconds > > 1", "cannot be read: invalid syntax", 18),
    ],
)
def test_a_mistake_is_told_where_it_is(text: str, message: str, offset: int) -> None:
    """Names, types and syntax are checked before any request comes."""
    error = refused(text)
    assert str(error).startswith(message)
    assert error.offset == offset


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('x') == 'a'",
        "().__class__ == 'a'",
        "caller.tags.__class__ == 'a'",
        "9 ** 9 ** 9 > units.seconds",
        "units.seconds / 0 > 1",
        "units.seconds % 2 == 1",
        "1 << 99 > units.seconds",
        "[x for x in [1]] == [1]",
        "(lambda: 1)() == 1",
        "(x := 1) == units.seconds",
        "f'{units.seconds}' == 'a'",
        "'a' * 99 == caller.tier",
        "b'a' == caller.tier",
        "units['seconds'] == 1",
        "units.seconds == 1 if True else False",
        "await x == 1",
        "units.seconds is 1",
        "None == caller.tier",
        "1j > units.seconds",
        "...",
        "not " * 25 + "model.beta",
        "(" * 90 + "units.seconds" + ")" * 90,
        "\0",
        "units.seconds == 1; import os",
    ],
)
def test_there_is_nothing_but_comparisons(text: str) -> None:
    """No calls, no attributes but the known ones, no powers, no loops: the work of a condition has its length as bound.

    Brackets are no work, so many of them are read like none.
    """
    try:
        condition = parse(text, UNITS)
    except BadCondition:
        return
    assert text.startswith("((")
    assert condition.names == {"units.seconds"} or not condition.names


def test_any_unit_will_do_where_routes_are_not_known() -> None:
    """Without settings at hand the names of units cannot be checked; all others are."""
    assert parse("units.anything > 1", None).units == {"anything"}
    with pytest.raises(BadCondition):
        parse("unit.anything > 1", None)


_numbers = st.integers(-20, 20).map(Decimal)
_terms = st.recursive(
    st.one_of(st.just("units.seconds"), st.just("units.width"), st.integers(0, 20).map(str)),
    lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from("+-*"), inner),
    max_leaves=4,
)
_comparisons = st.builds("{} {} {}".format, _terms, st.sampled_from(["<", "<=", "==", "!=", ">=", ">"]), _terms)
_texts = st.recursive(
    _comparisons,
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from(["and", "or"]), inner),
        st.builds("not ({})".format, inner),
    ),
    max_leaves=4,
).filter(lambda text: "units" in text)


@LAW
@given(_texts, _numbers, _numbers)
def test_conditions_are_what_python_makes_of_them(text: str, seconds: Decimal, width: Decimal) -> None:
    """For any condition on numbers that are known, Python's own answer."""
    expected = eval(text.replace("units.seconds", "a").replace("units.width", "b"), {"a": seconds, "b": width})
    assert truth(text, {"units.seconds": known(seconds), "units.width": known(width)}) is expected


@LAW
@given(_texts, _numbers, _numbers, st.integers(0, 9), st.integers(0, 9))
def test_what_is_certain_of_a_range_is_so_for_every_number_in_it(
    text: str, seconds: Decimal, width: Decimal, below: int, above: int
) -> None:
    """A condition that is true, or false, of a range is so of each number in the range."""
    ranges: Facts = {"units.seconds": (seconds - below, seconds + above), "units.width": (width - above, width + below)}
    certain = truth(text, ranges)
    assert certain in (None, truth(text, {"units.seconds": known(seconds), "units.width": known(width)}))

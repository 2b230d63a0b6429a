"""Values of which only a range may be known, and what can be said of them: true, false or unknown (Kleene's logic).

`conditions` builds the conditions of `when` from these functions. The same ones decide a call, whose values are known
or absent, and find out when a policy is loaded what a condition can be for every request there is.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from decimal import Context, Decimal, InvalidOperation, Overflow

Range = tuple[Decimal, Decimal]
"""A number that is known to lie between two, both included; a known number is both ends."""
Choice = frozenset[str] | frozenset[bool]
"""Texts or truths, one of which it is; a known one is alone."""
Value = Range | Choice | None
"""None is unknown."""
Facts = Mapping[str, Value]
"""What is known, by name: `units.duration_seconds`, `time.hour`. Tags are the one name that is a set of texts."""
Truth = bool | None

Evaluate = Callable[[Facts], Value]
Hold = Callable[[Facts], Truth]

# Sums and products of bounded units stay far below fifty digits; what does not is unknown, never an exception.
_ARITHMETIC = Context(prec=50, Emax=10_000, Emin=-10_000, traps=[InvalidOperation, Overflow])


def known(value: Decimal | str | bool) -> Value:
    """A value that is certain."""
    return (value, value) if isinstance(value, Decimal) else frozenset((value,))  # type: ignore[return-value]


def all_of(parts: list[Hold]) -> Hold:
    def holds(facts: Facts) -> Truth:
        truth: Truth = True
        for part in parts:
            held = part(facts)
            if held is False:
                return False
            truth = truth if held else None
        return truth

    return holds


def any_of(parts: list[Hold]) -> Hold:
    def holds(facts: Facts) -> Truth:
        truth: Truth = False
        for part in parts:
            held = part(facts)
            if held:
                return True
            truth = truth if held is False else None
        return truth

    return holds


def constantly(value: Value) -> Evaluate:
    return lambda facts: value


def equals(equal: Callable[[Value, Value], Truth], one: Evaluate, other: Evaluate) -> Hold:
    return lambda facts: equal(one(facts), other(facts))


def is_true(value: Value) -> Truth:
    return None if value is None or len(value) > 1 else True in value


def contains(many: Value, one: Value) -> Truth:
    return None if many is None or one is None or len(one) > 1 else one <= many  # type: ignore[operator]


def _numbers(compare: Callable[[Range, Range], Truth]) -> Callable[[Value, Value], Truth]:
    return lambda one, other: None if one is None or other is None else compare(one, other)  # type: ignore[arg-type]


def _less(one: Range, other: Range) -> Truth:
    return True if one[1] < other[0] else False if one[0] >= other[1] else None


def _at_most(one: Range, other: Range) -> Truth:
    return True if one[1] <= other[0] else False if one[0] > other[1] else None


def _equal_numbers(one: Range, other: Range) -> Truth:
    if one[1] < other[0] or other[1] < one[0]:
        return False
    return True if one[0] == one[1] == other[0] == other[1] else None


def _equal_choices(one: Value, other: Value) -> Truth:
    if one is None or other is None:
        return None
    if not one & other:  # type: ignore[operator]
        return False
    return True if len(one) == len(other) == 1 else None


def not_(truth: Truth) -> Truth:
    return None if truth is None else not truth


NUMBERS: Mapping[type[ast.cmpop], Callable[[Value, Value], Truth]] = {
    ast.Lt: _numbers(_less),
    ast.LtE: _numbers(_at_most),
    ast.Gt: _numbers(lambda one, other: _less(other, one)),
    ast.GtE: _numbers(lambda one, other: _at_most(other, one)),
    ast.Eq: _numbers(_equal_numbers),
    ast.NotEq: _numbers(lambda one, other: not_(_equal_numbers(one, other))),
}
CHOICES: Mapping[type[ast.cmpop], Callable[[Value, Value], Truth]] = {
    ast.Eq: _equal_choices,
    ast.NotEq: lambda one, other: not_(_equal_choices(one, other)),
}


def negated(value: Value) -> Value:
    return None if value is None else (-value[1], -value[0])  # type: ignore[index]


def _calculated(work: Callable[[Context, Decimal, Decimal], Decimal]) -> Callable[[Value, Value], Value]:
    """Each operation is monotonous in both numbers, so the ends of a range come from ends of ranges."""

    def calculate(one: Value, other: Value) -> Value:
        if one is None or other is None:
            return None
        try:
            ends = [work(_ARITHMETIC, a, b) for a in one for b in other]  # type: ignore[arg-type]
        except (InvalidOperation, Overflow):
            return None
        return min(ends), max(ends)

    return calculate


OPERATORS: Mapping[type[ast.operator], Callable[[Value, Value], Value]] = {
    ast.Add: _calculated(lambda context, a, b: context.add(a, b)),
    ast.Sub: _calculated(lambda context, a, b: context.subtract(a, b)),
    ast.Mult: _calculated(lambda context, a, b: context.multiply(a, b)),
}

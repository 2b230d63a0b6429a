"""The conditions of `when`: comparisons as Python writes them, checked when a policy is loaded, quick when it is asked.

    units.duration_seconds > 10 and caller.tier != "enterprise"
    time.hour >= 22 or time.hour < 6 or time.weekday in ["sat", "sun"]

A condition is true, false or unknown, since a request may leave a unit out. What is unknown never lets anything
through: who asks says which way that is. Values are ranges, so the same code that decides a call also finds out, when a
policy is loaded, that a condition can never be true of any request.

Kept libraries were weighed: `cel-python` takes 200 µs and checks no names, `common-expression-language` is quick but
takes unknown names and wrong types until they are met, `rule-engine` has types but loads `9**9**9**9`; none of them
knows of units that may be absent. So Python's own parser reads, and what is not on the short list below is refused:
no calls, no attributes but the known names, no powers; the work is bounded by the length of the text.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import NoReturn

from policies.truth import (
    CHOICES,
    NUMBERS,
    OPERATORS,
    Evaluate,
    Hold,
    all_of,
    any_of,
    constantly,
    contains,
    equals,
    is_true,
    known,
    negated,
    not_,
)

MAX_DEPTH = 20
"""Levels of brackets and operators: deeper conditions cannot be read by people."""

NUMBER, TEXT, TRUTH, TEXTS = "a number", "a text", "true or false", "a set of texts"

KINDS: Mapping[str, str] = {
    "time.hour": NUMBER,
    "time.minute": NUMBER,
    "time.weekday": TEXT,
    "time.day": NUMBER,
    "time.month": NUMBER,
    "caller.tier": TEXT,
    "caller.account_type": TEXT,
    "caller.credential": TEXT,
    "caller.user": TEXT,
    "caller.tags": TEXTS,
    "model.app": TEXT,
    "model.tier": TEXT,
    "model.provider": TEXT,
    "model.beta": TRUTH,
}
"""Every name but those of units, which are the ones that routes read."""

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

UNITS = "units."


class BadCondition(ValueError):
    """A text that is no condition. `offset` counts its characters up to what is wrong."""

    def __init__(self, message: str, offset: int, found: str = "", known: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.offset = offset
        self.found = found
        self.known = known


@dataclass(frozen=True, slots=True)
class When:
    """A condition that has been checked. `names` are those that it asks about, `texts` those that it compares with."""

    text: str
    names: frozenset[str]
    texts: frozenset[str]
    holds: Hold

    @property
    def units(self) -> frozenset[str]:
        return frozenset(name.removeprefix(UNITS) for name in self.names if name.startswith(UNITS))


def parse(text: str, units: frozenset[str] | None) -> When:
    """The condition of a text. `units` are the names that routes read; None takes any. Raises BadCondition."""
    line = text.replace("\n", " ")
    before = len(line) - len(line.lstrip(" "))
    line = line.strip(" ")
    try:
        with warnings.catch_warnings():
            # Python warns of comparisons such as `1 is 2`; they are refused below, in our words.
            warnings.simplefilter("ignore")
            tree = ast.parse(line, mode="eval").body
    except SyntaxError as error:
        raise BadCondition(f"cannot be read: {error.msg}", before + max((error.offset or 1) - 1, 0)) from None
    except (ValueError, RecursionError, MemoryError):
        raise BadCondition("cannot be read", 0) from None
    reader = _Reader(line, before, units)
    holds = reader.truth(tree, 0)
    if not reader.names:
        raise BadCondition("the condition asks about nothing; leave `when` out for always", 0)
    return When(text, frozenset(reader.names), frozenset(reader.texts), holds)


class _Reader:
    """Turns the parser's tree into functions, and refuses everything that is not a condition."""

    def __init__(self, line: str, before: int, units: frozenset[str] | None) -> None:
        """`line` is what the parser has read, `before` the characters of the text that it has not."""
        self._line = line
        self._before = before
        self._units = units
        self.names: set[str] = set()
        self.texts: set[str] = set()

    def _refuse(self, node: ast.AST, message: str, found: str = "", names: tuple[str, ...] = ()) -> NoReturn:
        # The parser counts in bytes of UTF-8.
        before = self._line.encode()[: getattr(node, "col_offset", 0)]
        raise BadCondition(message, self._before + len(before.decode("utf-8", "ignore")), found, names)

    def truth(self, node: ast.expr, depth: int) -> Hold:
        """A node that has to be true or false."""
        if depth > MAX_DEPTH:
            self._refuse(node, f"the condition has more than {MAX_DEPTH} levels")
        match node:
            case ast.BoolOp(op=ast.And()):
                return all_of([self.truth(part, depth + 1) for part in node.values])
            case ast.BoolOp():
                return any_of([self.truth(part, depth + 1) for part in node.values])
            case ast.UnaryOp(op=ast.Not()):
                inner = self.truth(node.operand, depth + 1)
                return lambda facts: not_(inner(facts))
            case ast.Compare():
                return self._comparison(node, depth)
        kind, value = self._value(node, depth)
        if kind != TRUTH:
            self._refuse(node, f"expected a comparison, found {kind}")
        return lambda facts: is_true(value(facts))

    def _comparison(self, node: ast.Compare, depth: int) -> Hold:
        """`a < b <= c` is `a < b and b <= c`, as everywhere in Python."""
        parts: list[Hold] = []
        left = node.left
        for op, right in zip(node.ops, node.comparators, strict=True):
            parts.append(self._pair(node, left, op, right, depth + 1))
            left = right
        return parts[0] if len(parts) == 1 else all_of(parts)

    def _pair(self, node: ast.Compare, left: ast.expr, op: ast.cmpop, right: ast.expr, depth: int) -> Hold:
        if isinstance(op, ast.In | ast.NotIn):
            held = self._membership(left, right, depth)
            if isinstance(op, ast.In):
                return held
            return lambda facts: not_(held(facts))
        (kind, one), (other_kind, other) = self._value(left, depth), self._value(right, depth)
        if kind != other_kind:
            self._refuse(right, f"{kind} cannot be compared with {other_kind}")
        if kind == TEXTS:
            self._refuse(node, f'ask whether a text is in {TEXTS}: "a" in caller.tags')
        compare = (NUMBERS if kind == NUMBER else CHOICES).get(type(op))
        if compare is None:
            words = "expected == or !=" if kind != NUMBER else "expected <, <=, ==, !=, >= or >"
            self._refuse(right, f"{words} between values that are {kind}")
        return lambda facts: compare(one(facts), other(facts))

    def _membership(self, left: ast.expr, right: ast.expr, depth: int) -> Hold:
        kind, one = self._value(left, depth)
        if isinstance(right, ast.List | ast.Tuple):
            items = [self._value(item, depth + 1) for item in right.elts]
            if not items:
                self._refuse(right, "the list is empty")
            for item, (other, _) in zip(right.elts, items, strict=True):
                if other != kind or kind == TEXTS:
                    self._refuse(item, f"{kind} cannot be compared with {other}")
            equal = (NUMBERS if kind == NUMBER else CHOICES)[ast.Eq]
            return any_of([equals(equal, one, value) for _, value in items])
        other, many = self._value(right, depth)
        if other != TEXTS or kind != TEXT:
            self._refuse(right, 'expected a list such as ["sat", "sun"], or a text in caller.tags')
        return lambda facts: contains(many(facts), one(facts))

    def _value(self, node: ast.expr, depth: int) -> tuple[str, Evaluate]:
        """A node that has to be a value, with its kind."""
        if depth > MAX_DEPTH:
            self._refuse(node, f"the condition has more than {MAX_DEPTH} levels")
        match node:
            case ast.Constant():
                return self._constant(node)
            case ast.Attribute() | ast.Name():
                return self._name(node)
            case ast.UnaryOp(op=ast.USub()):
                value = self._number(node.operand, depth + 1)
                return NUMBER, lambda facts: negated(value(facts))
            case ast.BinOp() if type(node.op) in OPERATORS:
                work = OPERATORS[type(node.op)]
                one, other = self._number(node.left, depth + 1), self._number(node.right, depth + 1)
                return NUMBER, lambda facts: work(one(facts), other(facts))
        self._refuse(node, "expected a number, a text in quotes, or a name such as units.duration_seconds")

    def _number(self, node: ast.expr, depth: int) -> Evaluate:
        kind, value = self._value(node, depth)
        if kind != NUMBER:
            self._refuse(node, f"expected a number, found {kind}")
        return value

    def _constant(self, node: ast.Constant) -> tuple[str, Evaluate]:
        value = node.value
        if isinstance(value, bool):
            return TRUTH, constantly(known(value))
        if isinstance(value, str):
            self.texts.add(value)
            return TEXT, constantly(known(value))
        if isinstance(value, int | float):
            # As it is written: a float would have lost digits.
            written = ast.get_source_segment(self._line, node) or str(value)
            try:
                number = Decimal(written)
            except InvalidOperation:
                number = Decimal(value)
            if number.is_finite() and number.adjusted() < 20:
                return NUMBER, constantly(known(number))
        self._refuse(node, "expected a number of at most twenty digits, a text in quotes, True or False")

    def _name(self, node: ast.Attribute | ast.Name) -> tuple[str, Evaluate]:
        name = ast.unparse(node)
        units = tuple(f"{UNITS}{unit}" for unit in sorted(self._units or ()))
        kind = KINDS.get(name)
        if kind is None and (
            name in units or (self._units is None and name.startswith(UNITS) and name.count(".") == 1)
        ):
            kind = NUMBER
        if kind is None:
            what = "unit" if name.startswith(UNITS) else "name"
            self._refuse(node, f"unknown {what} {name!r}", name, (*units, *KINDS))
        self.names.add(name)
        return kind, lambda facts: facts.get(name)

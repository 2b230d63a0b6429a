"""Conditions of policies: refused with a place in the text, or true exactly where Python says so."""

from __future__ import annotations

import ast
import warnings
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

from policies.conditions import BadCondition, parse
from policies.truth import Facts, Value, known
from tests.fuzz.inputs import Bytes

_UNITS = frozenset({"seconds", "width"})
_WORDS = rb"""units.seconds units.width time.hour time.weekday caller.tier caller.tags caller.user model.beta
and or not in == != < <= > >= + - * / ** % is ( ) [ ] , . ' " 'sat' "pro" "staff" True False None 12 1.5 1e3 0x1f 1_0
10j \ # ; if else lambda : := \N{DIGIT f'' b'' u'' '''"""
WORDS = [*_WORDS.split(), b" not in ", b"\n", b"\t", b"\0", "é".encode(), b" and ", b"units.seconds > 1 and "]
SEEDS = [
    b"\0\1\2units.seconds > 10 and caller.tier != 'enterprise'",
    b"\1\1\2 15 > units.seconds\n or time.weekday in ['sat', \"sun\"]",
    b'\4\3\2not ("staff" in caller.tags) and 0.1 <= units.width + units.seconds * 2 < 12.5',
    b"\4\0\0units.seconds == 0.1 or model.beta",
]
_NUMBERS = [Decimal(0), Decimal("12.5"), Decimal(-3), Decimal(10) ** 12, Decimal("0.1")]


def check(data: bytes) -> None:
    source = Bytes(data)
    numbers = [_NUMBERS[source.choice(len(_NUMBERS))] for _ in range(3)]
    text = source.rest().decode("utf-8", "replace")
    try:
        condition = parse(text, _UNITS)
    except BadCondition as error:
        assert 0 <= error.offset <= len(text) + 1
        assert str(error)
        return
    said = {
        "units": {"seconds": numbers[0], "width": numbers[1]},
        "time": {"hour": numbers[2], "minute": Decimal(5), "weekday": "sat", "day": Decimal(9), "month": Decimal(1)},
        "caller": {
            "tier": "pro",
            "account_type": "payg",
            "credential": "jwt",
            "user": "ann",
            "tags": {"staff", "beta"},
        },
        "model": {"app": "video", "tier": "pro", "provider": "acme", "beta": True},
    }
    facts: Facts = {f"{room}.{name}": _known(value) for room, values in said.items() for name, value in values.items()}
    held = condition.holds(facts)
    # Sums beyond fifty digits are unknown to us; Python counts on.
    assert held is None or held is _python(text, said)
    assert condition.holds({}) in (None, held), "what is certain of any request is certain of this one"


def _known(value: Any) -> Value:
    return frozenset(value) if isinstance(value, set) else known(value)


class _Exact(ast.NodeTransformer):
    """Numbers as they are written."""

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, bool | str):
            return node
        number = ast.Call(ast.Name("Decimal", ast.Load()), [ast.Constant(str(node.value))], [])
        return ast.copy_location(number, node)


def _python(text: str, said: dict[str, dict[str, Any]]) -> bool:
    """Python's own answer. Only what has no calls in it comes here."""
    names: dict[str, Any] = {room: SimpleNamespace(**values) for room, values in said.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(text.replace("\n", " ").strip(" "), mode="eval")
        code = compile(ast.fix_missing_locations(_Exact().visit(tree)), "when", "eval")
        result = eval(code, {"__builtins__": {}, "Decimal": Decimal}, names)
    assert isinstance(result, bool)
    return result

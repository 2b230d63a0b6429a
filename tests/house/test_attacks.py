"""Every known way to make two readers of one request disagree, to forge a credential or to bring a proxy down has an
id, and every id names a test.

The ids: F framing, H headers, S semantics, P paths, M models in bodies, J tokens, K keys and other credentials, A admin
and secrets, D abuse. A test names those that it tries in its docstring, its table or its own name.
"""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]

NUMBERS = {"F": 21, "H": 12, "S": 16, "P": 8, "M": 11, "J": 8, "K": 4, "A": 5, "D": 6}
IDS = {f"{letter}{number:02}" for letter, count in NUMBERS.items() for number in range(1, count + 1)}

_NAMED = re.compile(r"\b([FHSPMJKAD]\d\d)(?: to ([FHSPMJKAD]\d\d))?\b")
_IN_NAMES = re.compile(r"(?<=_)([fhspmjkad]\d\d)(?=_)")


def named() -> set[str]:
    """The ids that tests name; `P01 to P03` names three."""
    found: set[str] = set()
    for file in TESTS.rglob("test_*.py"):
        if file == Path(__file__):
            continue
        text = file.read_text("utf-8")
        found |= {name.upper() for name in _IN_NAMES.findall(text)}
        for first, last in _NAMED.findall(text):
            end = int(last[1:]) if last else int(first[1:])
            found |= {f"{first[0]}{number:02}" for number in range(int(first[1:]), end + 1)}
    return found


def test_every_id_names_a_test() -> None:
    """So that none of them is forgotten when what it is about changes."""
    assert IDS - named() == set()

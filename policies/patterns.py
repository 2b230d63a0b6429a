"""Patterns of model keys: the only matcher of names in policies.

`*` stands for any run of characters, `?` for one; everything else stands for itself, and the whole key must match.
Casbin's own matchers read `:`, `.` and `/` as syntax or are not anchored, so that `gpt-4.1` would match `gpt-4x1`.
"""

from __future__ import annotations

import re
from functools import lru_cache

MAX_PATTERN = 200
"""Characters in a pattern: the longest model ids of the field have about half of that."""


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    first, *others = ("".join(map(_one, part)) for part in pattern.split("*"))
    if not others:
        return re.compile(first, re.DOTALL)
    *middle, last = others
    # The first place where a part between two stars fits is as good as any later one: the atomic groups never try
    # another, so that no key and no pattern make this slow.
    return re.compile(first + "".join(f"(?>.*?{part})" for part in middle if part) + f".*{last}", re.DOTALL)


def _one(character: str) -> str:
    return "." if character == "?" else re.escape(character)


def matches(key: str, pattern: str) -> bool:
    """Whether the whole `key` fits `pattern`. Nothing matches an empty key or an empty pattern."""
    return bool(key) and bool(pattern) and _compiled(pattern).fullmatch(key) is not None


def is_literal(pattern: str) -> bool:
    """Whether the pattern names exactly one key."""
    return "*" not in pattern and "?" not in pattern

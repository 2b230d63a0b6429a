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
    # Runs of stars are one star: backtracking stays bounded by the number of stars that mean something.
    parts = (".*" if part.startswith("*") else "." if part == "?" else re.escape(part) for part in _PARTS(pattern))
    return re.compile("".join(parts), re.DOTALL)


_PARTS = re.compile(r"\*+|\?|[^*?]+").findall


def matches(key: str, pattern: str) -> bool:
    """Whether the whole `key` fits `pattern`. Nothing matches an empty key or an empty pattern."""
    return bool(key) and bool(pattern) and _compiled(pattern).fullmatch(key) is not None


def is_literal(pattern: str) -> bool:
    """Whether the pattern names exactly one key."""
    return "*" not in pattern and "?" not in pattern

"""Patterns of model keys: anchored, literal but for `*` and `?`, and never slow."""

from __future__ import annotations

from fnmatch import translate
from re import DOTALL, compile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.patterns import is_literal, matches
from tests.policies.samples import LAW

KEYS = [
    "video-generator:veo3",
    "chat:gpt-4.1",
    "chat:llama3:8b",
    "chat:meta/llama-3.1-70b",
    "chat:anthropic.claude-v1:0",
    "chat:a+b(c)[d]{e}^$|\\d",
    "chat:ünïcode-模型",
]


@pytest.mark.parametrize("key", KEYS)
def test_a_literal_pattern_matches_itself(key: str) -> None:
    """`:`, `.`, `/`, `-` and the characters of regular expressions stand for themselves."""
    assert is_literal(key)
    assert matches(key, key)


@pytest.mark.parametrize(
    ("key", "pattern"),
    [
        ("chat:gpt-4x1", "chat:gpt-4.1"),
        ("chat:llama3-XL", "chat:llama3:8b"),
        ("chat:v1ANYTHING", "chat:v1:0"),
        ("chat:gpt-5-ultra", "chat:gpt-*-mini"),
        ("chat:gpt-4\n", "chat:gpt-4"),
        ("\nchat:gpt-4", "chat:gpt-4"),
        ("xchat:gpt-4", "chat:gpt-4"),
        ("chat:gpt-4o", "chat:gpt-4"),
        ("CHAT:GPT-4", "chat:gpt-4"),
        ("chat:gpt-4", "chat:gpt-4?"),
        ("chat:gpt-", "chat:gpt-?"),
        ("ab", "*ab*ab"),
        ("chat:a", "chat:[a]"),
        ("chat:a", "chat:a|b"),
        ("chat:", "chat:?*"),
    ],
)
def test_a_near_miss_is_a_miss(key: str, pattern: str) -> None:
    """What Casbin's own matchers, or a regular expression that is not anchored, would let through."""
    assert not matches(key, pattern)


@pytest.mark.parametrize(
    ("key", "pattern"),
    [
        ("chat:meta/llama", "*"),
        ("chat:meta/llama", "chat:*"),
        ("chat:", "chat:*"),
        ("chat:gpt-5-ultra-mini", "chat:gpt-*-mini"),
        ("chat:gpt-4o", "chat:gpt-4?"),
        ("chat:gpt-4\n", "chat:gpt-4?"),
        ("a\nb", "*"),
        ("abcabc", "*a*c*"),
        ("aXbXc", "a*X*c"),
        ("aab", "*a?"),
        ("abab", "*ab*ab"),
    ],
)
def test_stars_and_question_marks(key: str, pattern: str) -> None:
    """`*` is any run of characters, also none and also `/`; `?` is exactly one."""
    assert matches(key, pattern)


def test_nothing_matches_nothing() -> None:
    """An empty key fits no pattern, not even `*`, and an empty pattern fits no key: both are somebody's mistake."""
    assert not matches("", "*")
    assert not matches("", "")
    assert not matches("chat:a", "")


@LAW
@given(st.text(min_size=1), st.text(min_size=1))
def test_a_pattern_without_wildcards_matches_exactly_itself(key: str, other: str) -> None:
    """For texts of any characters: without `*` and `?`, matching is equality."""
    if is_literal(other):
        assert matches(key, other) == (key == other)
    if is_literal(key):
        assert matches(key, key)


@LAW
@given(st.text("ab:.", min_size=1, max_size=12), st.text("ab:.*?", min_size=1, max_size=8))
def test_matching_is_what_fnmatch_does(key: str, pattern: str) -> None:
    """With wildcards, matching agrees with the standard library's file names, which have the same two."""
    assert matches(key, pattern) == (compile(translate(pattern), DOTALL).match(key) is not None)


@pytest.mark.parametrize("pattern", ["*a" * 99 + "*c", "a*" * 99 + "c", "*?a" * 60 + "*c", "*" * 199 + "c", "?*" * 90])
def test_no_pattern_is_slow(pattern: str) -> None:
    """Patterns made to backtrack give their answer on a long key; with ordinary backtracking this would not end."""
    assert not matches("a" * 2_000 + "b\n", pattern + "c")

"""Texts in settings that are never shown again: keys and tokens."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from pydantic import AfterValidator, PlainSerializer, SecretStr

MIN_TOKEN = 24
"""Characters of a token that opens the admin API: of random letters and digits, more than can be tried in any time."""

MIN_DIFFERENT = 8
"""Different characters in it: every random one of that length has them, `aaaa…` and `00000…1` have not."""


def _one_line(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if not text or not text.isprintable():
        raise ValueError("expected one line of text that is not empty")
    return secret


def _hard_to_guess(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    weakness = None
    if len(text) < MIN_TOKEN:
        weakness = f"it is shorter than {MIN_TOKEN} characters"
    elif len(set(text)) < MIN_DIFFERENT:
        weakness = f"it has fewer than {MIN_DIFFERENT} different characters"
    elif _repeats(text):
        weakness = "it is a short text over and over"
    elif _runs(text):
        weakness = "its characters follow each other as in the alphabet"
    if weakness is not None:
        raise ValueError(f"the token can be guessed: {weakness}; make one with: openssl rand -hex 32")
    return secret


def _repeats(text: str) -> bool:
    """A text that is a piece of itself, repeated, stands in its own double also elsewhere than at its two ends."""
    at = (text + text).find(text, 1)
    return at <= len(text) // 2


def _runs(text: str) -> bool:
    """Whether most characters are the next ones after those before them: abcdef…, 0123…"""
    steps = [ord(second) - ord(first) for first, second in pairwise(text)]
    return max(steps.count(1), steps.count(-1)) > len(steps) // 2


Secret = Annotated[SecretStr, PlainSerializer(lambda _: "**********")]
HeaderSecret = Annotated[Secret, AfterValidator(_one_line)]
"""What travels in a header."""
AdminToken = Annotated[HeaderSecret, AfterValidator(_hard_to_guess)]
"""What opens the admin API."""

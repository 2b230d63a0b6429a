"""Texts in settings that are never shown again: keys and tokens."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, PlainSerializer, SecretStr


def _one_line(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if not text or not text.isprintable():
        raise ValueError("expected one line of text that is not empty")
    return secret


Secret = Annotated[SecretStr, PlainSerializer(lambda _: "**********")]
HeaderSecret = Annotated[Secret, AfterValidator(_one_line)]
"""What travels in a header."""

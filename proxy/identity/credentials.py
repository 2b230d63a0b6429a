"""Finding the one credential that a request carries.

Exactly one `Authorization: Bearer …` counts, or an API key in `X-Api-Key`. Two credentials are refused instead of
one of them winning by accident.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from policies.refusals import Refusal, invalid_request, unauthorized
from store.api_keys import PREFIX

MAX_TOKEN = 8192
"""Characters: larger than any token that carries claims, small enough to refuse early."""


@dataclass(frozen=True, slots=True)
class Presented:
    """A credential as it was sent; nothing about it has been verified."""

    text: str

    @property
    def is_api_key(self) -> bool:
        return self.text.startswith(PREFIX)


def presented(authorization: Sequence[str], api_key: Sequence[str]) -> Presented | Refusal:
    """The credential from all values of the two headers."""
    values = [*authorization, *api_key]
    if len(values) > 1:
        return invalid_request("Several credentials were sent", "Authorization", "Send exactly one credential.")
    if not values:
        return unauthorized("No token provided", "Send a token as `Authorization: Bearer …`.")
    scheme, _, text = values[0].strip().partition(" ") if authorization else ("bearer", "", values[0].strip())
    if scheme.lower() != "bearer" or not text.strip():
        return unauthorized("No token provided", "Send the token as `Authorization: Bearer …`.")
    if len(text) > MAX_TOKEN:
        return unauthorized("Invalid token", f"Tokens have at most {MAX_TOKEN} characters.")
    return Presented(text.strip())

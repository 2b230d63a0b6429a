"""The `credits` of `farebox.yaml`: in which order an account's credits are spent. What the names mean is defined in
`policies.spending`, which knows no settings; a test compares the two.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from config.extractors import Settings

SpendBy = Literal["priority", "expiry", "source"]


def _each_once(names: list[SpendBy]) -> list[SpendBy]:
    if len(names) != len(set(names)):
        raise ValueError("expected each name at most once")
    return names


class Credits(Settings):
    spend_order: Annotated[list[SpendBy], Field(min_length=1), AfterValidator(_each_once)] = [
        "priority",
        "expiry",
        "source",
    ]
    """What is spent first: the lowest `priority` number, what lapses soonest (`expiry`), what was given before what was
    bought (`source`); of equals the oldest."""

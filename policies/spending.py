"""The order in which an account's grants are spent: which credits go first when there are several kinds.

By default what has the lowest priority number, then what lapses soonest, then what was given before what was bought,
then the oldest. So nobody loses credits that could have been spent, and what is left longest is what can be refunded
as money. `credits.spend_order` of the settings names another order of the same criteria; age always decides last.

The ledger takes by it (`store.credit_book`), and reports show grants in it. Pure: nothing here takes anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import Any, Protocol


class SpendBy(StrEnum):
    """What grants are compared by."""

    PRIORITY = "priority"
    EXPIRY = "expiry"
    SOURCE = "source"


class Spendable(Protocol):
    """What is known of a grant when it is compared."""

    @property
    def id(self) -> int: ...
    @property
    def priority(self) -> int: ...
    @property
    def expires_at(self) -> Any: ...  # Moments of one kind, or None.
    @property
    def source(self) -> str: ...


SpendOrder = tuple[SpendBy, ...]

DEFAULT_ORDER: SpendOrder = (SpendBy.PRIORITY, SpendBy.EXPIRY, SpendBy.SOURCE)

GIVEN_BEFORE_BOUGHT = ("plan", "promo", "bonus", "adjust", "refund", "purchase")
"""Sources of credits in the order in which they are spent: those with a price come last."""

DEFAULT_PRIORITY = 100
"""Of a grant that names none. Lower numbers are spent first."""

_COMPARED: dict[SpendBy, Callable[[Spendable], Any]] = {
    SpendBy.PRIORITY: lambda grant: grant.priority,
    SpendBy.EXPIRY: lambda grant: (grant.expires_at is None, grant.expires_at),
    SpendBy.SOURCE: lambda grant: GIVEN_BEFORE_BOUGHT.index(grant.source),
}


@lru_cache(maxsize=16)
def spend_key(order: SpendOrder) -> Callable[[Spendable], tuple[Any, ...]]:
    """A key to sort grants by: what comes first is spent first. Ids grow with time, so the last criterion is age."""
    compared = [_COMPARED[by] for by in order]
    return lambda grant: (*(value(grant) for value in compared), grant.id)


def order_of(names: Sequence[str]) -> SpendOrder:
    """The order that settings name."""
    return tuple(SpendBy(name) for name in names)

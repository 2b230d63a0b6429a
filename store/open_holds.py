"""What open holds have taken from grants and windows: counted from the holds, whenever somebody asks.

There is no counter of what is held, so none can drift from the holds: not by a crash, not by a bug, not by a race. The
index of open holds by account is small whatever the number of holds that have ended.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy import Connection

from policies.holds import HoldState
from policies.terms import AccountId
from store.prepared import Reading
from store.rows import WindowKey, windows_in
from store.tables import holds

# As it stands in the condition of the index: a parameter would not be recognised there.
IS_OPEN = holds.c.state == sa.literal_column(f"'{HoldState.RESERVED}'")

_TAKEN = sa.type_coerce(holds.c.taken, sa.Text)
# Holds of one price have the same text, so an account with many of them costs few rows.
_LOAD = Reading(
    lambda lists: (
        sa.select(
            holds.c.account_id,
            _TAKEN,
            sa.func.count(),
            sa.cast(sa.func.sum(holds.c.amount), sa.BigInteger),
        )
        .where(lists.has(holds.c.account_id, "ids"), IS_OPEN)
        .group_by(holds.c.account_id, _TAKEN)
    )
)


@dataclass(slots=True)
class Taken:
    """Micro-credits by account and by grant, units by window."""

    credits: Counter[AccountId] = field(default_factory=Counter)
    grants: Counter[int] = field(default_factory=Counter)
    windows: Counter[WindowKey] = field(default_factory=Counter)


def taken_by_open_holds(connection: Connection, account_ids: Sequence[int]) -> Taken:
    """What the open holds of these accounts have taken."""
    taken = Taken()
    for account_id, text, count, amount in _LOAD.rows(connection, {"ids": account_ids}):
        parts = json.loads(text)
        for grant_id, part in parts.get("grants", ()):
            taken.grants[grant_id] += part * count
            taken.credits[account_id] += part * count
        for key in windows_in(account_id, parts):
            taken.windows[key] += amount
    return taken

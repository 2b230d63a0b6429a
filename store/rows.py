"""The rows of the ledger in memory, as a Book works on them. They know what has to be written back.

Moments are microseconds since 1970, as they are stored: nothing is converted that is only compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from policies.holds import HoldState
from policies.terms import AccountId, Funding, HoldId, OnDeadline, OnLate, Overrun


class EntryKind(StrEnum):
    """Why a balance changed."""

    GRANT = "grant"
    USAGE = "usage"
    OVERRUN = "overrun"
    LATE = "late"
    REFUND = "refund"
    EXPIRE = "expire"
    ADJUST = "adjust"


CHARGES = EntryKind.USAGE, EntryKind.OVERRUN, EntryKind.LATE
"""The entries of what a hold was charged."""


@dataclass(slots=True)
class AccountRow:
    """`version` is the number of the newest entry; None where the batch has no reason to append one."""

    id: AccountId
    revision: int
    overdrawn: int = 0
    version: int | None = None
    changed: bool = False


@dataclass(slots=True)
class GrantRow:
    """What is left of a grant: `remaining` can be spent, `held` is what open holds have taken.

    Only their sum is stored, as `unspent`; `stored` is what it was, or None for a grant that is new.
    """

    id: int
    account_id: AccountId
    key: str
    source: str
    amount: int
    remaining: int
    held: int
    priority: int
    effective_at: int
    expires_at: int | None
    description: str
    stored: int | None = None

    @property
    def unspent(self) -> int:
        return self.remaining + self.held


WindowKey = tuple[AccountId, datetime, str]


@dataclass(slots=True)
class WindowRow:
    """`limit` is the plan's own part of what the window allows; `carried` comes on top and never changes. `held` is
    what open holds have taken, and is not stored.
    """

    key: WindowKey
    end: datetime
    regular_start: datetime | None
    limit: int
    carried: int
    used: int
    held: int
    plan_version_id: int
    opened_by: int
    new: bool = False
    changed: bool = False

    @property
    def start(self) -> datetime:
        return self.key[1]

    @property
    def metric(self) -> str:
        return self.key[2]

    @property
    def allowed(self) -> int:
        """Units that may be used in it, all in all."""
        return self.limit + self.carried

    @property
    def in_use(self) -> int:
        """Units that are used, or held for requests that are still running."""
        return self.used + self.held


@dataclass(slots=True)
class HoldRow:
    id: HoldId
    account_id: AccountId
    state: HoldState
    funding: Funding
    amount: int
    settled_amount: int
    refunded_amount: int
    taken: dict[str, Any]
    model_key: str
    route_id: str
    units: str
    """JSON, as it is stored."""
    job_id: str | None
    on_deadline: OnDeadline
    deadline: int
    on_late: OnLate
    overrun: Overrun
    ended_at: int | None = None
    end_reason: str | None = None
    late_at: int | None = None
    new: bool = False
    changed: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    account_id: AccountId
    version: int
    kind: EntryKind
    amount: int
    balance_after: int
    hold_id: HoldId | None
    grant_id: int | None
    description: str


def hold_total(hold: HoldRow) -> int:
    """What a hold has taken in all, with its overrun."""
    return sum(part for _, part in hold.taken["grants"])


def windows_in(account_id: AccountId, taken: dict[str, Any]) -> list[WindowKey]:
    """The windows that something was taken from; none when credits fund it."""
    return [(account_id, datetime.fromisoformat(start), metric) for metric, start in taken.get("windows", ())]


def window_keys(hold: HoldRow) -> list[WindowKey]:
    """The windows that a hold took from."""
    return windows_in(hold.account_id, hold.taken)

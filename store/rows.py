"""The rows of the ledger in memory, as a Book works on them. `new` and `changed` say what has to be written back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from policies.holds import HoldState
from policies.terms import AccountId, Funding, HoldId, Metric, OnDeadline
from store.verbs import Request


class EntryKind(StrEnum):
    """Why a balance changed."""

    GRANT = "grant"
    USAGE = "usage"
    REFUND = "refund"
    EXPIRE = "expire"
    ADJUST = "adjust"


@dataclass(slots=True)
class AccountRow:
    id: AccountId
    posted: int
    pending: int
    version: int
    revision: int
    changed: bool = False


@dataclass(slots=True)
class GrantRow:
    id: int
    account_id: AccountId
    key: str
    source: str
    amount: int
    remaining: int
    held: int
    priority: int
    effective_at: datetime
    expires_at: datetime | None
    description: str
    new: bool = False
    changed: bool = False

    def spend_order(self) -> tuple[int, float, int]:
        """Lowest priority number first, then what expires soonest, then the oldest."""
        return self.priority, self.expires_at.timestamp() if self.expires_at else float("inf"), self.id


WindowKey = tuple[AccountId, datetime, Metric]


@dataclass(slots=True)
class WindowRow:
    key: WindowKey
    end: datetime
    limit: int
    used: int
    held: int
    plan_version_id: int
    new: bool = False
    changed: bool = False


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
    request: Request
    job_id: str | None
    on_deadline: OnDeadline
    deadline: datetime
    created_at: datetime
    ended_at: datetime | None = None
    end_reason: str | None = None
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


def window_keys(hold: HoldRow) -> list[WindowKey]:
    """The windows that a hold took from; none when credits fund it."""
    return [
        (hold.account_id, datetime.fromisoformat(start), Metric(metric))
        for metric, start in hold.taken.get("windows", ())
    ]

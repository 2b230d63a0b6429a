"""The ledger's book: what stands in the tables when everything is over, by plain SQL and not by the store's verbs."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from store.ids import id_text
from tests.chaos.shop import DAILY


@dataclass(frozen=True, slots=True)
class Hold:
    """A row of `holds`; moments are seconds since 1970. `windows` are the quota windows that it took from."""

    request_id: str
    account: int
    user: str
    route: str
    state: str
    funding: str
    amount: int
    settled: int
    end_reason: str | None
    created_at: float
    ended_at: float | None
    deadline: float
    windows: tuple[str, ...] = ()

    @property
    def expired(self) -> bool:
        """Whether it was its deadline that ended it."""
        return self.end_reason == "deadline"


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of `ledger_entries`."""

    account: int
    kind: str
    amount: int
    request_id: str | None
    at: float


@dataclass
class LedgerBook:
    """`usage` and `grants` may name the same thing twice: that is what is looked for."""

    accounts: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """By user."""
    holds: dict[str, Hold] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    usage: list[tuple[str, int]] = field(default_factory=list)
    """Request id and charge of each usage event."""
    grants: list[tuple[int, str, int]] = field(default_factory=list)
    """Account, key and amount."""
    daily: int = DAILY


_HOLDS = """
SELECT id, account_id, user_id, route_id, state, funding, amount, settled_amount, end_reason, created_at, ended_at,
       deadline, taken
FROM holds
"""


def read_ledger(connection: Connection) -> LedgerBook:
    """Everything, on one snapshot."""
    book = LedgerBook()
    for user, account in _rows(connection, "SELECT id, account_id FROM users"):
        book.accounts[user].append(account)
    for row in _rows(connection, _HOLDS):
        hold = _hold(row)
        book.holds[hold.request_id] = hold
    for account, kind, amount, hold_id, at in _rows(
        connection, "SELECT account_id, kind, amount, hold_id, at FROM ledger_entries"
    ):
        book.entries.append(Entry(account, kind, amount, hold_id and id_text(hold_id), at / 1e6))
    for number, charged in _rows(connection, "SELECT id, charged FROM usage_events"):
        book.usage.append((id_text(number), charged))
    book.grants = [tuple(row) for row in _rows(connection, "SELECT account_id, key, amount FROM credit_grants")]
    return book


def _hold(row: Any) -> Hold:
    return Hold(
        request_id=id_text(row.id),
        account=row.account_id,
        user=row.user_id,
        route=row.route_id,
        state=row.state,
        funding=row.funding,
        amount=row.amount,
        settled=row.settled_amount,
        end_reason=row.end_reason,
        created_at=row.created_at / 1e6,
        ended_at=None if row.ended_at is None else row.ended_at / 1e6,
        deadline=row.deadline / 1e6,
        windows=tuple("/".join(window) for window in json.loads(row.taken).get("windows", ())),
    )


def _rows(connection: Connection, query: str) -> list[Any]:
    return list(connection.execute(sa.text(query)))


def last_deadline(connection: Connection) -> float | None:
    """When the last hold that is still open will be overdue, in seconds since 1970."""
    moment = connection.execute(sa.text("SELECT max(deadline) FROM holds WHERE state = 'reserved'")).scalar()
    return moment and moment / 1e6

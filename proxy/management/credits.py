"""The caller's credits: what can be spent, where it comes from, and every movement."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from policies.refusals import Refusal
from proxy.management.endpoint import ApiRequest
from proxy.management.requests import counted
from proxy.management.shapes import Credits, Moment, Page, Shape
from proxy.services import Services
from store import reports
from store.ids import id_text
from store.rows import EntryKind
from store.verbs import GrantSource


class Transaction(Shape):
    """One movement of the account's credits. Credits that are reserved for a running request are not moved yet."""

    id: str
    """Counts the movements of the account, without gaps."""
    amount: Credits
    """Negative when credits were taken."""
    balance: Credits
    """After the movement, with credits that were reserved at that moment."""
    type: Literal["usage", "overrun", "late", "purchase", "bonus", "plan", "promo", "refund", "adjust", "expire"]
    description: str
    reference_type: Literal["usage", "grant"] | None
    reference_id: str | None
    """For `usage` and its `refund`, the id of the usage and of its request."""
    created_at: Moment


class Grant(Shape):
    """Credits of one source, and what is left of them."""

    source: GrantSource
    remaining: Credits
    amount: Credits
    """What was granted."""
    description: str
    expires_at: Moment | None
    created_at: Moment


class CreditBalance(Shape):
    """What the next request may spend, and what is set aside for those that are running."""

    balance: Credits
    reserved: Credits
    last_transaction: Transaction | None
    grants: list[Grant]
    """What the balance is made of, in the order in which it is spent."""


class CreditHistory(Shape):
    """Movements, newest first."""

    transactions: list[Transaction]
    next_cursor: str | None
    """Null on the last page."""


async def credit_balance(services: Services, request: ApiRequest) -> CreditBalance:
    account_id, now = request.caller.account.account_id, request.now
    balance, grants, newest = await services.store.database.read(
        lambda connection: (
            reports.balance(connection, account_id, now),
            reports.grants(connection, account_id, services.store.spend_order),
            reports.entries(connection, account_id, None, 1),
        )
    )
    return CreditBalance(
        balance=balance.available,
        reserved=balance.pending,
        last_transaction=_transaction(newest[0]) if newest else None,
        grants=[_grant(row) for row in grants if _is_spendable(row, now)],
    )


async def credit_history(services: Services, request: ApiRequest) -> CreditHistory | Refusal:
    page = request.query_as(Page)
    before = counted(page.cursor)
    if isinstance(before, Refusal):
        return before
    rows = await services.store.database.read(
        reports.entries, request.caller.account.account_id, before, page.limit + 1
    )
    shown = rows[: page.limit]
    return CreditHistory(
        transactions=[_transaction(row) for row in shown],
        next_cursor=str(shown[-1]["version"]) if len(rows) > len(shown) else None,
    )


def _transaction(row: dict[str, Any]) -> Transaction:
    hold_id, grant_id = row["hold_id"], row["grant_id"]
    reference = ("usage", id_text(hold_id)) if hold_id else ("grant", id_text(grant_id)) if grant_id else (None, None)
    return Transaction(
        id=str(row["version"]),
        amount=row["amount"],
        balance=row["balance_after"],
        type=row["source"] if row["kind"] == EntryKind.GRANT else row["kind"],
        description=row["description"],
        reference_type=reference[0],
        reference_id=reference[1],
        created_at=row["at"],
    )


def _grant(row: dict[str, Any]) -> Grant:
    return Grant(
        source=row["source"],
        remaining=row["remaining"],
        amount=row["amount"],
        description=row["description"],
        expires_at=row["expires_at"],
        created_at=row["created_at"],
    )


def _is_spendable(row: dict[str, Any], now: datetime) -> bool:
    lapsed = row["expires_at"] is not None and row["expires_at"] <= now
    return bool(row["remaining"]) and row["effective_at"] <= now and not lapsed

"""Usage: what was used and charged, request by request and in sums."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from config.roles import Role
from policies.pricing import to_credits
from policies.refusals import Refusal, iso
from policies.terms import Funding
from proxy.operations.archives import ListArchives, Recount, list_archives, recount
from proxy.operations.arguments import Hold, Limit, Name
from proxy.operations.naming import named_account
from proxy.operations.operation import Answer, Arguments, Desk, Operation
from store import reports
from store.ids import id_text
from store.usage_sums import By, Used, last_days, used

MAX_DAYS = 3660
"""Sums are kept for good; ten years are more rows than anyone reads."""


class ListUsage(Arguments):
    account: Name | None = None
    """Only the usage of this account: its number, or the id of one of its users."""
    before: Hold | None = None
    """Start below this request, the `next` of the page before."""
    limit: Limit = 50
    """Rows on a page."""


async def list_usage(desk: Desk, given: ListUsage) -> Answer | Refusal:
    account_id = await _account_id(desk, given.account)
    if isinstance(account_id, Refusal):
        return account_id
    rows = await desk.store.database.read(reports.usage, account_id, given.before, given.limit)
    shown = [
        {
            "id": id_text(row["id"]),
            "at": iso(row["at"]),
            "account": row["account_id"],
            "user": row["user_id"],
            "model": row["model_key"],
            "route": row["route_id"],
            "funding": row["funding"],
            "charged": to_credits(row["charged"]) if row["funding"] == Funding.CREDITS else row["charged"],
            "units": row["units"],
            "estimated": row["estimated"],
            "status": row["upstream_status"],
            "latency_ms": row["latency_ms"],
        }
        for row in rows
    ]
    return {"usage": shown, "next": id_text(rows[-1]["id"]) if len(rows) == given.limit else None}


async def _account_id(desk: Desk, name: str | None) -> int | Refusal | None:
    if name is None:
        return None
    account = await named_account(desk.store, name)
    return account if isinstance(account, Refusal) else account.account_id


class GroupBy(StrEnum):
    """What sums are for."""

    DAY = "day"
    MODEL = "model"
    ACCOUNT = "account"


_COLUMNS: dict[GroupBy, By] = {GroupBy.DAY: "day", GroupBy.MODEL: "model_key", GroupBy.ACCOUNT: "account_id"}


class Summarize(Arguments):
    by: GroupBy = GroupBy.DAY
    """A row for each day, model or account."""
    days: Annotated[int, Field(ge=1, le=MAX_DAYS)] = 30
    """Days (UTC) to look back, with today."""
    account: Name | None = None
    """Only the usage of this account: its number, or the id of one of its users."""
    limit: Limit = 100
    """Rows at most: the latest days, or what was called most."""


async def summarize(desk: Desk, given: Summarize) -> Answer | Refusal:
    account_id = await _account_id(desk, given.account)
    if isinstance(account_id, Refusal):
        return account_id
    scope = last_days(given.days, desk.now(), account_id)
    column, by_day = _COLUMNS[given.by], given.by is GroupBy.DAY
    found, totals = await desk.store.database.read(
        lambda connection: (
            used(connection, scope, (column,), None if by_day else given.limit),
            used(connection, scope),
        )
    )
    # The days of ten years at most; of accounts there may be a million.
    rows = list(reversed(found.items()))[: given.limit] if by_day else list(found.items())
    shown = [{given.by.value: _key(key), **_amounts(amounts)} for (key,), amounts in rows]
    return {"usage": shown, "total": _amounts(totals[()])}


def _key(value: datetime | str | int) -> str | int:
    return f"{value:%Y-%m-%d}" if isinstance(value, datetime) else value


def _amounts(amounts: Used) -> dict[str, int | float]:
    return {
        "calls": amounts.calls,
        "credits": to_credits(amounts.credits),
        "credits_refunded": to_credits(amounts.credits_refunded),
        "quota": amounts.quota,
        "quota_refunded": amounts.quota_refunded,
        "estimated": amounts.estimated,
    }


OPERATIONS = (
    Operation("usage", "list", "Lists what was used and charged, newest first.",
              "usage list --account user-1001 --limit 20", ListUsage, list_usage, Role.VIEWER),
    Operation("usage", "summary", "Adds up what was used and charged: by day, model or account.",
              "usage summary --by model --days 7", Summarize, summarize, Role.VIEWER),
    Operation("usage", "archives", "Lists the months that were archived, and checks their files.",
              "usage archives --json", ListArchives, list_archives, Role.OPERATOR, passes="ok"),
    Operation("usage", "recount", "Has the sums that dashboards read counted anew, if they are in doubt.",
              "usage recount", Recount, recount, Role.OPERATOR, changes=True),
)  # fmt: skip

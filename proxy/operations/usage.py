"""Usage: what was used and charged, newest first."""

from __future__ import annotations

from policies.pricing import to_credits
from policies.refusals import Refusal, iso
from policies.terms import Funding
from proxy.operations.arguments import Hold, Limit, Name
from proxy.operations.naming import named_account
from proxy.operations.operation import Answer, Arguments, Desk, Operation
from store import reports
from store.ids import id_text


class ListUsage(Arguments):
    account: Name | None = None
    """Only the usage of this account: its number, or the id of one of its users."""
    before: Hold | None = None
    """Start below this request, the `next` of the page before."""
    limit: Limit = 50
    """Rows on a page."""


async def list_usage(desk: Desk, given: ListUsage) -> Answer | Refusal:
    account_id: int | None = None
    if given.account is not None:
        account = await named_account(desk.store, given.account)
        if isinstance(account, Refusal):
            return account
        account_id = account.account_id
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


OPERATIONS = (
    Operation("usage", "list", "Lists what was used and charged, newest first.",
              "usage list --account user-1001 --limit 20", ListUsage, list_usage),
)  # fmt: skip

"""Credits: granting, taking away, and reading the ledger of an account."""

from __future__ import annotations

from dataclasses import replace

from config.roles import Role
from policies.pricing import to_credits
from policies.refusals import Refusal, insufficient_credits, invalid_request, iso
from policies.spending import DEFAULT_PRIORITY
from proxy.operations.arguments import Credits, Cursor, Limit, Moment, Name, Priority, Sentence
from proxy.operations.authority import Kind, Moved
from proxy.operations.naming import named_account
from proxy.operations.operation import Answer, Arguments, Desk, Operation, conflict
from store import reports
from store.ids import id_text
from store.verbs import OVERRUN_KEY, Granted, GrantSource, LacksCredits, Refused


class Grant(Arguments):
    account: Name
    """The account: its number, or the id of one of its users."""
    credits: Credits
    """How many credits, with at most six decimals."""
    source: GrantSource = GrantSource.BONUS
    """Where the credits come from."""
    expires: Moment | None = None
    """When unused credits lapse: a date or a moment, in UTC."""
    priority: Priority = DEFAULT_PRIORITY
    """Lower numbers are spent first, whatever else `credits.spend_order` says after `priority`."""
    key: Name | None = None
    """Makes it safe to repeat: one key of an account is one grant. Without one, every call grants."""
    description: Sentence = "Granted by an operator"
    """What the account holder reads in the history."""


async def grant(desk: Desk, given: Grant) -> Answer | Refusal:
    if given.expires is not None and given.expires <= desk.now():
        return invalid_request(f"{iso(given.expires)} has passed; credits cannot lapse in the past", "expires")
    if given.key is not None and given.key.startswith(OVERRUN_KEY):
        return invalid_request(f"keys that begin with {OVERRUN_KEY} are the ledger's own", "key")
    account = await named_account(desk.store, given.account)
    if isinstance(account, Refusal):
        return account
    key = given.key or f"operator:{id_text(desk.store.ids.next())}"
    outcome = await desk.store.ledger.grant(
        account.account_id, given.credits, given.source, key, given.description, given.expires, given.priority
    )
    if isinstance(outcome, Refused):
        return conflict(f"Nothing was granted: {outcome}")
    if outcome.amount != given.credits:
        return conflict(f"The key {key!r} has been used for a grant of {to_credits(outcome.amount)} credits")
    return {"account": account.account_id, **_granted(outcome), "key": key}


def _granted(outcome: Granted) -> Answer:
    return {
        "credits": to_credits(outcome.amount),
        "balance": to_credits(outcome.balance),
        "changed": outcome.changed,
    }


class Deduct(Arguments):
    account: Name
    """The account: its number, or the id of one of its users."""
    credits: Credits
    """How many credits; at most what is available."""
    description: Sentence = "Deducted by an operator"
    """What the account holder reads in the history."""


async def deduct(desk: Desk, given: Deduct) -> Answer | Refusal:
    account = await named_account(desk.store, given.account)
    if isinstance(account, Refusal):
        return account
    outcome = await desk.store.ledger.deduct(account.account_id, given.credits, given.description)
    if isinstance(outcome, LacksCredits):
        hint = f"The account has {to_credits(outcome.current)} credits available."
        return replace(insufficient_credits(outcome.required, outcome.current), hint=hint)
    if isinstance(outcome, Refused):
        return conflict(f"Nothing was deducted: {outcome}")
    return {"account": account.account_id, **_granted(outcome)}


async def credits_move(desk: Desk, given: Grant | Deduct) -> Moved:
    return Moved(Kind.CREDITS, given.credits)


class OneAccount(Arguments):
    account: Name
    """The account: its number, or the id of one of its users."""


async def balance(desk: Desk, given: OneAccount) -> Answer | Refusal:
    account = await named_account(desk.store, given.account)
    if isinstance(account, Refusal):
        return account
    database = desk.store.database
    found = await database.read(reports.balance, account.account_id, desk.now())
    grants = await database.read(reports.grants, account.account_id, desk.store.spend_order)
    return {
        "account": account.account_id,
        "available": to_credits(found.available),
        "held": to_credits(found.pending),
        "posted": to_credits(found.posted),
        "grants": [
            {
                "source": row["source"],
                "description": row["description"],
                "credits": to_credits(row["amount"]),
                "remaining": to_credits(row["remaining"]),
                "held": to_credits(row["held"]),
                "priority": row["priority"],
                "expires_at": iso(row["expires_at"]) if row["expires_at"] else None,
                "key": row["key"],
            }
            for row in grants
        ],
    }


class History(OneAccount):
    before: Cursor | None = None
    """Start below this entry, the `next` of the page before."""
    limit: Limit = 50
    """Entries on a page."""


async def history(desk: Desk, given: History) -> Answer | Refusal:
    account = await named_account(desk.store, given.account)
    if isinstance(account, Refusal):
        return account
    rows = await desk.store.database.read(reports.entries, account.account_id, given.before, given.limit)
    shown = [
        {
            "entry": row["version"],
            "at": iso(row["at"]),
            "kind": row["kind"],
            "credits": to_credits(row["amount"]),
            "balance": to_credits(row["balance_after"]),
            "description": row["description"],
            "hold": id_text(row["hold_id"]) if row["hold_id"] is not None else None,
        }
        for row in rows
    ]
    more = rows[-1]["version"] if len(rows) == given.limit and rows[-1]["version"] > 1 else None
    return {"account": account.account_id, "entries": shown, "next": more}


OPERATIONS = (
    Operation("credits", "grant", "Grants credits to an account.",
              "credits grant user-1001 25.5 --source purchase --key invoice-88",
              Grant, grant, Role.OPERATOR, changes=True, positional=("account", "credits"), moves=credits_move),
    Operation("credits", "deduct", "Takes credits from an account, at most what is available.",
              'credits deduct user-1001 5 --description "charged twice by mistake of ours"',
              Deduct, deduct, Role.OPERATOR, changes=True, positional=("account", "credits"), moves=credits_move),
    Operation("credits", "balance", "Shows the credits of an account and the grants they come from, in spend order.",
              "credits balance user-1001", OneAccount, balance, Role.VIEWER, positional=("account",)),
    Operation("credits", "history", "Lists the ledger entries of an account, newest first.",
              "credits history user-1001 --limit 20", History, history, Role.VIEWER, positional=("account",)),
)  # fmt: skip

"""Holds: what is reserved at this moment, and ending or refunding one by hand."""

from __future__ import annotations

from decimal import Decimal

from config.roles import Role
from policies.holds import HoldState
from policies.pricing import exact_credits, to_credits, to_micro
from policies.refusals import Refusal, invalid_request, iso
from policies.terms import AccountId, Funding
from proxy.operations.arguments import Amount, Hold, Limit, Name, Sentence
from proxy.operations.authority import Kind, Moved
from proxy.operations.naming import named_account
from proxy.operations.operation import Answer, Arguments, Desk, Operation, conflict, not_found
from store import reports
from store.archiving import archive_with
from store.ids import id_text
from store.operators import open_holds_of
from store.reports import Row
from store.verbs import Ended, Refused, Settle, Usage


class ListOpen(Arguments):
    account: Name | None = None
    """Only the holds of this account: its number, or the id of one of its users."""
    limit: Limit = 50
    """Holds at most, the soonest due first."""


async def list_open(desk: Desk, given: ListOpen) -> Answer | Refusal:
    account_id: int | None = None
    if given.account is not None:
        account = await named_account(desk.store, given.account)
        if isinstance(account, Refusal):
            return account
        account_id = account.account_id
    rows = await desk.store.database.read(open_holds_of, account_id, given.limit)
    shown = [
        {
            "id": id_text(row["id"]),
            "account": row["account_id"],
            "user": row["user_id"],
            "model": row["model_key"],
            "funding": row["funding"],
            "amount": _shown_amount(row, row["amount"]),
            "job": row["job_id"],
            "created_at": iso(row["created_at"]),
            "deadline": iso(row["deadline"]),
        }
        for row in rows
    ]
    return {"holds": shown}


def _shown_amount(row: Row, amount: int) -> int | float:
    """Credits, or quota units when quota funds the hold."""
    return to_credits(amount) if row["funding"] == Funding.CREDITS else amount


class OneHold(Arguments):
    id: Hold
    """The id of the request, as in X-Request-Id."""


async def show(desk: Desk, given: OneHold) -> Answer | Refusal:
    row = await _row(desk, given)
    if isinstance(row, Refusal):
        return row
    return {
        "id": id_text(row["id"]),
        "state": row["state"],
        "account": row["account_id"],
        "user": row["user_id"],
        "key": row["key_id"],
        "model": row["model_key"],
        "route": row["route_id"],
        "action": row["action"],
        "units": row["units"],
        "funding": row["funding"],
        "reserved": _shown_amount(row, row["amount"]),
        "charged": _shown_amount(row, row["settled_amount"]),
        "refunded": _shown_amount(row, row["refunded_amount"]),
        "rule": row["rule"],
        "policy_revision": row["policy_revision"],
        "price_version": row["price_version"],
        "job": row["job_id"],
        "created_at": iso(row["created_at"]),
        "deadline": iso(row["deadline"]),
        "on_deadline": row["on_deadline"],
        "on_late": row["on_late"],
        "overrun": row["overrun"],
        "ended_at": iso(row["ended_at"]) if row["ended_at"] else None,
        "end_reason": row["end_reason"],
        "late_at": iso(row["late_at"]) if row["late_at"] else None,
    }


async def _row(desk: Desk, given: OneHold) -> Row | Refusal:
    row = await desk.store.database.read(reports.hold, given.id)
    if row is not None:
        return row
    archive = await desk.store.database.read(archive_with, given.id)
    hint = None
    if archive is not None and archive.file is not None:
        hint = f"Usage of that month was archived: look into {archive.file}, or a later one if it ended later."
    elif archive is not None:
        hint = "Usage of that month was deleted, as retention.archive: off says."
    return not_found(f"There is no hold {id_text(given.id)}", hint)


class Release(OneHold):
    reason: Sentence = "released by an operator"
    """For the record of the hold."""


async def release(desk: Desk, given: Release) -> Answer | Refusal:
    row = await _row(desk, given)
    if isinstance(row, Refusal):
        return row
    outcome = await desk.store.ledger.release(given.id, AccountId(row["account_id"]), given.reason)
    return _ended(row, outcome, HoldState.RELEASED)


TAKE_MORE = "What is owed beyond it can be taken with: farebox credits deduct"


class SettleHold(OneHold):
    amount: Amount | None = None
    """Credits, or quota units when quota funds the hold: at most, and without it, all that is reserved."""
    reason: Sentence = "settled by an operator"
    """For the record of the hold."""


async def settle(desk: Desk, given: SettleHold) -> Answer | Refusal:
    row = await _row(desk, given)
    if isinstance(row, Refusal):
        return row
    amount = _stored_amount(row, given.amount)
    if isinstance(amount, Refusal):
        return amount
    if amount is not None and amount > row["amount"]:
        reserved = _shown_amount(row, row["amount"])
        return invalid_request(f"expected at most the {reserved} that are reserved", "amount", TAKE_MORE)
    usage = Usage(row["units"], estimated=given.amount is None)
    verb = Settle(given.id, AccountId(row["account_id"]), amount, usage, given.reason)
    return _ended(row, await desk.store.ledger.settle(verb), HoldState.SETTLED)


def _stored_amount(row: Row, amount: Decimal | None) -> int | Refusal | None:
    """An operator's amount as the hold counts it: micro-credits, or whole quota units."""
    if amount is None:
        return None
    if row["funding"] != Funding.CREDITS:
        whole = amount == amount.to_integral_value()
        return int(amount) if whole else invalid_request("expected whole quota units", "amount")
    try:
        return to_micro(amount)
    except ValueError as error:
        return invalid_request(str(error), "amount")


def _ended(row: Row, outcome: Ended | Refused, wanted: HoldState) -> Answer | Refusal:
    """Ending a hold again in the same way is fine; in another way is too late."""
    if isinstance(outcome, Refused):
        return conflict(f"The hold was not changed: {outcome}")
    charged = _shown_amount(row, outcome.charged)
    if outcome.state is not wanted and not outcome.changed:
        hint = "A settled hold can be refunded: farebox holds refund" if outcome.state is HoldState.SETTLED else None
        return conflict(f"The hold has been {outcome.state} already, with {charged} charged", hint)
    return {
        "id": id_text(outcome.hold_id),
        "state": outcome.state,
        "funding": outcome.funding,
        "charged": charged,
        "available": _shown_amount(row, outcome.available),
        "changed": outcome.changed,
    }


class RefundHold(OneHold):
    amount: Amount | None = None
    """Credits, or quota units when quota funded it; without it all that was charged and not refunded yet."""
    reason: Sentence = "refunded by an operator"
    """What the account holder reads in the history."""


async def refund(desk: Desk, given: RefundHold) -> Answer | Refusal:
    row = await _row(desk, given)
    if isinstance(row, Refusal):
        return row
    amount = _stored_amount(row, given.amount)
    if isinstance(amount, Refusal):
        return amount
    outcome = await desk.store.ledger.refund(given.id, AccountId(row["account_id"]), amount, given.reason)
    if outcome is Refused.ARCHIVED:
        return conflict(f"Nothing was refunded: {outcome}", "Credits can be given: farebox credits grant")
    if isinstance(outcome, Refused):
        return conflict(f"Nothing was refunded: {outcome}", f"See: farebox holds show {id_text(given.id)}")
    return {
        "id": id_text(outcome.hold_id),
        "funding": outcome.funding,
        "refunded": _shown_amount(row, outcome.amount),
        "available": _shown_amount(row, outcome.available),
    }


async def release_moves(desk: Desk, given: Release) -> Moved | None:
    row = await _row(desk, given)
    return None if isinstance(row, Refusal) else Moved(_kind(row), row["amount"])


async def settle_moves(desk: Desk, given: SettleHold) -> Moved | None:
    """What is not charged is given back: to charge nothing is to release."""
    row = await _row(desk, given)
    amount = row if isinstance(row, Refusal) else _stored_amount(row, given.amount)
    if isinstance(row, Refusal) or isinstance(amount, Refusal):
        # What is mistaken moves nothing: the verb itself says so.
        return None
    reserved = row["amount"]
    return Moved(_kind(row), reserved if amount is None else max(amount, reserved - amount))


async def refund_moves(desk: Desk, given: RefundHold) -> Moved | None:
    """Without an amount it is what is left now: the hold of a request that runs may be settled at any moment."""
    row = await _row(desk, given)
    amount = row if isinstance(row, Refusal) else _stored_amount(row, given.amount)
    if isinstance(row, Refusal) or isinstance(amount, Refusal):
        return None
    if amount is not None:
        return Moved(_kind(row), amount)
    left = row["settled_amount"] - row["refunded_amount"]
    stated = exact_credits(left) if row["funding"] == Funding.CREDITS else Decimal(left)
    return Moved(_kind(row), left, {"amount": stated})


def _kind(row: Row) -> Kind:
    return Kind.CREDITS if row["funding"] == Funding.CREDITS else Kind.QUOTA


OPERATIONS = (
    Operation("holds", "list", "Lists the open holds, the soonest due first.", "holds list --account user-1001",
              ListOpen, list_open, Role.VIEWER),
    Operation("holds", "show", "Shows a hold: its request, price, rule and end.", "holds show 02TG5K6Z9Q0A1",
              OneHold, show, Role.VIEWER, positional=("id",)),
    Operation("holds", "release", "Gives an open hold back to where it was taken from.",
              'holds release 02TG5K6Z9Q0A1 --reason "backend lost the job"',
              Release, release, Role.OPERATOR, changes=True, positional=("id",), moves=release_moves),
    Operation("holds", "settle", "Charges an open hold: all that is reserved, or another amount.",
              "holds settle 02TG5K6Z9Q0A1 --amount 12.5", SettleHold, settle, Role.OPERATOR,
              changes=True, positional=("id",), moves=settle_moves),
    Operation("holds", "refund", "Gives settled money or quota back to where it was taken from.",
              'holds refund 02TG5K6Z9Q0A1 --reason "broken video"',
              RefundHold, refund, Role.OPERATOR, changes=True, positional=("id",), moves=refund_moves),
)  # fmt: skip

"""Payments of subscriptions: confirming that one was received, and listing them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from config.roles import Role
from policies.refusals import Refusal
from policies.subscription import NotPossible
from policies.terms import MAX_AMOUNT
from proxy.operations.arguments import Cursor, Limit, Name
from proxy.operations.authority import Kind, Moved, most
from proxy.operations.naming import named_account
from proxy.operations.operation import Answer, Desk, Operation
from proxy.operations.subscription_answers import OneAccount, not_possible, payment_answer, subscription_answer
from store import payments, subscriptions
from store.engine import AlreadyExists
from store.ids import id_text


class Confirm(OneAccount):
    amount: Annotated[int, Field(ge=1, le=MAX_AMOUNT)] | None = None
    """What was received, in minor units: refused when another amount is due. Without it, what is due."""
    key: Name | None = None
    """Makes it safe to repeat: one key, such as the number of an invoice, is one payment."""


async def confirm(desk: Desk, given: Confirm) -> Answer | Refusal:
    account = await named_account(desk.store, given.account)
    if isinstance(account, Refusal):
        return account
    key = given.key or f"operator:{id_text(desk.store.ids.next())}"
    arguments = (account.account_id, key, given.amount, desk.actor, desk.now())
    write, at_most = desk.store.database.write, most(Kind.PAYMENT, desk)
    try:
        try:
            confirmed = await write(subscriptions.confirm, *arguments, at_most=at_most)
        except AlreadyExists:
            # The key was used for another account at this very moment: it is there now, and will be told.
            confirmed = await write(subscriptions.confirm, *arguments, at_most=at_most)
    except NotPossible as error:
        return not_possible(error, given.account)
    return {
        "account": account.account_id,
        "changed": confirmed.changed,
        "payment": payment_answer(confirmed.payment),
        "subscription": subscription_answer(confirmed.row),
    }


async def confirm_moves(desk: Desk, given: Confirm) -> Moved | None:
    """Without an amount it is what is due now; should more be due by then, the store refuses it."""
    if given.amount is not None:
        return Moved(Kind.PAYMENT, given.amount)
    account = await named_account(desk.store, given.account)
    row = None if isinstance(account, Refusal) else account.at(desk.now()).subscription
    return None if row is None else Moved(Kind.PAYMENT, row.amount_due)


class Payments(OneAccount):
    before: Cursor | None = None
    """Start below this payment, the `next` of the page before."""
    limit: Limit = 50
    """Payments on a page."""


async def list_payments(desk: Desk, given: Payments) -> Answer | Refusal:
    account = await named_account(desk.store, given.account)
    if isinstance(account, Refusal):
        return account
    rows = await desk.store.database.read(payments.of_account, account.account_id, given.before, given.limit + 1)
    shown = rows[: given.limit]
    more = shown[-1].payment_id if len(rows) > len(shown) else None
    return {"account": account.account_id, "payments": [payment_answer(row) for row in shown], "next": more}


OPERATIONS = (
    Operation("subscriptions", "confirm", "Confirms the payment that is due: it starts, renews or upgrades.",
              "subscriptions confirm user-1001 --amount 299000 --key invoice-88",
              Confirm, confirm, Role.OPERATOR, changes=True, positional=("account",), moves=confirm_moves),
    Operation("subscriptions", "payments", "Lists what an account has paid for subscriptions, newest first.",
              "subscriptions payments user-1001", Payments, list_payments, Role.VIEWER, positional=("account",)),
)  # fmt: skip

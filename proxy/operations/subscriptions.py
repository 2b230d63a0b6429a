"""Subscriptions: what an account holder may do, done by an operator. Here are also the verbs of plans and payments."""

from __future__ import annotations

from config.roles import Role
from policies.proration import unused
from policies.refusals import Refusal, iso
from policies.subscription import NotPossible, resolve
from policies.subscription_acts import cancel, resume
from proxy.operations import payments, plan_changes
from proxy.operations.arguments import Name, Sentence
from proxy.operations.authority import Kind, Moved
from proxy.operations.naming import named_account
from proxy.operations.operation import Answer, Desk, Operation
from proxy.operations.plan_changes import plan_on_sale
from proxy.operations.subscription_answers import OneAccount, changed, not_possible, subscription_answer
from store import subscriptions
from store.ids import id_text


async def show(desk: Desk, given: OneAccount) -> Answer | Refusal:
    account = await named_account(desk.store, given.account)
    if isinstance(account, Refusal):
        return account
    row = await desk.store.database.read(subscriptions.latest, account.account_id)
    shown = subscription_answer(resolve(row, desk.now())[0]) if row else None
    return {"account": account.account_id, "subscription": shown}


class Subscribe(OneAccount):
    plan: Name
    """The id of a plan that is on sale."""
    paid: bool = False
    """The first payment has been received: activate at once, after the trial if there is one."""


async def subscribe(desk: Desk, given: Subscribe) -> Answer | Refusal:
    account = await named_account(desk.store, given.account)
    plan = await plan_on_sale(desk, given.plan)
    if isinstance(account, Refusal):
        return account
    if isinstance(plan, Refusal):
        return plan
    key = f"operator:{id_text(desk.store.ids.next())}" if given.paid else None
    arguments = (account.account_id, plan, desk.settings.subscriptions.grace, desk.actor, desk.now())
    try:
        row = await desk.store.database.write(subscriptions.subscribe, *arguments, payment_key=key)
    except NotPossible as error:
        return not_possible(error, given.account)
    return {"account": account.account_id, "subscription": subscription_answer(row)}


async def subscribe_moves(desk: Desk, given: Subscribe) -> Moved | None:
    plan = await plan_on_sale(desk, given.plan) if given.paid else None
    return None if plan is None or isinstance(plan, Refusal) else Moved(Kind.PAYMENT, plan.price)


class Cancel(OneAccount):
    immediately: bool = False
    """End it now instead of at the end of the period."""
    reason: Sentence | None = None
    """For the history."""


async def cancel_subscription(desk: Desk, given: Cancel) -> Answer | Refusal:
    account = await named_account(desk.store, given.account)
    if isinstance(account, Refusal):
        return account
    now, refund = desk.now(), desk.settings.subscriptions.unused_time == "refund"
    done = await changed(
        desk, account.account_id, lambda row: cancel(row, now, given.immediately, given.reason, refund=refund)
    )
    if isinstance(done, Refusal):
        return done
    rest = 0 if done.row.current else unused(done.before, now)
    return {"account": account.account_id, "unused": rest, "subscription": subscription_answer(done.row)}


async def resume_subscription(desk: Desk, given: OneAccount) -> Answer | Refusal:
    account = await named_account(desk.store, given.account)
    if isinstance(account, Refusal):
        return account
    done = await changed(desk, account.account_id, resume)
    if isinstance(done, Refusal):
        return done
    return {"account": account.account_id, "subscription": subscription_answer(done.row)}


async def history(desk: Desk, given: OneAccount) -> Answer | Refusal:
    account = await named_account(desk.store, given.account)
    if isinstance(account, Refusal):
        return account
    database = desk.store.database
    row = await database.read(subscriptions.latest, account.account_id)
    events = await database.read(subscriptions.history, row.subscription_id) if row else []
    shown = [
        {
            "at": iso(event["at"]),
            "event": event["event"],
            "status": event["status"],
            "plan": event["plan_id"],
            "plan_version": event["version"],
            "due": event["amount_due"],
            "credit": event["carried"],
            "actor": event["actor"],
        }
        for event in events
    ]
    return {"account": account.account_id, "plan": row.plan.plan_id if row else None, "events": shown}


OPERATIONS = (
    Operation("subscriptions", "show", "Shows the subscription of an account as it is now, or the last one it had.",
              "subscriptions show user-1001", OneAccount, show, Role.VIEWER, positional=("account",)),
    Operation("subscriptions", "subscribe", "Subscribes an account to a plan; a paid one waits for its payment.",
              "subscriptions subscribe user-1001 pro-monthly --paid",
              Subscribe, subscribe, Role.OPERATOR, changes=True, positional=("account", "plan"), moves=subscribe_moves),
    *payments.OPERATIONS,
    Operation("subscriptions", "cancel", "Cancels at the end of the period, or at once.",
              'subscriptions cancel user-1001 --reason "moved away"',
              Cancel, cancel_subscription, Role.OPERATOR, changes=True, positional=("account",)),
    Operation("subscriptions", "resume", "Takes back a cancellation, until the subscription has ended.",
              "subscriptions resume user-1001", OneAccount, resume_subscription, Role.OPERATOR,
              changes=True, positional=("account",)),
    *plan_changes.OPERATIONS,
    Operation("subscriptions", "history", "Lists everything that happened to the subscription, oldest first.",
              "subscriptions history user-1001", OneAccount, history, Role.VIEWER, positional=("account",)),
)  # fmt: skip

"""Subscriptions: what an account holder may do, done by an operator, and the confirmation of payments."""

from __future__ import annotations

from collections.abc import Callable

from config.findings import did_you_mean
from policies.refusals import Refusal, iso
from policies.subscription import Event, NotPossible, Subscription, cancel, change_plan, pay, quote_change, resolve
from policies.terms import AccountId, Plan
from proxy.operations.arguments import Name, Sentence
from proxy.operations.naming import named_account
from proxy.operations.operation import Answer, Arguments, Desk, Operation, conflict, not_found
from store import catalogue, subscriptions


def subscription_answer(row: Subscription) -> Answer:
    """A subscription resolved at the moment, as operators see it. `due` is in minor units of its currency."""
    due_for = row.pending_plan or row.plan
    dates = {
        "period_start": row.period_start,
        "period_end": row.period_end,
        "grace_until": row.grace_until if row.amount_due and row.entitled and not row.pending_plan else None,
        "cancel_at": row.cancel_at,
        "ended_at": row.ended_at,
    }
    return {
        "plan": row.plan.plan_id,
        "plan_version": row.plan.version,
        "tier": row.plan.tier,
        "status": row.status,
        "entitled": row.entitled,
        "due": row.amount_due,
        "currency": due_for.currency,
        "pending_plan": row.pending_plan.plan_id if row.pending_plan else None,
        "scheduled_plan": row.scheduled_plan.plan_id if row.scheduled_plan else None,
        **{name: iso(moment) if moment else None for name, moment in dates.items()},
    }


class OneAccount(Arguments):
    account: Name
    """The account: its number, or the id of one of its users."""


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
    """The first payment has been received: activate at once."""


async def subscribe(desk: Desk, given: Subscribe) -> Answer | Refusal:
    account = await named_account(desk.store, given.account)
    plan = await _plan(desk, given.plan)
    if isinstance(account, Refusal):
        return account
    if isinstance(plan, Refusal):
        return plan
    grace, now = desk.settings.subscriptions.grace, desk.now()
    try:
        row = await desk.store.database.write(subscriptions.subscribe, account.account_id, plan, grace, desk.actor, now)
    except NotPossible as error:
        return conflict(str(error), f"See: farebox subscriptions show {given.account}")
    if given.paid and row.amount_due:
        return await _change(desk, account.account_id, lambda row: pay(row, now))
    return {"account": account.account_id, "subscription": subscription_answer(row)}


async def _plan(desk: Desk, plan_id: str) -> Plan | Refusal:
    on_sale = await desk.store.database.read(catalogue.load)
    plan = on_sale.plan(plan_id)
    if plan is None:
        known = [plan.plan_id for plan in on_sale.plans if plan.active]
        hint = "There are no plans yet; load them with: farebox seed" if not known else None
        return not_found(f"There is no plan {plan_id!r} on sale" + did_you_mean(plan_id, known), hint)
    return plan


async def _change(
    desk: Desk, account_id: AccountId, decide: Callable[[Subscription], tuple[Subscription, Event]]
) -> Answer | Refusal:
    try:
        row = await desk.store.database.write(subscriptions.change, account_id, decide, desk.actor, desk.now())
    except NotPossible as error:
        return conflict(str(error), f"See: farebox subscriptions show {account_id}")
    return {"account": account_id, "subscription": subscription_answer(row)}


async def confirm(desk: Desk, given: OneAccount) -> Answer | Refusal:
    account = await named_account(desk.store, given.account)
    if isinstance(account, Refusal):
        return account
    now = desk.now()
    return await _change(desk, account.account_id, lambda row: pay(row, now))


class Cancel(OneAccount):
    immediately: bool = False
    """End it now instead of at the end of the period."""
    reason: Sentence | None = None
    """For the history."""


async def cancel_subscription(desk: Desk, given: Cancel) -> Answer | Refusal:
    account = await named_account(desk.store, given.account)
    if isinstance(account, Refusal):
        return account
    now = desk.now()
    return await _change(desk, account.account_id, lambda row: cancel(row, now, given.immediately, given.reason))


class Change(OneAccount):
    plan: Name
    """The id of the plan to change to."""


async def change(desk: Desk, given: Change) -> Answer | Refusal:
    account = await named_account(desk.store, given.account)
    plan = await _plan(desk, given.plan)
    if isinstance(account, Refusal):
        return account
    if isinstance(plan, Refusal):
        return plan
    tiers, now = (await desk.rulebook()).tiers, desk.now()
    return await _change(
        desk, account.account_id, lambda row: change_plan(row, quote_change(row, plan, tiers, now), now)
    )


async def history(desk: Desk, given: OneAccount) -> Answer | Refusal:
    account = await named_account(desk.store, given.account)
    if isinstance(account, Refusal):
        return account
    database = desk.store.database
    row = await database.read(subscriptions.latest, account.account_id)
    events = await database.read(subscriptions.history, row.subscription_id) if row else []
    shown = [
        {"at": iso(event["at"]), "event": event["event"], "status": event["status"], "actor": event["actor"]}
        for event in events
    ]
    return {"account": account.account_id, "plan": row.plan.plan_id if row else None, "events": shown}


OPERATIONS = (
    Operation("subscriptions", "show", "Shows the subscription of an account as it is now, or the last one it had.",
              "subscriptions show user-1001", OneAccount, show, positional=("account",)),
    Operation("subscriptions", "subscribe", "Subscribes an account to a plan; a paid one waits for its payment.",
              "subscriptions subscribe user-1001 pro-monthly --paid",
              Subscribe, subscribe, changes=True, positional=("account", "plan")),
    Operation("subscriptions", "confirm", "Confirms the payment that is due: it starts, renews or upgrades.",
              "subscriptions confirm user-1001", OneAccount, confirm, changes=True, positional=("account",)),
    Operation("subscriptions", "cancel", "Cancels at the end of the period, or at once.",
              'subscriptions cancel user-1001 --reason "moved away"',
              Cancel, cancel_subscription, changes=True, positional=("account",)),
    Operation("subscriptions", "change", "Changes the plan: upgrades now when paid, downgrades at the period's end.",
              "subscriptions change user-1001 enterprise-monthly",
              Change, change, changes=True, positional=("account", "plan")),
    Operation("subscriptions", "history", "Lists everything that happened to the subscription, oldest first.",
              "subscriptions history user-1001", OneAccount, history, positional=("account",)),
)  # fmt: skip

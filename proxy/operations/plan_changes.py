"""The plan of a subscription: what a change would cost, changing it, and taking subscribers to its newest version."""

from __future__ import annotations

from config.findings import did_you_mean
from config.roles import Role
from policies.proration import PlanChange, expect, quote_change
from policies.refusals import Refusal, iso
from policies.subscription import Event, NotPossible, Subscription
from policies.subscription_acts import change_plan, migrate
from policies.terms import Plan
from proxy.operations.arguments import MinorUnits, Name
from proxy.operations.naming import named_account
from proxy.operations.operation import Answer, Desk, Operation, conflict, not_found
from proxy.operations.subscription_answers import OneAccount, changed, not_possible, subscription_answer
from store import catalogue


class Preview(OneAccount):
    plan: Name
    """The id of the plan that would be changed to."""


class Change(OneAccount):
    plan: Name
    """The id of the plan to change to; that of the present plan withdraws what has not happened yet."""
    expect: MinorUnits | None = None
    """The amount that a preview has named: the change is refused when it would cost another one by now."""


async def plan_on_sale(desk: Desk, plan_id: str) -> Plan | Refusal:
    on_sale = await desk.store.database.read(catalogue.load)
    plan = on_sale.plan(plan_id)
    if plan is None:
        known = [plan.plan_id for plan in on_sale.plans if plan.active]
        hint = "There are no plans yet; load them with: farebox seed" if not known else None
        return not_found(f"There is no plan {plan_id!r} on sale" + did_you_mean(plan_id, known), hint)
    return plan


def _quoted(quote: PlanChange) -> Answer:
    return {
        "plan": quote.plan.plan_id,
        "direction": quote.direction,
        "amount": quote.amount_due,
        "currency": quote.plan.currency,
        "credit": quote.carried,
        "applies_at": iso(quote.applies_at) if quote.applies_at else None,
        "quoted_until": iso(quote.stands_until),
    }


async def preview(desk: Desk, given: Preview) -> Answer | Refusal:
    account = await named_account(desk.store, given.account)
    plan = await plan_on_sale(desk, given.plan)
    if isinstance(account, Refusal):
        return account
    if isinstance(plan, Refusal):
        return plan
    row = account.at(desk.now()).subscription
    if row is None or not row.current:
        return conflict("There is no current subscription", f"See: farebox subscriptions show {given.account}")
    try:
        quote = quote_change(row, plan, (await desk.rulebook()).tiers, desk.now())
    except NotPossible as error:
        return not_possible(error, given.account)
    return {"account": account.account_id, "quote": _quoted(quote)}


async def change(desk: Desk, given: Change) -> Answer | Refusal:
    account = await named_account(desk.store, given.account)
    plan = await plan_on_sale(desk, given.plan)
    if isinstance(account, Refusal):
        return account
    if isinstance(plan, Refusal):
        return plan
    tiers, now = (await desk.rulebook()).tiers, desk.now()

    def decide(row: Subscription) -> tuple[Subscription, Event]:
        quote = quote_change(row, plan, tiers, now)
        expect(quote, given.expect)
        return change_plan(row, quote, now)

    done = await changed(desk, account.account_id, decide)
    if isinstance(done, Refusal):
        return done
    quote = quote_change(done.before, plan, tiers, now)
    return {"account": account.account_id, "quote": _quoted(quote), "subscription": subscription_answer(done.row)}


async def migrate_plan(desk: Desk, given: OneAccount) -> Answer | Refusal:
    account = await named_account(desk.store, given.account)
    if isinstance(account, Refusal):
        return account
    row = account.at(desk.now()).subscription
    if row is None or not row.current:
        return conflict("There is no current subscription", f"See: farebox subscriptions show {given.account}")
    newest = await plan_on_sale(desk, row.plan.plan_id)
    if isinstance(newest, Refusal):
        return newest
    done = await changed(desk, account.account_id, lambda row: migrate(row, newest))
    if isinstance(done, Refusal):
        return done
    return {"account": account.account_id, "subscription": subscription_answer(done.row)}


OPERATIONS = (
    Operation("subscriptions", "preview", "Quotes what a change of the plan would cost and when it would apply.",
              "subscriptions preview user-1001 enterprise-monthly", Preview, preview, Role.VIEWER,
              positional=("account", "plan")),
    Operation("subscriptions", "change", "Changes the plan: upgrades now when paid, downgrades at the period's end.",
              "subscriptions change user-1001 enterprise-monthly",
              Change, change, Role.OPERATOR, changes=True, positional=("account", "plan")),
    Operation("subscriptions", "migrate", "Schedules the newest version of the plan for the period's end.",
              "subscriptions migrate user-1001", OneAccount, migrate_plan, Role.OPERATOR,
              changes=True, positional=("account",)),
)  # fmt: skip

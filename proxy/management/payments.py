"""What the caller has paid for subscriptions."""

from __future__ import annotations

from policies.refusals import Refusal
from policies.subscription_acts import Purpose
from proxy.management.endpoint import ApiRequest
from proxy.management.requests import counted
from proxy.management.shapes import Moment, Page, Shape
from proxy.services import Services
from store import payments
from store.payments import Payment as Booked


class PaymentMade(Shape):
    """A payment that was confirmed."""

    id: str
    subscription_id: str
    plan_id: str
    plan_version: int
    purpose: Purpose
    amount: int
    """In minor units of `currency`."""
    currency: str
    reference: str
    """The key under which it was confirmed, such as the number of an invoice."""
    created_at: Moment


class PaymentList(Shape):
    """Payments, newest first."""

    payments: list[PaymentMade]
    next_cursor: str | None
    """Null on the last page."""


async def list_payments(services: Services, request: ApiRequest) -> PaymentList | Refusal:
    page = request.query_as(Page)
    before = counted(page.cursor)
    if isinstance(before, Refusal):
        return before
    rows = await services.store.database.read(
        payments.of_account, request.caller.account.account_id, before, page.limit + 1
    )
    shown = rows[: page.limit]
    more = str(shown[-1].payment_id) if len(rows) > len(shown) else None
    return PaymentList(payments=[_made(row) for row in shown], next_cursor=more)


def _made(row: Booked) -> PaymentMade:
    return PaymentMade(
        id=str(row.payment_id),
        subscription_id=str(row.subscription_id),
        plan_id=row.plan_id,
        plan_version=row.plan_version,
        purpose=row.purpose,
        amount=row.amount,
        currency=row.currency,
        reference=row.key,
        created_at=row.at,
    )

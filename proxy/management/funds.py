"""What an account could spend at this moment, and whether a quote would pass: the ledger's admission, without taking.

Used by the quota status and by quotes. The arithmetic is that of `store.book` when it reserves; a test compares them
on accounts in many states.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from policies.callers import Account
from policies.evaluate import Quote
from policies.refusals import Refusal, insufficient_credits, quota_exceeded
from policies.terms import Funding, Metric
from policies.windows import Window
from proxy.services import Services
from store import reports


@dataclass(frozen=True, slots=True)
class Allowance:
    """The window of now, with the plan's limit and everything that is used of it or held in it."""

    window: Window
    limit: int
    used: int

    @property
    def remaining(self) -> int:
        """Not below zero, also after a downgrade in the middle of the window."""
        return max(self.limit - self.used, 0)


@dataclass(frozen=True, slots=True)
class Funds:
    """Micro-credits that can be spent, and what the plan allows, if there is one: None is no limit of that kind."""

    credits: int
    daily: Allowance | None
    monthly: Allowance | None

    @property
    def allowances(self) -> tuple[Allowance, ...]:
        """In the order in which the ledger asks them."""
        return tuple(allowance for allowance in (self.daily, self.monthly) if allowance is not None)

    @property
    def quota(self) -> int | None:
        """Units left in the tightest window; None for an account that does not pay with quota."""
        return min((allowance.remaining for allowance in self.allowances), default=None)


async def read_funds(services: Services, account: Account, now: datetime) -> Funds:
    """The funds of an account that was resolved at `now`, from one snapshot."""
    account_id, plan = account.account_id, account.plan
    credits, daily, monthly = await services.store.database.read(
        lambda connection: (
            reports.balance(connection, account_id, now).available,
            reports.window(connection, account_id, Metric.DAILY, now),
            reports.window(connection, account_id, Metric.MONTHLY, now),
        )
    )
    return Funds(
        credits,
        _allowance(daily, plan.daily_quota if plan is not None else None),
        _allowance(monthly, plan.monthly_quota if plan is not None else None),
    )


def _allowance(row: tuple[Window, int, int], limit: int | None) -> Allowance | None:
    window, used, held = row
    return Allowance(window, limit, used + held) if limit is not None else None


def admission(quote: Quote, funds: Funds) -> tuple[Funding, Refusal | None]:
    """What would pay for a call now; or what would be tried first, with the refusal that the gate would answer."""
    refused: Refusal | None = None
    for funding in quote.fundings:
        lacks = _lacks_quota(quote.quota, funds) if funding is Funding.QUOTA else _lacks_credits(quote.credits, funds)
        if lacks is None:
            return funding, None
        refused = refused or lacks
    return quote.fundings[0], refused


def _lacks_credits(required: int, funds: Funds) -> Refusal | None:
    return insufficient_credits(required, funds.credits) if funds.credits < required else None


def _lacks_quota(units: int, funds: Funds) -> Refusal | None:
    for allowance in funds.allowances:
        if allowance.used + units > allowance.limit:
            window = allowance.window
            return quota_exceeded(window.metric, allowance.used, allowance.limit, window.end)
    return None

"""What an account could spend at this moment, and whether a quote would pass: the ledger's admission, without taking.

Used by the quota status and by quotes. The windows are the ledger's own, by the clock that it uses; the arithmetic on
them is that of `store.book` when it reserves, and a test compares the two on accounts in many states.
"""

from __future__ import annotations

from dataclasses import dataclass

from policies.callers import Account
from policies.evaluate import Exempt, Quote
from policies.refusals import Refusal, insufficient_credits, quota_exceeded
from policies.terms import Funding, Metric
from policies.windows import Window
from proxy.services import Services
from store import quota_reports, reports
from store.rows import WindowRow


@dataclass(frozen=True, slots=True)
class Allowance:
    """The window in force, all that may be used in it, and everything that is used of it or held in it.

    `carried` is how much of the limit comes from the window before.
    """

    window: Window
    limit: int
    used: int
    carried: int = 0

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
    fair_use: int | None = None
    """Calls left of the exemption that was asked for; None where it has no limit."""

    @property
    def allowances(self) -> tuple[Allowance, ...]:
        """In the order in which the ledger asks them."""
        return tuple(allowance for allowance in (self.daily, self.monthly) if allowance is not None)

    @property
    def quota(self) -> int | None:
        """Units left in the tightest window; None for an account that does not pay with quota."""
        return min((allowance.remaining for allowance in self.allowances), default=None)


async def read_funds(services: Services, account: Account, exempt: Exempt | None = None) -> Funds:
    """The funds of an account that was resolved at this moment, from one snapshot, with the count of an exemption."""
    database, account_id, terms = services.store.database, account.account_id, account.quota_terms
    fair = exempt.terms if exempt is not None else None
    credits, rows, exempted = await database.read(
        lambda connection: (
            reports.balance(connection, account_id, moment := database.now(connection)).available,
            quota_reports.windows_now(connection, account_id, terms, moment) if terms is not None else [],
            quota_reports.fair_use_now(connection, account_id, fair, moment) if fair is not None else None,
        )
    )
    allowances = {row.metric: _allowance(row) for row in rows}
    fair_use = max(exempted.allowed - exempted.in_use, 0) if exempted is not None else None
    return Funds(credits, allowances.get(Metric.DAILY), allowances.get(Metric.MONTHLY), fair_use)


def _allowance(row: WindowRow) -> Allowance:
    return Allowance(Window(Metric(row.metric), row.start, row.end), row.allowed, row.in_use, row.carried)


def admission(quote: Quote, funds: Funds) -> tuple[Funding, Refusal | None]:
    """What would pay for a call now; or what would be tried first, with the refusal that the gate would answer."""
    lacking: list[Funding] = []
    for funding in quote.fundings:
        if _pays(funding, quote, funds):
            return funding, None
        lacking.append(funding)
    # Who has used up what is exempt pays as usual, and is told of that.
    lacking = [funding for funding in lacking if funding is not Funding.EXEMPT]
    return lacking[0], _refusal(lacking, quote, funds)


def _pays(funding: Funding, quote: Quote, funds: Funds) -> bool:
    if funding is Funding.EXEMPT:
        return funds.fair_use is None or funds.fair_use > 0
    return (_short_of(quote.quota, funds) is None) if funding is Funding.QUOTA else quote.credits <= funds.credits


def _refusal(lacking: list[Funding], quote: Quote, funds: Funds) -> Refusal:
    """As the gate puts it: of the first funding, and where credits could have paid as well, of both."""
    short = _short_of(quote.quota, funds)
    if lacking[0] is Funding.CREDITS or short is None:
        return insufficient_credits(quote.credits, funds.credits)
    credits = (quote.credits, funds.credits) if Funding.CREDITS in lacking else None
    return quota_exceeded(short.window.metric, short.used, short.limit, short.window.end, credits)


def _short_of(units: int, funds: Funds) -> Allowance | None:
    """The first window without room for so many units."""
    return next((short for short in funds.allowances if short.used + units > short.limit), None)

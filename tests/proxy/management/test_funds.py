"""The admission of quotes against the ledger's own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from policies.evaluate import Quote
from policies.quota import FairUseTerms, QuotaTerms
from policies.refusals import insufficient_credits, quota_exceeded
from policies.terms import AccountId, Funding, HoldId, Metric, OnDeadline
from policies.windows import UTC_CALENDAR, window_at
from proxy.management.funds import Allowance, Funds, admission
from store.book import Book
from store.rows import AccountRow, GrantRow, WindowRow
from store.verbs import Hold, LacksCredits, LacksQuota, Request, Reserve

NOW = datetime(2026, 1, 15, 10, 30, tzinfo=UTC)
ACCOUNT = AccountId(1)
CARRIED = 2

amounts = st.integers(0, 12)
fundings = st.sampled_from(
    [
        (*exempt, *paying)
        for exempt in ((), (Funding.EXEMPT,))
        for paying in ((Funding.CREDITS,), (Funding.QUOTA,), (Funding.QUOTA, Funding.CREDITS))
    ]
)
EXEMPTION = "exempt:house"


def _book(credits: int, used: dict[Metric, tuple[int, int]]) -> Book:
    """The ledger's rows of an account with these credits, below zero where it owes them, and these windows as used
    and held.
    """
    book, remaining = Book.at(NOW), max(credits, 0)
    book.accounts[ACCOUNT] = AccountRow(ACCOUNT, 1, max(-credits, 0), 1)
    book.credits.add(GrantRow(7, ACCOUNT, "key", "bonus", remaining, remaining, 0, 100, 0, None, "", remaining))
    for metric, (spent, held) in used.items():
        window = window_at(metric, UTC_CALENDAR, NOW)
        row = WindowRow((ACCOUNT, window.start, metric), window.end, None, 0, CARRIED, spent, held, 1, 1)
        book.quota.add(row, recent=True)
    return book


@given(
    quote=st.builds(Quote, credits=amounts, quota=amounts, fundings=fundings),
    credits=amounts | amounts.map(lambda owed: -owed),
    daily=st.tuples(amounts, amounts, amounts),
    monthly=st.none() | st.tuples(amounts, amounts, amounts),
    fair=st.none() | st.tuples(amounts, amounts, amounts),
)
def test_a_quote_passes_exactly_when_the_ledger_would_take_it(
    quote: Quote,
    credits: int,
    daily: tuple[int, int, int],
    monthly: tuple[int, int, int] | None,
    fair: tuple[int, int, int] | None,
) -> None:
    """Same funding or same refusal, with the same amounts, for any funds, limits and costs."""
    windows = {Metric.DAILY: daily} | ({Metric.MONTHLY: monthly} if monthly is not None else {})
    allowances = {
        metric: Allowance(window_at(metric, UTC_CALENDAR, NOW), limit + CARRIED, used + held)
        for metric, (limit, used, held) in windows.items()
    }
    fair_use = max(fair[0] - fair[1] - fair[2], 0) if fair is not None else None
    funds = Funds(credits, allowances[Metric.DAILY], allowances.get(Metric.MONTHLY), fair_use)
    reserve = Reserve(
        hold_id=HoldId(1),
        account_id=ACCOUNT,
        revision=1,
        fundings=quote.fundings,
        credits=quote.credits,
        quota=quote.quota,
        quota_terms=QuotaTerms(daily[0], monthly[0] if monthly is not None else None, 1),
        request=Request("ana", None, "a:b", "act", "route", "rev", "rule", 1),
        lasts=timedelta(hours=1),
        on_deadline=OnDeadline.RELEASE,
        fair_use=FairUseTerms(EXEMPTION, fair[0], Metric.DAILY) if fair is not None else None,
    )
    used = {metric: (spent, held) for metric, (_, spent, held) in windows.items()}
    book = _book(credits, used)
    if fair is not None:
        day = window_at(Metric.DAILY, UTC_CALENDAR, NOW)
        row = WindowRow((ACCOUNT, day.start, EXEMPTION), day.end, None, 0, 0, fair[1], fair[2], 0, 0)
        book.quota.add(row, recent=False)
    outcome = book.apply(reserve)
    funding, refusal = admission(quote, funds)
    match outcome:
        case Hold():
            assert (refusal, funding) == (None, outcome.funding)
        case LacksCredits():
            assert refusal == insufficient_credits(outcome.required, outcome.current)
        case LacksQuota():
            lacks = outcome.credits
            credits = None if lacks is None else (lacks.required, lacks.current)
            assert refusal == quota_exceeded(outcome.metric, outcome.used, outcome.limit, outcome.resets_at, credits)
        case _:
            raise AssertionError(outcome)

"""Exempt calls: counted in the transaction that lets them through, and paid for when fair use is over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from policies.holds import HoldState
from policies.quota import FairUseTerms
from policies.terms import Funding, Metric, OnLate
from store.quota_reports import fair_use_now
from store.verbs import Ended, Hold, LacksCredits
from tests.store.till import CREDITS, Till

pytestmark = pytest.mark.asyncio(loop_scope="session")

EXEMPT = (Funding.EXEMPT, *CREDITS)


def fair(calls: int, period: Metric = Metric.DAILY, name: str = "exempt:house") -> FairUseTerms:
    return FairUseTerms(name, calls, period)


async def test_an_exempt_call_takes_nothing_and_is_counted(till: Till) -> None:
    """The balance stays; the window of the exemption has one call more, held and then used."""
    account = await till.account(100)
    hold = await till.hold(account, 30, fundings=EXEMPT, fair_use=fair(2))
    assert (hold.funding, hold.amount) == (Funding.EXEMPT, 1)
    assert await till.windows(account) == [("03-10", "exempt:house", 0, 1)]
    ended = await till.settle(hold)
    assert isinstance(ended, Ended)
    assert await till.windows(account) == [("03-10", "exempt:house", 1, 0)]
    assert (await till.balance(account)).available == 100


async def test_after_fair_use_calls_are_paid_for(till: Till) -> None:
    """Of three calls two are exempt, the third takes credits, and the next is refused."""
    account = await till.account(30)
    holds = [await till.hold(account, 30, fundings=EXEMPT, fair_use=fair(2)) for _ in range(3)]
    assert [hold.funding for hold in holds] == [Funding.EXEMPT, Funding.EXEMPT, Funding.CREDITS]
    assert await till.reserve(account, 30, fundings=EXEMPT, fair_use=fair(2)) == LacksCredits(30, 0)


async def test_a_failed_call_gives_its_count_back(till: Till) -> None:
    """Released and refunded calls count for nothing, in the window that they were taken from."""
    account = await till.account()
    first = await till.hold(account, 5, fundings=EXEMPT, fair_use=fair(1))
    await till.release(first)
    second = await till.hold(account, 5, fundings=EXEMPT, fair_use=fair(1))
    await till.settle(second)
    till.now = datetime(2025, 3, 11, 1, tzinfo=UTC)
    await till.refund(second)
    assert await till.windows(account) == [("03-10", "exempt:house", 0, 0)]


async def test_exemptions_are_counted_apart(till: Till) -> None:
    """Each has its own window, by day or by month, and neither counts towards the quota."""
    account = await till.account()
    await till.hold(account, 5, fundings=EXEMPT, fair_use=fair(1))
    await till.hold(account, 5, fundings=EXEMPT, fair_use=fair(1, Metric.MONTHLY, "exempt:other"))
    assert await till.windows(account) == [("03-01", "exempt:other", 0, 1), ("03-10", "exempt:house", 0, 1)]
    assert isinstance(await till.reserve(account, 5, fundings=EXEMPT, fair_use=fair(1)), LacksCredits)


async def test_without_a_limit_nothing_is_counted(till: Till) -> None:
    """Any number of calls, no window, and a hold that ends like every other."""
    account = await till.account()
    for _ in range(3):
        hold = await till.hold(account, 5, fundings=EXEMPT)
        assert isinstance(hold, Hold)
        await till.settle(hold)
    assert await till.windows(account) == []


async def test_who_only_looks_sees_what_the_next_call_will_meet(till: Till) -> None:
    """What is used and held of today; and a limit that the policy has changed, at once."""
    account = await till.account()
    await till.settle(await till.hold(account, 5, fundings=EXEMPT, fair_use=fair(3)))
    await till.hold(account, 5, fundings=EXEMPT, fair_use=fair(3))
    shown = await till.database.read(fair_use_now, account, fair(2), till.now)
    assert (shown.used, shown.held, shown.allowed) == (1, 1, 2)
    assert isinstance(await till.reserve(account, 5, fundings=EXEMPT, fair_use=fair(2)), LacksCredits)
    tomorrow = await till.database.read(fair_use_now, account, fair(2), till.now + timedelta(days=1))
    assert (tomorrow.used, tomorrow.held, tomorrow.allowed) == (0, 0, 2)


async def test_the_books_are_right_with_exempt_calls_in_them(till: Till) -> None:
    """Verification counts open and settled calls in their windows, and finds one that was counted twice."""
    account = await till.account()
    await till.hold(account, 5, fundings=EXEMPT, fair_use=fair(3))
    await till.settle(await till.hold(account, 5, fundings=EXEMPT, fair_use=fair(3)))
    await till.settle(await till.hold(account, 5, fundings=EXEMPT))
    await till.check()
    found = await till.breaches_after("UPDATE quota_windows SET used = 2")
    assert found == {"windows": [f"account {account}: exempt:house window of 2025-03-10: used 2, holds 1"]}


async def test_a_late_charge_uses_what_the_window_has_left(till: Till) -> None:
    """One call where there is room in the window of then, none where it has been used up meanwhile."""
    account = await till.account()
    first = await till.hold(account, 5, fundings=EXEMPT, fair_use=fair(1), on_late=OnLate.CHARGE)
    till.now += timedelta(hours=1)
    assert (await till.expire(first)).state is HoldState.EXPIRED
    second = await till.hold(account, 5, fundings=EXEMPT, fair_use=fair(1), on_late=OnLate.CHARGE)
    assert (await till.settle(first)).charged == 0
    await till.release(second)
    third = await till.hold(account, 5, fundings=EXEMPT, fair_use=fair(1), on_late=OnLate.CHARGE)
    till.now += timedelta(hours=1)
    await till.expire(third)
    assert (await till.settle(third)).charged == 1
    assert await till.windows(account) == [("03-10", "exempt:house", 1, 0)]


async def test_a_late_call_that_nobody_counts_is_one_call(till: Till) -> None:
    """There is no window that could be full."""
    account = await till.account()
    hold = await till.hold(account, 5, fundings=EXEMPT, on_late=OnLate.CHARGE)
    till.now += timedelta(hours=1)
    await till.expire(hold)
    assert (await till.settle(hold)).charged == 1
    assert await till.windows(account) == []

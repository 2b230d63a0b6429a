"""True costs above the hold and above the credits that are left, on routes that let an account owe them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from policies.holds import HoldState
from policies.terms import Funding, Overrun
from store.verbs import Ended, Hold, LacksCredits, Settle, Usage
from tests.store.till import NOON, QUOTA, Till, terms

pytestmark = pytest.mark.asyncio(loop_scope="session")

OVERDRAFT = {"overrun": Overrun.OVERDRAFT}


async def test_an_overdraft_is_exactly_the_overrun(till: Till) -> None:
    """All that is available first, then what is missing, each by its own entry."""
    account = await till.account(100)
    ended = await till.settle(await till.hold(account, 30, **OVERDRAFT), 150)
    assert ended == Ended(ended.hold_id, HoldState.SETTLED, Funding.CREDITS, 150, -50, changed=True)
    assert await till.entries(account) == [("grant", 100, 100), ("usage", -100, 0), ("overrun", -50, -50)]
    balance = await till.balance(account)
    assert (balance.posted, balance.available) == (-50, -50)


async def test_without_the_rule_nobody_owes_anything(till: Till) -> None:
    """The default takes what there is."""
    account = await till.account(100)
    ended = await till.settle(await till.hold(account, 30), 150)
    assert (ended.charged, ended.available) == (100, 0)


@pytest.mark.parametrize(("amount", "charged"), [(None, 30), (10, 10), (30, 30), (31, 31), (100, 100)])
async def test_what_the_account_has_is_never_lent(till: Till, amount: int | None, charged: int) -> None:
    """The rule matters only where credits end."""
    account = await till.account(100)
    ended = await till.settle(await till.hold(account, 30, **OVERDRAFT), amount)
    assert (ended.charged, ended.available) == (charged, 100 - charged)
    assert "overrun" not in [kind for kind, _, _ in await till.entries(account)]


async def test_who_owes_gets_no_more_holds(till: Till) -> None:
    """Not even one that costs nothing, since its overrun would be owed as well; until what is owed has come in."""
    account = await till.account(100)
    await till.settle(await till.hold(account, 30, **OVERDRAFT), 150)
    assert await till.reserve(account, 10) == LacksCredits(10, -50)
    assert await till.reserve(account, 0) == LacksCredits(0, -50)
    assert await till.deduct(account, 1) == LacksCredits(1, -50)
    await till.grant(account, 40)
    assert await till.reserve(account, 0) == LacksCredits(0, -10)
    await till.grant(account, 40)
    assert (await till.hold(account, 30)).available == 0


async def test_quota_pays_for_who_owes_credits(till: Till) -> None:
    """What is owed is credits; a subscription is paid for."""
    account = await till.account(10)
    await till.settle(await till.hold(account, 10, **OVERDRAFT), 20)
    fundings = (Funding.CREDITS, *QUOTA)
    assert (await till.hold(account, 1, fundings=fundings, terms=terms(5))).funding is Funding.QUOTA


async def test_quota_is_never_overdrawn(till: Till) -> None:
    """A window has what it has."""
    account = await till.account(100)
    hold = await till.hold(account, quota=2, fundings=QUOTA, terms=terms(3), **OVERDRAFT)
    assert (await till.settle(hold, 50)).charged == 2


async def test_holds_of_other_requests_are_not_spent(till: Till) -> None:
    """They end as if nothing had happened; what one of them gives back goes to what is owed."""
    account = await till.account(100)
    overrun, settles, releases = [await till.hold(account, 30, **OVERDRAFT) for _ in range(3)]
    assert (await till.settle(overrun, 80)).available == -40
    assert (await till.settle(settles)).charged == 30
    assert (await till.release(releases)).available == -10
    assert (await till.balance(account)).posted == -10


async def test_a_second_overrun_is_owed_as_well(till: Till) -> None:
    """For a hold that was taken before the first one."""
    account = await till.account(20)
    one, other = await till.hold(account, 10, **OVERDRAFT), await till.hold(account, 10, **OVERDRAFT)
    assert [(await till.settle(hold, 25)).available for hold in (one, other)] == [-15, -30]


async def test_a_grant_repays_what_is_owed_first(till: Till) -> None:
    """The balance tells no other story than without the repayment, and the grant has the rest."""
    account = await till.account(100)
    await till.settle(await till.hold(account, 100, **OVERDRAFT), 150)
    granted = await till.grant(account, 80)
    assert (granted.amount, granted.balance) == (80, 30)
    assert (await till.grants(account))[-1] == (30, 0)
    assert (await till.entries(account))[-1] == ("grant", 80, 30)


async def test_a_refund_of_an_overrun_reduces_what_is_owed(till: Till) -> None:
    """What was spent last is refunded first: the debt, then the grants."""
    account = await till.account(100)
    hold = await till.hold(account, 30, **OVERDRAFT)
    await till.settle(hold, 150)
    assert (await till.refund(hold, 20)).available == -30
    assert (await till.refund(hold, 40)).available == 10
    assert (await till.refund(hold)).available == 100


async def test_a_refund_after_the_debt_was_paid_gives_credits(till: Till) -> None:
    """Who has paid the overrun with other credits gets it back as credits."""
    account = await till.account(100)
    hold = await till.hold(account, 30, **OVERDRAFT)
    await till.settle(hold, 150)
    await till.grant(account, 60)
    assert (await till.refund(hold, 50)).available == 60
    assert isinstance(await till.reserve(account, 60), Hold)


async def test_what_lapses_repays_nothing(till: Till) -> None:
    """Credits whose time is over are booked as such, and the debt stays."""
    account = await till.account()
    await till.grant(account, 30, expires_at=NOON + timedelta(minutes=1))
    one, other = await till.hold(account, 15, **OVERDRAFT), await till.hold(account, 15)
    await till.settle(one, 25)
    till.now += timedelta(minutes=5)
    assert (await till.release(other)).available == -10
    assert (await till.entries(account))[-1] == ("expire", -15, -10)


async def test_two_overruns_in_one_batch_are_two_debts(till: Till) -> None:
    """Whatever comes together is booked one by one."""
    account = await till.account(20)
    holds = [await till.hold(account, 10, **OVERDRAFT) for _ in range(2)]
    outcomes = await till.run(*(Settle(hold.hold_id, account, 15, Usage(), "done") for hold in holds))
    assert [outcome.available for outcome in outcomes] == [-5, -10]  # type: ignore[union-attr]

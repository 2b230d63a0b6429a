"""The ledger as requests, jobs and operators use it."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest

from config.clock import utc_now
from policies.holds import HoldState
from policies.terms import AccountId, OnDeadline
from store import reports
from store.opening import Store, open_store
from store.users import ensure_user
from store.verbs import BindJob, Ended, Granted, GrantSource, Hold, LacksCredits, Refunded, Refused, Settle, Usage
from tests.store.till import reserving

PAST = timedelta(seconds=-1)


async def _account(store: Store, credits: int = 1_000) -> AccountId:
    user, _ = await ensure_user(store, "payer", None, credits)
    return user.account.account_id


async def _hold(
    store: Store,
    account_id: AccountId,
    credits: int = 10,
    due: timedelta = timedelta(minutes=10),
    rule: OnDeadline = OnDeadline.RELEASE,
) -> Hold:
    verb = reserving(store.ids.next(), account_id, credits, deadline=utc_now() + due, on_deadline=rule)
    hold = await store.ledger.reserve(verb)
    assert isinstance(hold, Hold)
    return hold


def _soon() -> datetime:
    """Later than what was due in the past, by whichever clock."""
    return utc_now() + timedelta(seconds=1)


async def test_the_verbs_of_a_life(store: Store) -> None:
    """Grant, reserve, bind, settle, refund, deduct; and every answer says what is left."""
    account = await _account(store, 0)
    granted = await store.ledger.grant(account, 100, GrantSource.PURCHASE, "payment 1", "top-up")
    assert isinstance(granted, Granted)
    hold = await _hold(store, account, 60)
    bound = await store.ledger.bind_job(
        BindJob(hold.hold_id, account, "job 1", utc_now() + timedelta(hours=1), OnDeadline.QUOTE)
    )
    assert bound == hold
    ended = await store.ledger.settle(Settle(hold.hold_id, account, 50, Usage(), "completed"))
    assert isinstance(ended, Ended)
    assert (ended.charged, ended.available) == (50, 50)
    refunded = await store.ledger.refund(hold.hold_id, account, 20, "complaint")
    assert refunded == Refunded(hold.hold_id, hold.funding, 20, 70)
    assert isinstance(await store.ledger.deduct(account, 70, "correction"), Granted)
    assert await store.ledger.deduct(account, 1, "correction") == LacksCredits(1, 0)


async def test_a_grant_may_lapse(store: Store) -> None:
    """With its own date, which the verb hands on."""
    account = await _account(store, 0)
    await store.ledger.grant(account, 100, GrantSource.PROMO, "promo", "gift", expires_at=utc_now() + PAST)
    verb = reserving(store.ids.next(), account, 1, deadline=utc_now())
    assert await store.ledger.reserve(verb) == LacksCredits(1, 0)


async def test_the_sweeper_resolves_what_is_overdue_and_nothing_else(store: Store) -> None:
    """Each hold by its own rule."""
    account = await _account(store)
    released = await _hold(store, account, due=PAST)
    charged = await _hold(store, account, due=PAST, rule=OnDeadline.QUOTE)
    waiting = await _hold(store, account)
    assert await store.ledger.expire_overdue(_soon()) == 2
    rows = [await store.database.read(reports.hold, hold.hold_id) for hold in (released, charged, waiting)]
    assert [(row["state"], row["settled_amount"]) for row in rows if row] == [
        (HoldState.EXPIRED, 0),
        (HoldState.SETTLED, 10),
        (HoldState.RESERVED, 0),
    ]


async def test_the_sweeper_takes_all_of_them_a_few_at_a_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are; a second run finds nothing."""
    monkeypatch.setattr("store.ledger.SWEEP_SIZE", 5)
    account = await _account(store)
    for _ in range(15):
        await _hold(store, account, due=PAST)
    assert await store.ledger.expire_overdue(_soon()) == 15
    assert await store.ledger.expire_overdue(_soon()) == 0


async def test_a_sweeper_whose_clock_is_ahead_ends_nothing_early(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The moment of the ledger decides; and the sweeper does not run in circles."""
    monkeypatch.setattr("store.ledger.SWEEP_SIZE", 2)
    account = await _account(store)
    for _ in range(5):
        await _hold(store, account)
    assert await store.ledger.expire_overdue(utc_now() + timedelta(days=1)) == 0
    assert len(await store.database.read(reports.open_holds, 10)) == 5


async def test_two_sweepers_resolve_each_hold_once(database_url: str) -> None:
    """On two nodes at the same moment, while requests settle some of the holds."""
    async with open_store(database_url, utc_now) as one, open_store(database_url, utc_now) as other:
        account = await _account(one)
        holds = [await _hold(one, account, due=PAST, rule=OnDeadline.QUOTE) for _ in range(30)]
        settling = [one.ledger.settle(Settle(hold.hold_id, account, 4, Usage(), "done")) for hold in holds[::3]]
        by_one, by_other, *ended = await asyncio.gather(
            one.ledger.expire_overdue(_soon()), other.ledger.expire_overdue(_soon()), *settling
        )
        assert by_one + by_other + sum(end.changed for end in ended if isinstance(end, Ended)) == 30
        assert await one.database.read(reports.open_holds, 10) == []


async def test_a_hold_can_be_ended_without_waiting(store: Store) -> None:
    """For a request whose client has left."""
    account = await _account(store)
    hold = await _hold(store, account)
    store.ledger.end_soon(Settle(hold.hold_id, account, 3, Usage(), "left"))
    late = await store.ledger.release(hold.hold_id, account, "left")
    assert isinstance(late, Ended)
    assert (late.state, late.charged) == (HoldState.SETTLED, 3)


async def test_answers_that_are_no_amounts(store: Store) -> None:
    """Nothing is raised for what a caller can get wrong."""
    account = await _account(store)
    nothing = store.ids.next()
    assert await store.ledger.release(nothing, account, "") is Refused.UNKNOWN_HOLD
    assert await store.ledger.refund(nothing, account, None, "") is Refused.UNKNOWN_HOLD
    assert await store.ledger.settle(Settle(nothing, account, None, Usage(), "")) is Refused.UNKNOWN_HOLD
    assert await store.ledger.deduct(AccountId(10**9), 1, "") is Refused.UNKNOWN_ACCOUNT
    hold = await _hold(store, account)
    assert await store.ledger.refund(hold.hold_id, account, None, "") is Refused.NOT_SETTLED

"""The ledger as requests, jobs and operators use it."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from config.clock import utc_now
from policies.holds import HoldState
from policies.terms import AccountId, OnDeadline
from store import reports, tables
from store.ids import id_text
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
    verb = reserving(store.ids.next(), account_id, credits, lasts=due, on_deadline=rule)
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
    bound = await store.ledger.bind_job(BindJob(hold.hold_id, account, "job 1", timedelta(hours=1), OnDeadline.QUOTE))
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
    ends = utc_now() + timedelta(days=1)
    await store.ledger.grant(account, 100, GrantSource.PROMO, "promo", "gift", expires_at=ends, priority=7)
    (grant,) = await store.database.read(reports.grants, account)
    assert (grant["expires_at"], grant["priority"], grant["source"]) == (ends, 7, "promo")


async def test_credits_do_not_lapse_before_they_are_granted(store: Store) -> None:
    """A date that has passed is an answer and grants nothing; the key can be used again, and then stays used."""
    account = await _account(store, 0)
    gift = account, 100, GrantSource.PROMO, "promo", "gift"
    assert await store.ledger.grant(*gift, expires_at=utc_now() + PAST) is Refused.LAPSED
    assert await store.ledger.reserve(reserving(store.ids.next(), account, 1)) == LacksCredits(1, 0)
    assert (await store.ledger.grant(*gift)).changed  # type: ignore[union-attr]
    assert not (await store.ledger.grant(*gift, expires_at=utc_now() + PAST)).changed  # type: ignore[union-attr]


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


async def test_a_hold_that_cannot_be_resolved_stands_in_nobodys_way(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody's hand was in the tables: the sweeper says which hold it is, and ends all others, also those behind."""
    monkeypatch.setattr("store.ledger.SWEEP_SIZE", 2)
    account = await _account(store)
    holds = [await _hold(store, account, due=timedelta(seconds=-10 + number)) for number in range(6)]
    spoilt = {holds[number].hold_id for number in (0, 1, 3)}
    taken = sa.update(tables.holds).where(tables.holds.c.id.in_(spoilt)).values(taken={"grants": [[4711, 10]]})
    await store.database.write(lambda connection: connection.execute(taken))
    assert await store.ledger.expire_overdue(_soon()) == 3
    assert {row["id"] for row in await store.database.read(reports.open_holds, 10)} == spoilt
    for hold_id in spoilt:
        assert f"hold {id_text(hold_id)} is overdue and cannot be resolved" in caplog.text


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

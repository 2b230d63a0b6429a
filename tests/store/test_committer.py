"""The committer: many verbs in one transaction, each with its own fate, none lost and none done twice."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
from collections.abc import AsyncIterator, Coroutine
from datetime import timedelta
from typing import Any, cast

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import await_only

from config.clock import utc_now
from policies.terms import AccountId, HoldId, OnDeadline
from store import reports
from store.batch import run_batch
from store.committer import Committer
from store.engine import Database, StoreUnavailable
from store.opening import Store, open_store
from store.schema import migrate
from store.users import ensure_user
from store.verbs import (
    BindJob,
    Ended,
    Granted,
    GrantSource,
    Hold,
    LacksCredits,
    Refused,
    Release,
    Reserve,
    Settle,
    Usage,
)
from store.verify import verify
from tests.store.till import reserving


@pytest.fixture
async def committer(database_url: str) -> AsyncIterator[Committer]:
    """One that has not started: what is submitted waits."""
    database = Database(database_url, utc_now)
    yield Committer(database)
    await database.close()


async def _account(store: Store, credits: int = 1_000_000) -> AccountId:
    user, _ = await ensure_user(store, "payer", None, credits)
    return user.account.account_id


def _reserve(store: Store, account_id: AccountId, credits: int) -> Reserve:
    return reserving(store.ids.next(), account_id, credits)


async def _rows(store: Store, statement: str) -> list[dict[str, Any]]:
    def select(connection: Connection) -> list[dict[str, Any]]:
        return [dict(row) for row in connection.execute(sa.text(statement)).mappings()]

    return await store.database.read(select)


async def _assert_sound(store: Store) -> None:
    assert [check for check in await store.database.read(verify) if check.breaches] == []


async def test_verbs_that_wait_are_committed_together(store: Store) -> None:
    """Two hundred requests share a handful of transactions, which have one moment each."""
    account = await _account(store)
    holds = await asyncio.gather(*(store.ledger.reserve(_reserve(store, account, 1)) for _ in range(200)))
    assert all(isinstance(hold, Hold) for hold in holds)
    moments = await _rows(store, "SELECT DISTINCT created_at FROM holds")
    assert len(moments) <= 5


async def test_answers_go_to_those_who_asked(store: Store) -> None:
    """In whatever order and company they asked."""
    account = await _account(store)
    verbs = [_reserve(store, account, amount) for amount in random.Random(1).sample(range(1, 500), 100)]
    holds = await asyncio.gather(*(store.ledger.reserve(verb) for verb in verbs))
    assert [hold.hold_id for hold in holds] == [verb.hold_id for verb in verbs]  # type: ignore[union-attr]
    assert [hold.amount for hold in holds] == [verb.credits for verb in verbs]  # type: ignore[union-attr]


async def test_a_verb_that_fails_fails_alone(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """The others of its batch are committed as if it had never been there."""
    account = await _account(store)
    amounts = [10, -1, 20, -2, 30]
    answers = await asyncio.gather(
        *(store.ledger.reserve(_reserve(store, account, amount)) for amount in amounts), return_exceptions=True
    )
    assert [isinstance(answer, Hold) for answer in answers] == [True, False, True, False, True]
    assert [isinstance(answer, IntegrityError) for answer in answers] == [False, True, False, True, False]
    assert (await store.database.read(reports.balance, account, utc_now())).pending == 60
    assert [record.levelname for record in caplog.records].count("ERROR") == 2
    await _assert_sound(store)


async def test_the_committer_survives_a_verb_that_fails(store: Store) -> None:
    """The next one is served."""
    account = await _account(store)
    with pytest.raises(IntegrityError):
        await store.ledger.reserve(_reserve(store, account, -1))
    assert isinstance(await store.ledger.reserve(_reserve(store, account, 1)), Hold)


async def test_while_the_database_is_locked_nothing_happens(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who wait are told, nothing is taken for them, and afterwards the ledger goes on by itself."""
    monkeypatch.setattr("store.engine.BUSY_TIMEOUT_MS", 50)
    keeper = create_async_engine(database_url)
    async with open_store(database_url, utc_now) as store:
        account = await _account(store)
        async with keeper.begin() as connection:
            await connection.execute(sa.text("UPDATE accounts SET revision = revision"))
            answers = await asyncio.gather(
                *(store.ledger.reserve(_reserve(store, account, 10)) for _ in range(20)), return_exceptions=True
            )
        assert {type(answer) for answer in answers} == {StoreUnavailable}
        assert isinstance(await store.ledger.reserve(_reserve(store, account, 10)), Hold)
        assert (await store.database.read(reports.balance, account, utc_now())).pending == 10
    await keeper.dispose()


async def test_a_batch_that_waited_decides_by_the_moment_of_its_turn(database_url: str) -> None:
    """Not by the moment at which it began to wait, when another day may have been."""
    keeper = create_async_engine(database_url)
    async with open_store(database_url, utc_now) as store:
        account = await _account(store)
        async with keeper.begin() as connection:
            await connection.execute(sa.text("UPDATE accounts SET revision = revision"))
            reserving_one = asyncio.ensure_future(store.ledger.reserve(_reserve(store, account, 10)))
            await asyncio.sleep(0.1)
            turn = utc_now()
        assert isinstance(await reserving_one, Hold)
        (row,) = await store.database.read(reports.open_holds, 10)
        assert row["created_at"] >= turn
    await keeper.dispose()


async def test_more_verbs_than_may_wait_are_turned_away(committer: Committer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue has a bound; those who are in it are served."""
    monkeypatch.setattr("store.committer.MAX_WAITING", 10)
    verbs = [Release(HoldId(number), AccountId(1_000_000_000), "") for number in range(11)]
    answers = [committer.submit(verb) for verb in verbs[:10]]
    with pytest.raises(StoreUnavailable, match="too many requests wait"):
        committer.submit(verbs[10])
    committer.start()
    assert await asyncio.gather(*answers) == [Refused.UNKNOWN_ACCOUNT] * 10
    assert await committer.submit(verbs[10]) is Refused.UNKNOWN_ACCOUNT
    await committer.close()


async def test_closing_commits_what_waits(database_url: str) -> None:
    """More than one batch of it, and after that nothing is accepted."""
    async with open_store(database_url, utc_now) as store:
        account = await _account(store)
        reserving_all = [asyncio.ensure_future(store.ledger.reserve(_reserve(store, account, 1))) for _ in range(600)]
        await asyncio.sleep(0)
    holds = [await hold for hold in reserving_all]
    assert all(isinstance(hold, Hold) for hold in holds)
    with pytest.raises(StoreUnavailable, match="shutting down"):
        await store.ledger.reserve(_reserve(store, account, 1))
    async with open_store(database_url, utc_now) as reopened:
        assert (await reopened.database.read(reports.balance, account, utc_now())).pending == 600
        await _assert_sound(reopened)


async def test_who_stops_waiting_for_a_settlement_does_not_stop_it(store: Store) -> None:
    """At whatever moment: the hold settles once, with its amount."""
    account, chance = await _account(store), random.Random(2)
    holds = await asyncio.gather(*(store.ledger.reserve(_reserve(store, account, 10)) for _ in range(100)))
    settling = [
        asyncio.ensure_future(store.ledger.settle(Settle(hold.hold_id, account, 7, Usage(), "done")))
        for hold in holds
        if isinstance(hold, Hold)
    ]
    for task in settling:
        await asyncio.sleep(chance.choice((0, 0, 0, 0.001)))
        task.cancel()
    await asyncio.gather(*settling, return_exceptions=True)
    await store.ledger.release(HoldId(0), account, "to wait for all before it")
    assert await _rows(store, "SELECT DISTINCT state, settled_amount FROM holds") == [
        {"state": "settled", "settled_amount": 7}
    ]
    await _assert_sound(store)


async def test_a_verb_that_fails_when_nobody_waits_is_no_riddle(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its waiter was cancelled: the event loop has no exception to complain of, and the ledger goes on."""
    # What the log keeps of a fault would keep its future alive, which complains when it dies.
    monkeypatch.setattr(logging.getLogger("store.committer"), "disabled", True)
    riddles: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: riddles.append(context))
    account, unwritable = await _account(store), cast(Any, object())
    hold = await store.ledger.reserve(_reserve(store, account, 10))
    assert isinstance(hold, Hold)
    asked: list[Coroutine[Any, Any, object]] = [
        store.ledger.settle(Settle(hold.hold_id, account, -1, Usage(), "below zero")),
        store.ledger.release(hold.hold_id, account, unwritable),
        store.ledger.bind_job(BindJob(hold.hold_id, account, unwritable, timedelta(hours=1), OnDeadline.RELEASE)),
    ]
    for verb in asked:
        waiting = asyncio.ensure_future(verb)
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await store.ledger.release(HoldId(0), account, "to wait for all before it")
    gc.collect()
    assert riddles == []
    assert len(await store.database.read(reports.open_holds, 10)) == 1


@pytest.mark.parametrize("seed", range(3))
async def test_a_request_that_is_canceled_while_it_reserves_keeps_nothing(database_url: str, seed: int) -> None:
    """At whatever moment: its hold is released, or was never there; also when the store closes meanwhile."""
    chance = random.Random(seed)
    async with open_store(database_url, utc_now) as store:
        account = await _account(store)
        tasks = []
        for _ in range(100):
            tasks.append(asyncio.ensure_future(store.ledger.reserve(_reserve(store, account, 10))))
            await asyncio.sleep(chance.choice((0, 0, 0, 0.0005)))
            if chance.random() < 0.7:
                chance.choice(tasks).cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    kept = {answer.hold_id for answer in answers if isinstance(answer, Hold)}
    assert 0 < len(kept) < 100
    async with open_store(database_url, utc_now) as store:
        assert {row["id"] for row in await store.database.read(reports.open_holds, 1000)} == kept
        await _assert_sound(store)


async def test_a_request_that_is_canceled_while_the_store_closes_keeps_nothing(database_url: str) -> None:
    """What nobody waits for any more is released before the end, also out of the very last batch."""
    async with open_store(database_url, utc_now) as store:
        account = await _account(store)
        reserving_one = asyncio.ensure_future(store.ledger.reserve(_reserve(store, account, 10)))
        await asyncio.sleep(0)
        reserving_one.cancel()
    async with open_store(database_url, utc_now) as store:
        rows = await _rows(store, "SELECT state, end_reason FROM holds")
        assert rows == [{"state": "released", "end_reason": "canceled"}]


async def test_a_canceled_request_is_released_although_the_queue_is_full(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Overload is when clients leave; what they leave behind must not wait for a deadline that may charge it."""
    account = await _account(store)
    monkeypatch.setattr("store.committer.MAX_BATCH", 10)
    reserving_all = [asyncio.ensure_future(store.ledger.reserve(_reserve(store, account, 1))) for _ in range(10)]
    await asyncio.sleep(0)
    # When the first batch is committed, the second leaves ten verbs behind in a queue that is full with five.
    for _ in range(20):
        store.ledger.end_soon(Release(HoldId(0), account, ""))
    monkeypatch.setattr("store.committer.MAX_WAITING", 5)
    for task in reserving_all:
        task.cancel()
    answers = await asyncio.gather(*reserving_all, return_exceptions=True)
    assert {type(answer) for answer in answers} == {asyncio.CancelledError}
    with pytest.raises(StoreUnavailable, match="too many requests wait"):
        await store.ledger.release(HoldId(0), account, "")
    monkeypatch.undo()
    await store.ledger.release(HoldId(0), account, "to wait for all before it")
    await store.ledger.release(HoldId(0), account, "and for what they left behind")
    rows = await _rows(store, "SELECT state, end_reason FROM holds")
    assert rows == [{"state": "released", "end_reason": "canceled"}] * 10


@pytest.mark.parametrize("funds", [0, 1, 50])
async def test_funds_for_fifty_of_two_hundred_admit_fifty(store: Store, funds: int) -> None:
    """No overspend and no underspend, however many ask at once."""
    account = await _account(store, funds * 10)
    answers = await asyncio.gather(*(store.ledger.reserve(_reserve(store, account, 10)) for _ in range(200)))
    assert sum(isinstance(answer, Hold) for answer in answers) == funds
    assert all(answer == LacksCredits(10, 0) for answer in answers if not isinstance(answer, Hold))
    await _assert_sound(store)


async def test_a_payment_that_is_confirmed_many_times_at_once_counts_once(database_url: str) -> None:
    """Over several processes, with one key."""
    async with open_store(database_url, utc_now) as one, open_store(database_url, utc_now) as other:
        account = await _account(one, 0)
        answers = await asyncio.gather(
            *(s.ledger.grant(account, 500, GrantSource.PURCHASE, "payment 1", "top-up") for s in (one, other) * 10)
        )
        assert [isinstance(answer, Granted) and answer.changed for answer in answers].count(True) == 1
        assert (await one.database.read(reports.balance, account, utc_now())).posted == 500


async def test_a_hold_that_many_want_to_end_ends_once(database_url: str) -> None:
    """Settled in one process, released in another: one of them decides, and all read the same outcome."""
    async with open_store(database_url, utc_now) as one, open_store(database_url, utc_now) as other:
        account = await _account(one)
        for _ in range(5):
            hold = await one.ledger.reserve(_reserve(one, account, 10))
            assert isinstance(hold, Hold)
            ends = await asyncio.gather(
                one.ledger.settle(Settle(hold.hold_id, account, 7, Usage(), "done")),
                other.ledger.release(hold.hold_id, account, "failed"),
                other.ledger.settle(Settle(hold.hold_id, account, 9, Usage(), "done")),
                one.ledger.release(hold.hold_id, account, "failed"),
            )
            assert len({(end.state, end.charged) for end in ends if isinstance(end, Ended)}) == 1
            assert sum(end.changed for end in ends if isinstance(end, Ended)) == 1
        await _assert_sound(one)


async def test_a_job_that_two_nodes_bind_at_the_same_moment_is_bound_once(postgresql_url: str) -> None:
    """Who comes second waits for the first, finds the id taken, and is told so."""
    await migrate(postgresql_url)
    async with open_store(postgresql_url, utc_now) as one, open_store(postgresql_url, utc_now) as other:
        bindings = []
        for name in ("payer", "another payer"):
            user, _ = await ensure_user(one, name, None, 100)
            hold = await one.ledger.reserve(_reserve(one, user.account.account_id, 1))
            assert isinstance(hold, Hold)
            bindings.append(BindJob(hold.hold_id, hold.account_id, "job", timedelta(hours=1), OnDeadline.RELEASE))

        def bind_and_wait(connection: Connection) -> None:
            run_batch(connection, bindings[:1], one.database.now)
            begun.set()
            while not await_only(one.database.read(_someone_waits)):
                pass

        begun = asyncio.Event()
        first = asyncio.create_task(one.database.write(bind_and_wait))
        await begun.wait()
        assert await other.ledger.bind_job(bindings[1]) is Refused.JOB_TAKEN
        await first


def _someone_waits(connection: Connection) -> bool:
    return bool(connection.execute(sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")).scalar())

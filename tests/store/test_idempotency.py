"""Idempotency keys in the store: of many requests one gets the key, and its answer is there when its charge is."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from config.clock import utc_now
from jobs.forget_keys import forget_keys
from jobs.turns import Turn
from policies.idempotency import Verdict
from policies.terms import AccountId, HoldId
from store import idempotency
from store.idempotency import Claim, Used
from store.opening import Store, open_store
from store.verbs import Hold, KeptAnswer, Settle, Usage
from tests.store.till import NOON, Till, reserving

pytestmark = pytest.mark.asyncio(loop_scope="session")

DAY, PATIENCE = timedelta(days=1), timedelta(minutes=10)
ANSWER = KeptAnswer("key", 201, [("X-A", "ü"), ("X-A", "")], b"\x00\xff binary")


async def claim(
    till: Till, account: AccountId, request: int, fingerprint: str = "same", key: str = "key"
) -> Used | None:
    wanted = Claim(account, key, fingerprint, HoldId(request), DAY, PATIENCE)
    return await till.database.write(idempotency.claim, wanted, lambda _: till.now)


async def test_an_answer_is_kept_with_its_charge(till: Till) -> None:
    """Byte for byte, headers in their order, in the transaction that settles."""
    account = await till.account(100)
    hold = await till.hold(account, 5)
    assert await claim(till, account, hold.hold_id) is None
    running = await claim(till, account, 99)
    assert running is not None
    assert running.verdict is Verdict.WAIT
    await till.run(Settle(hold.hold_id, account, None, Usage(), "answered", ANSWER))
    used = await claim(till, account, 99)
    assert used is not None
    assert (used.verdict, used.request_id, used.state, used.charged) == (Verdict.REPLAY, hold.hold_id, "settled", 5)
    assert used.answer == ANSWER
    other = await claim(till, account, 99, "other")
    assert other is not None
    assert (other.verdict, other.answer) == (Verdict.CONFLICT, None)


async def test_the_answer_to_an_acceptance_is_kept_with_its_job(till: Till) -> None:
    account = await till.account(100)
    hold = await till.hold(account, 5)
    await claim(till, account, hold.hold_id)
    await till.bind(hold, "job", answer=ANSWER)
    used = await claim(till, account, 99)
    assert used is not None
    assert (used.verdict, used.job_id, used.answer) == (Verdict.REPLAY, "job", ANSWER)


async def test_a_settlement_that_changes_nothing_keeps_nothing(till: Till) -> None:
    """A hold that was released first: its key is free, and whoever has it now is not given another's answer."""
    account = await till.account(100)
    hold = await till.hold(account, 5)
    await claim(till, account, hold.hold_id)
    await till.release(hold)
    assert await claim(till, account, 99) is None
    await till.run(Settle(hold.hold_id, account, None, Usage(), "answered", ANSWER))
    assert (await till.rows("SELECT request_id, status FROM idempotency_keys")) == [{"request_id": 99, "status": None}]


async def test_who_was_overtaken_keeps_nothing(till: Till) -> None:
    """A key that another request has taken over is that one's, also when the first settles after all."""
    account = await till.account(100)
    await claim(till, account, 7)
    till.now = NOON + PATIENCE
    assert await claim(till, account, 8) is None
    (hold,) = await till.run(reserving(7, account, 5))
    assert isinstance(hold, Hold)
    await till.run(Settle(hold.hold_id, account, None, Usage(), "answered", ANSWER))
    used = await claim(till, account, 9)
    assert used is not None
    assert (used.verdict, used.request_id) == (Verdict.WAIT, 8)


async def test_a_key_without_a_hold_is_given_up(till: Till) -> None:
    """By the request itself where it was refused, and after its patience where its process died."""
    account = await till.account(100)
    wanted = Claim(account, "key", "same", HoldId(7), DAY, PATIENCE)
    await claim(till, account, 7)
    await till.database.write(idempotency.give_up, wanted)
    assert await claim(till, account, 8, "other") is None
    await till.database.write(idempotency.give_up, wanted)
    assert await claim(till, account, 9) is not None
    till.now = NOON + PATIENCE
    assert await claim(till, account, 9) is None


async def test_a_key_with_a_hold_is_not_given_up(till: Till) -> None:
    """Whoever says so: then the hold decides."""
    account = await till.account(100)
    hold = await till.hold(account, 5)
    await claim(till, account, hold.hold_id)
    await till.database.write(idempotency.give_up, Claim(account, "key", "same", hold.hold_id, DAY, PATIENCE))
    assert await claim(till, account, 99) is not None


async def test_keys_of_accounts_are_apart(till: Till) -> None:
    one, other = await till.account(100), await till.account(100)
    assert await claim(till, one, 7) is None
    assert await claim(till, other, 8) is None
    assert await claim(till, one, 9, key="another") is None


@pytest.mark.asyncio(loop_scope="function")
async def test_of_many_at_once_one_gets_the_key(database_url: str) -> None:
    """Over two stores, as two nodes have them; and of many that find it free again, one takes it over."""
    async with open_store(database_url, utc_now) as one, open_store(database_url, utc_now) as other:

        async def taken(number: int, key: str, lasts: timedelta = DAY) -> bool:
            wanted = Claim(AccountId(1), key, "same", HoldId(number), lasts, PATIENCE)
            store = one if number % 2 else other
            return await store.database.write(idempotency.claim, wanted, store.database.now) is None

        # One is new; the other has been kept for no time at all, so that every claim finds it expired.
        assert await taken(99, "expired", timedelta(microseconds=1))
        for key in ("new", "expired"):
            assert sum(await asyncio.gather(*(taken(number, key) for number in range(20)))) == 1


@pytest.mark.asyncio(loop_scope="function")
async def test_expired_keys_are_forgotten(store: Store) -> None:
    """All of them, batch by batch, and no other."""

    async def claims(first: int, count: int, lasts: timedelta) -> None:
        for number in range(first, first + count):
            wanted = Claim(AccountId(1), f"key {number}", "same", HoldId(number), lasts, PATIENCE)
            await store.database.write(idempotency.claim, wanted, store.database.now)

    await claims(0, 5, timedelta(microseconds=1))
    await claims(5, 2, DAY)
    turn = Turn(store, utc_now, asyncio.Event(), "forget_keys", "the test")
    await turn.begin()
    assert await forget_keys(store, turn) == {"keys_forgotten": 5}
    assert await forget_keys(store, turn) == {"keys_forgotten": 0}

"""Endings that the store could not take are tried again, until it does or the process ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from config.clock import utc_now
from policies.terms import AccountId, HoldId
from store import reports
from store.committer import Committer
from store.engine import Database, StoreUnavailable
from store.opening import Store, open_store
from store.repeating import Repeater
from store.users import ensure_user
from store.verbs import Hold, Release, Settle, Usage
from store.verify import verify
from tests.store.till import reserving


@pytest.fixture
async def store(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Store]:
    """One that gives a lock up soon, and tries again soon."""
    monkeypatch.setattr("store.engine.BUSY_TIMEOUT_MS", 100)
    monkeypatch.setattr("store.repeating.PAUSE_S", 0.01)
    async with open_store(database_url, utc_now) as opened:
        yield opened
        assert [check for check in await opened.database.read(verify) if check.breaches] == []


async def _hold(store: Store, amount: int = 10) -> Hold:
    user, _ = await ensure_user(store, "payer", None, 100)
    hold = await store.ledger.reserve(reserving(store.ids.next(), user.account.account_id, amount))
    assert isinstance(hold, Hold)
    return hold


def _settling(hold: Hold, amount: int | None = 7) -> Settle:
    return Settle(hold.hold_id, hold.account_id, amount, Usage(), "done")


@asynccontextmanager
async def away(url: str) -> AsyncIterator[None]:
    """Somebody keeps the rows locked: every write is given up."""
    keeper = create_async_engine(url)
    async with keeper.begin() as connection:
        await connection.execute(sa.text("UPDATE accounts SET revision = revision"))
        yield
    await keeper.dispose()


async def _ended(store: Store, hold: Hold) -> tuple[str, int]:
    """How a hold has ended, once it has."""
    while True:
        row = await store.database.read(reports.hold, hold.hold_id)
        assert row is not None
        if row["state"] != "reserved":
            return row["state"], row["settled_amount"]
        await asyncio.sleep(0.01)


async def test_an_ending_is_written_when_the_store_is_back(store: Store, database_url: str) -> None:
    """With its own amount, and whoever waited was told meanwhile."""
    hold = await _hold(store)
    async with away(database_url):
        with pytest.raises(StoreUnavailable):
            await store.ledger.end(_settling(hold))
        with pytest.raises(StoreUnavailable):
            await store.ledger.end(_settling(hold, 8))
    assert await _ended(store, hold) == ("settled", 7), "the first ending is the ending"


@pytest.mark.parametrize("waits", [False, True])
async def test_an_ending_that_nobody_waits_for_is_written_too(store: Store, database_url: str, waits: bool) -> None:
    """Whether the client has left before, or while it was being written."""
    hold = await _hold(store)
    async with away(database_url):
        if waits:
            waiter = asyncio.create_task(store.ledger.end(_settling(hold)))
            await asyncio.sleep(0)
            waiter.cancel()
            with suppress(asyncio.CancelledError):
                await waiter
        else:
            store.ledger.end_soon(_settling(hold))
        await asyncio.sleep(0.2)
    assert await _ended(store, hold) == ("settled", 7)


async def test_an_ending_finds_that_another_was_quicker(store: Store, database_url: str) -> None:
    """A sweeper on another node: the ending that comes late changes nothing, and is not tried for ever."""
    hold = await _hold(store)
    async with away(database_url):
        with pytest.raises(StoreUnavailable):
            await store.ledger.end(Release(hold.hold_id, hold.account_id, "failed"))
    async with open_store(database_url, utc_now) as other:
        await other.ledger.settle(_settling(hold))
    state = await _ended(store, hold)
    assert state in (("settled", 7), ("released", 0))


async def test_what_is_not_written_yet_is_tried_once_more_at_the_end(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that stops does not wait for the next pause."""
    monkeypatch.setattr("store.engine.BUSY_TIMEOUT_MS", 100)
    monkeypatch.setattr("store.repeating.PAUSE_S", 3600)
    async with open_store(database_url, utc_now) as store:
        hold = await _hold(store)
        async with away(database_url):
            with pytest.raises(StoreUnavailable):
                await store.ledger.end(_settling(hold))
    async with open_store(database_url, utc_now) as store:
        assert await _ended(store, hold) == ("settled", 7)


async def test_a_process_ends_although_the_store_is_away(
    database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The hold is left to its deadline, which is said."""
    monkeypatch.setattr("store.engine.BUSY_TIMEOUT_MS", 100)
    async with AsyncExitStack() as until_it_is_back, open_store(database_url, utc_now) as store:
        hold = await _hold(store)
        await until_it_is_back.enter_async_context(away(database_url))
        with pytest.raises(StoreUnavailable):
            await store.ledger.end(_settling(hold))
    assert "1 holds are left to their deadline" in caplog.text
    async with open_store(database_url, utc_now) as store:
        assert len(await store.database.read(reports.open_holds, 10)) == 1


class _Breaking(Database):
    """Its connection breaks after the next commit, so that nobody learns of it."""

    breaks = False

    async def write(self, change: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = await super().write(change, *args, **kwargs)
        if self.breaks:
            self.breaks = False
            raise StoreUnavailable("the connection is lost")
        return result


async def test_a_hold_that_nobody_was_told_of_is_given_back(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request was refused and not forwarded: its hold must not wait for a deadline that may charge it."""
    monkeypatch.setattr("store.opening.Database", _Breaking)
    monkeypatch.setattr("store.repeating.PAUSE_S", 0.01)
    async with open_store(database_url, utc_now) as store:
        assert isinstance(store.database, _Breaking)
        before = await _hold(store)
        verb = reserving(store.ids.next(), before.account_id, 10)
        store.database.breaks = True
        with pytest.raises(StoreUnavailable):
            await store.ledger.reserve(verb)
        lost = Hold(verb.hold_id, verb.account_id, before.funding, 10, 0)
        assert await _ended(store, lost) == ("released", 0)


async def test_a_settlement_that_was_written_after_all_is_not_written_twice(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second attempt finds the first one's effect."""
    monkeypatch.setattr("store.opening.Database", _Breaking)
    monkeypatch.setattr("store.repeating.PAUSE_S", 0.01)
    async with open_store(database_url, utc_now) as store:
        assert isinstance(store.database, _Breaking)
        hold = await _hold(store)
        store.database.breaks = True
        with pytest.raises(StoreUnavailable):
            await store.ledger.end(_settling(hold))
        # Closing tries once more.
    async with open_store(database_url, utc_now) as store:
        assert await _ended(store, hold) == ("settled", 7)
        assert len(await store.database.read(reports.usage, None, None, 10)) == 1
        assert [check for check in await store.database.read(verify) if check.breaches] == []


async def test_only_so_many_are_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Beyond the bound a hold is left to its deadline, by name; a hold has one ending."""
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/farebox.db", utc_now)
    committer = Committer(database)
    committer.start()
    repeater = Repeater(committer)
    for number in range(3):
        repeater.keep(Release(HoldId(number), AccountId(1), ""), at_most=2)
    repeater.keep(Release(HoldId(1), AccountId(1), "again"))
    assert [(verb.hold_id, verb.reason) for verb in repeater.waiting] == [(0, ""), (1, "")]
    assert "hold 0000000000002 is left to its deadline" in caplog.text
    for opened in (repeater, committer, database):
        await opened.close()  # type: ignore[attr-defined]

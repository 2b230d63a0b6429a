"""Stores for the jobs, a clock to travel with, and accounts that have holds and subscriptions."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from policies.quota import QuotaTerms
from policies.subscription import GRACE_DEFAULT
from policies.terms import AccountId, Funding, HoldId, OnDeadline
from seeds.load import load_catalogue
from seeds.reading import default_files
from store import catalogue, subscriptions
from store.opening import Store, open_store
from store.users import ensure_user
from store.verbs import Hold, Request, Reserve

QUOTA = QuotaTerms(daily=10, monthly=300, plan_version_id=1)


@dataclass
class Clock:
    """Stands still unless it is moved."""

    now: datetime = datetime(2025, 1, 15, 10, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@dataclass
class House:
    """A store with what tests do to it."""

    store: Store
    clock: Clock

    async def account(self, user_id: str = "ana", credits: int = 0) -> AccountId:
        user, _ = await ensure_user(self.store, user_id, None, credits)
        return user.account.account_id

    async def reserve(
        self,
        account_id: AccountId,
        amount: int,
        *,
        funding: Funding = Funding.QUOTA,
        lasts: timedelta = timedelta(hours=1),
        on_deadline: OnDeadline = OnDeadline.RELEASE,
        terms: QuotaTerms = QUOTA,
    ) -> HoldId:
        verb = Reserve(
            hold_id=self.store.ids.next(),
            account_id=account_id,
            revision=0,
            fundings=(funding,),
            credits=amount,
            quota=amount,
            quota_terms=terms,
            request=Request("ana", None, "chat:small", "use", "chat", "rev", "rule", 1),
            lasts=lasts,
            on_deadline=on_deadline,
        )
        outcome = await self.store.ledger.reserve(verb)
        assert isinstance(outcome, Hold)
        return outcome.hold_id

    async def subscribe(self, account_id: AccountId, plan_id: str) -> None:
        """A subscription that is paid for, if it costs anything."""
        now = self.clock.now
        plan = (await self.store.database.read(catalogue.load)).plan(plan_id)
        assert plan is not None
        arguments = (account_id, plan, GRACE_DEFAULT, "ana", now)
        key = f"invoice-{self.store.ids.next()}"
        await self.store.database.write(subscriptions.subscribe, *arguments, payment_key=key)

    async def pay(self, account_id: AccountId) -> None:
        """What is due, confirmed now."""
        key = f"invoice-{self.store.ids.next()}"
        await self.store.database.write(subscriptions.confirm, account_id, key, None, "ana", self.clock.now)


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[House]:
    """On SQLite and on PostgreSQL, where the database's own time decides."""
    clock = Clock()
    async with open_store(database_url, clock) as store:
        yield House(store, clock)


@pytest.fixture
async def houses(tmp_path: Path) -> AsyncIterator[tuple[House, House]]:
    """Two of the same kind with one clock, for a comparison over days. SQLite, where the clock can be moved."""
    clock = Clock()
    urls = [f"sqlite+aiosqlite:///{tmp_path}/{name}.db" for name in ("one", "other")]
    async with open_store(urls[0], clock) as one, open_store(urls[1], clock) as other:
        for store in (one, other):
            await load_catalogue(store, default_files())
        yield House(one, clock), House(other, clock)


@pytest.fixture
def local_time() -> Iterator[None]:
    """Restores the local time of the test process, which the scheduler moves to UTC."""
    before = os.environ.get("TZ")
    yield
    os.environ.pop("TZ", None)
    os.environ.update({"TZ": before} if before is not None else {})
    time.tzset()

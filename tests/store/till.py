"""The ledger as its tests hold it: verbs on a real database at a moment of the test's choosing.

After every test all laws of the ledger are verified, so each test is also a test of those.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection

from policies.quota import FairUseTerms, QuotaTerms
from policies.terms import AccountId, Funding, HoldId, Metric, OnDeadline
from store import quota_reports, reports
from store.batch import run_batch
from store.engine import Database
from store.open_holds import taken_by_open_holds
from store.rows import WindowRow
from store.tables import accounts, plan_versions
from store.verbs import (
    BindJob,
    Deduct,
    Ended,
    Expire,
    GrantCredits,
    Granted,
    GrantSource,
    Hold,
    Outcome,
    Refund,
    Release,
    Request,
    Reserve,
    Settle,
    Usage,
    Verb,
)
from store.verify import verify

NOON = datetime(2025, 3, 10, 12, 0, tzinfo=UTC)
REQUEST = Request("user", None, "app:model", "generate", "route", "policy", "rule", 1, {"seconds": "5"})
CREDITS, QUOTA = (Funding.CREDITS,), (Funding.QUOTA,)

Answer = TypeVar("Answer")


def reserving(
    hold_id: int,
    account_id: int,
    credits: int = 0,
    *,
    quota: int = 1,
    terms: QuotaTerms | None = None,
    fundings: Sequence[Funding] = CREDITS,
    revision: int = 0,
    deadline: datetime = NOON + timedelta(minutes=10),
    on_deadline: OnDeadline = OnDeadline.RELEASE,
    request: Request = REQUEST,
    fair_use: FairUseTerms | None = None,
) -> Reserve:
    """A Reserve with everything a test does not care about."""
    identity = HoldId(hold_id), AccountId(account_id), revision
    return Reserve(*identity, tuple(fundings), credits, quota, terms, request, deadline, on_deadline, fair_use)


def terms(daily: int, monthly: int | None = None, version: int = 1, **more: Any) -> QuotaTerms:
    return QuotaTerms(daily, monthly, version, **more)


class Till:
    """`now` moves only when a test moves it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now = NOON
        self._ids = count(1)

    async def run(self, *verbs: Verb) -> list[Outcome]:
        """The verbs in one transaction."""
        return await self.database.write(run_batch, verbs, lambda _: self.now)

    async def check(self) -> None:
        """Every law of the ledger holds."""
        # As a write, which on SQLite crosses to another thread once and not for every statement.
        checks = await self.database.write(verify)
        breaches = {check.name: check.breaches for check in checks if check.breaches}
        assert not breaches

    async def _one(self, verb: Verb) -> Any:
        return (await self.run(verb))[0]

    async def account(self, *grants: int) -> AccountId:
        """A new account with these grants, in micro-credits."""
        account_id = await self.database.write(_insert_account, self.now)
        for amount in grants:
            await self.grant(account_id, amount)
        return account_id

    async def accounts(self, count: int, credits: int) -> list[AccountId]:
        """Many accounts, with one grant each."""
        made = await self.database.write(
            lambda connection: [_insert_account(connection, self.now) for _ in range(count)]
        )
        source = GrantSource.PURCHASE
        await self.run(*(GrantCredits(next(self._ids), account, credits, source, "key", "top-up") for account in made))
        return made

    async def grant(
        self,
        account_id: AccountId,
        amount: int,
        *,
        key: str | None = None,
        priority: int = 100,
        expires_at: datetime | None = None,
    ) -> Granted:
        number = next(self._ids)
        source, key = GrantSource.PURCHASE, key or f"key {number}"
        return await self._one(GrantCredits(number, account_id, amount, source, key, "top-up", priority, expires_at))

    def hold_id(self) -> HoldId:
        return HoldId(next(self._ids))

    async def reserve(self, account_id: AccountId, credits: int = 0, **details: Any) -> Any:
        return await self._one(reserving(self.hold_id(), account_id, credits, **details))

    async def hold(self, account_id: AccountId, credits: int = 0, **details: Any) -> Hold:
        """A hold that must succeed."""
        outcome = await self.reserve(account_id, credits, **details)
        assert isinstance(outcome, Hold), outcome
        return outcome

    async def settle(self, hold: Hold, amount: int | None = None, usage: Usage | None = None) -> Any:
        return await self._one(Settle(hold.hold_id, hold.account_id, amount, usage or Usage(), "done"))

    async def settled(self, account_id: AccountId, credits: int, **details: Any) -> Hold:
        """A hold that has been settled with its whole amount."""
        hold = await self.hold(account_id, credits, **details)
        ended = await self.settle(hold)
        assert isinstance(ended, Ended)
        return hold

    async def release(self, hold: Hold) -> Any:
        return await self._one(Release(hold.hold_id, hold.account_id, "failed"))

    async def expire(self, hold: Hold) -> Any:
        return await self._one(Expire(hold.hold_id, hold.account_id))

    async def refund(self, hold: Hold, amount: int | None = None) -> Any:
        return await self._one(Refund(hold.hold_id, hold.account_id, amount, "sorry"))

    async def deduct(self, account_id: AccountId, amount: int) -> Any:
        return await self._one(Deduct(account_id, amount, "correction"))

    async def bind(self, hold: Hold, job_id: str, **details: Any) -> Any:
        details = {"deadline": NOON + timedelta(hours=1), "on_deadline": OnDeadline.RELEASE} | details
        return await self._one(BindJob(hold.hold_id, hold.account_id, job_id, **details))

    async def balance(self, account_id: AccountId) -> reports.Balance:
        return await self.database.read(reports.balance, account_id, self.now)

    async def grants(self, account_id: AccountId) -> list[tuple[int, int]]:
        """What the grants of an account have left and hold, oldest first."""
        rows = await self.rows(
            "SELECT id, unspent FROM credit_grants WHERE account_id = :id ORDER BY id", id=account_id
        )
        held = (await self.database.read(taken_by_open_holds, [account_id])).grants
        return [(row["unspent"] - held[row["id"]], held[row["id"]]) for row in rows]

    async def windows(self, account_id: AccountId) -> list[tuple[str, str, int, int]]:
        """The windows of an account, oldest first: day, metric, used, held."""
        rows = await self.database.read(quota_reports.windows, account_id, datetime(2000, 1, 1, tzinfo=UTC))
        return sorted((f"{r['window_start']:%m-%d}", r["metric"], r["used"], r["held"]) for r in rows)

    async def days(self, account_id: AccountId) -> list[tuple[str, str, int, int]]:
        """The daily windows of an account, oldest first: begin, end, the plan's own part, what was carried."""
        rows = await self.database.read(quota_reports.windows, account_id, datetime(2000, 1, 1, tzinfo=UTC))
        return [
            (f"{r['window_start']:%d %H:%M}", f"{r['window_end']:%d %H:%M}", r["limit"], r["carried"])
            for r in reversed(rows)
            if r["metric"] == Metric.DAILY
        ]

    async def now_in(self, account_id: AccountId, quota: QuotaTerms) -> list[WindowRow]:
        """The windows in force, as who only looks is shown them."""
        return await self.database.read(quota_reports.windows_now, account_id, quota, self.now)

    async def plan_version(self, number: int, **values: Any) -> None:
        """A version of some plan, by the columns in which it differs from others."""
        await self.database.write(insert_plan_version, number, self.now, values)

    async def entries(self, account_id: AccountId) -> list[tuple[str, int, int]]:
        """The entries of an account, oldest first: kind, amount, balance after it."""
        rows = await self.database.read(reports.entries, account_id, None, 1000)
        return [(row["kind"], row["amount"], row["balance_after"]) for row in reversed(rows)]

    async def rows(self, statement: str, **values: Any) -> list[dict[str, Any]]:
        return await self.database.read(_select, statement, values)

    async def tamper(self, *statements: str) -> None:
        """Somebody else's hand in the tables."""
        await self.database.write(_execute, statements)

    async def breaches_after(self, *statements: str, without: str | None = None) -> dict[str, list[str]]:
        """What verification would find after these statements, which are undone again.

        `without` names a constraint that is not there to prevent them: `table.constraint`.
        """
        return await self.database.write(_breaches_after, statements, without)


def _insert_account(connection: Connection, now: datetime) -> AccountId:
    values = {"kind": "user", "tags": [], "created_at": now}
    return AccountId(connection.execute(sa.insert(accounts).values(values).returning(accounts.c.id)).scalar_one())


def insert_plan_version(connection: Connection, number: int, now: datetime, values: dict[str, Any]) -> None:
    """One that differs from others only in `values`."""
    plan = {"plan_id": "plan", "version": number, "tier": "pro", "name": "", "description": "", "price": 0}
    plan |= {"currency": "USD", "cycle": "monthly", "daily_quota": 10, "max_model_tier": "pro", "features": {}}
    connection.execute(sa.insert(plan_versions).values(id=number, created_at=now, **plan, **values))


def _insert_accounts(connection: Connection, count: int, now: datetime) -> list[AccountId]:
    return [_insert_account(connection, now) for _ in range(count)]


def _select(connection: Connection, statement: str, values: dict[str, Any]) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(sa.text(statement), values).mappings()]


def _execute(connection: Connection, statements: Sequence[str]) -> None:
    for statement in statements:
        connection.execute(sa.text(statement))


def _breaches_after(connection: Connection, statements: Sequence[str], without: str | None) -> dict[str, list[str]]:
    with connection.begin_nested() as savepoint:
        if without is not None and connection.dialect.name == "sqlite":
            _execute(connection, ["PRAGMA ignore_check_constraints = ON"])
        elif without is not None:
            table, _, constraint = without.partition(".")
            _execute(connection, [f"ALTER TABLE {table} DROP CONSTRAINT {constraint}"])
        _execute(connection, statements)
        checks = verify(connection)
        savepoint.rollback()
    if connection.dialect.name == "sqlite":
        _execute(connection, ["PRAGMA ignore_check_constraints = OFF"])
    return {check.name: check.breaches for check in checks if check.breaches}

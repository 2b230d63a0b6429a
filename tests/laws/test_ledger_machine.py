"""The ledger does what an oracle says, step by step, and breaks no law on the way: on both databases.

A longer and random run: `FAREBOX_LAW_EXAMPLES=2000 pytest tests/laws`.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Connection

from config.clock import utc_now
from policies.terms import AccountId, Funding, HoldId, OnDeadline
from store import reports
from store.batch import run_batch
from store.engine import Database
from store.tables import accounts, credit_grants, holds, metadata, quota_windows
from store.verbs import (
    BindJob,
    Deduct,
    Expire,
    GrantCredits,
    GrantSource,
    Outcome,
    QuotaTerms,
    Refund,
    Refused,
    Release,
    Request,
    Reserve,
    Settle,
    Usage,
    Verb,
)
from store.verify import verify
from tests.laws.oracle import Oracle, Purse

EXAMPLES, STEPS = 15, 40
START = datetime(2025, 1, 30, 22, 0, tzinfo=UTC)
"""Two hours before the last day of a month, which is not the longest."""

ACCOUNTS = 3
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
REQUEST = Request("user", None, "app:model", "generate", "route", "policy", "rule", 1)


@dataclass(frozen=True)
class Asked:
    """A request: who, what it costs, and what becomes of its hold."""

    place: int
    credits: int
    quota: int
    fundings: tuple[Funding, ...]
    due: timedelta
    rule: OnDeadline
    revision: int


@dataclass(frozen=True)
class End:
    """What happens to a hold, `age` holds ago: by its owner, or by the account of another `place`."""

    how: str
    age: int
    amount: int | None
    place: int | None
    job: str
    due: timedelta
    rule: OnDeadline


places = st.integers(0, ACCOUNTS - 1)
fundings = st.sampled_from([(Funding.CREDITS,), (Funding.QUOTA,), (Funding.QUOTA, Funding.CREDITS)])
rules = st.sampled_from(list(OnDeadline))
dues = st.sampled_from([MINUTE, HOUR, DAY])
# Seldom a decision that has become stale.
revisions = st.integers(0, 15).map(lambda number: 1 if number == 15 else 0)
requests = st.builds(Asked, places, st.integers(0, 30), st.integers(0, 6), fundings, dues, rules, revisions)
ends = st.builds(
    End,
    st.sampled_from(["settle", "settle", "release", "expire", "refund", "bind"]),
    st.integers(0, 6),
    st.none() | st.integers(0, 50),
    st.integers(0, 15).map(lambda number: number % ACCOUNTS if number > 13 else None),
    st.sampled_from(["a", "b", "c"]),
    dues,
    rules,
)
lifetimes = st.sampled_from([None, None, HOUR, DAY, 30 * DAY])
waits = st.sampled_from([MINUTE, HOUR, 3 * HOUR, DAY, 3 * DAY, 28 * DAY, -MINUTE, -3 * HOUR, -DAY])
plans = st.builds(QuotaTerms, st.integers(0, 12), st.none() | st.integers(0, 20), st.integers(1, 9))


class _Crash(Exception):
    """The process dies before the commit."""


class LedgerMachine(RuleBasedStateMachine):
    """Verbs wait as they do in the committer, and are committed together when a step says so."""

    def __init__(self, runner: asyncio.Runner, database: Database) -> None:
        super().__init__()
        self._runner, self._database = runner, database
        self.oracle = Oracle()
        self.waiting: list[tuple[Verb, Outcome]] = []
        self.next_id = 1
        self.plans: dict[AccountId, QuotaTerms] = {}

    def _write(self, function: Any, *arguments: Any) -> Any:
        return self._runner.run(self._database.write(function, *arguments))

    @initialize()
    def begin(self) -> None:
        self.oracle.now = START
        self.accounts: list[AccountId] = self._write(_new_accounts)
        self.oracle.purses = {account: [] for account in self.accounts}
        self.plans = dict.fromkeys(self.accounts, QuotaTerms(10, None, 1))
        for account, amount in zip(self.accounts, (60, 20), strict=False):
            number = self._id()
            self._submit(GrantCredits(number, account, amount, GrantSource.BONUS, f"key {number}", ""), wait=True)

    def _id(self) -> int:
        self.next_id += 1
        return self.next_id

    def _submit(self, verb: Verb, wait: bool) -> Outcome:
        """The oracle decides in the order of arrival, whenever the ledger does."""
        outcome = self.oracle.expect(verb)
        kind = outcome.name if isinstance(outcome, Refused) else type(outcome).__name__
        event(f"{type(verb).__name__}: {kind}")
        self.waiting.append((verb, outcome))
        if not wait or len(self.waiting) >= 8:
            self._commit()
        return outcome

    def _commit(self, crash: bool = False) -> None:
        waiting, self.waiting = self.waiting, []
        if not waiting:
            return
        verbs, expected = [verb for verb, _ in waiting], [outcome for _, outcome in waiting]
        if crash:
            with suppress(_Crash):
                self._write(_run_and_crash, verbs, self.oracle.now)
        assert self._write(_run, verbs, self.oracle.now) == expected

    # Steps. `wait` leaves a verb for the next commit.

    @rule(
        place=places, amount=st.integers(1, 40), priority=st.sampled_from([1, 100]), life=lifetimes, wait=st.booleans()
    )
    def grant(self, place: int, amount: int, priority: int, life: timedelta | None, wait: bool) -> None:
        number, ends = self._id(), None if life is None else self.oracle.now + life
        source = GrantSource.PURCHASE
        verb = GrantCredits(number, self.accounts[place], amount, source, f"key {number}", "", priority, ends)
        self._submit(verb, wait)

    @rule(place=places, choice=st.integers(0, 100), amount=st.integers(1, 40))
    def grant_again(self, place: int, choice: int, amount: int) -> None:
        """With a key that was used before, by this account or by another."""
        keys = sorted({purse.grant.key for purses in self.oracle.purses.values() for purse in purses})
        key = keys[choice % len(keys)]
        self._submit(GrantCredits(self._id(), self.accounts[place], amount, GrantSource.BONUS, key, ""), wait=True)

    @rule(asked=st.lists(requests, min_size=1, max_size=4), wait=st.booleans())
    def reserve(self, asked: list[Asked], wait: bool) -> None:
        for ask in asked:
            account = self.accounts[ask.place]
            identity, ends = (HoldId(self._id()), account, ask.revision), (self.oracle.now + ask.due, ask.rule)
            verb = Reserve(*identity, ask.fundings, ask.credits, ask.quota, self.plans[account], REQUEST, *ends)
            self._submit(verb, wait=True)
        if not wait:
            self._commit()

    @precondition(lambda self: self.oracle.rides)
    @rule(ends=st.lists(ends, min_size=1, max_size=4), wait=st.booleans())
    def end(self, ends: list[End], wait: bool) -> None:
        """Holds that are open, or have been: the latest are the likeliest."""
        for end in ends:
            hold_id, ride = list(self.oracle.rides.items())[-1 - end.age % len(self.oracle.rides)]
            account = ride.verb.account_id if end.place is None else self.accounts[end.place]
            self._submit(self._verb(end, hold_id, account), wait=True)
        if not wait:
            self._commit()

    def _verb(self, end: End, hold_id: HoldId, account: AccountId) -> Verb:
        match end.how:
            case "settle":
                return Settle(hold_id, account, end.amount, Usage(), "done")
            case "release":
                return Release(hold_id, account, "failed")
            case "expire":
                return Expire(hold_id, account)
            case "refund":
                return Refund(hold_id, account, end.amount, "sorry")
        return BindJob(hold_id, account, end.job, self.oracle.now + end.due, end.rule)

    @rule(place=places, amount=st.integers(1, 30))
    def deduct(self, place: int, amount: int) -> None:
        self._submit(Deduct(self.accounts[place], amount, "correction"), wait=True)

    @rule(place=places, plan=plans)
    def change_plan(self, place: int, plan: QuotaTerms) -> None:
        self.plans[self.accounts[place]] = plan

    @rule(step=waits)
    def pass_time(self, step: timedelta) -> None:
        """Forwards, over midnights and month ends, and backwards."""
        self._commit()
        self.oracle.now += step

    @rule()
    def sweep(self) -> None:
        """Everything overdue at once, twice."""
        self._commit()
        overdue = self._write(_overdue, self.oracle.now)
        for hold_id, account in [*overdue, *overdue]:
            self._submit(Expire(hold_id, account), wait=True)
        self._commit()

    @rule(crash=st.booleans())
    def commit(self, crash: bool) -> None:
        """What a crash has lost is asked again, and answered as if there had been none."""
        self._commit(crash)

    # Laws.

    @invariant()
    def every_law_holds_and_every_amount_is_the_oracles(self) -> None:
        if self.waiting or not self.plans:
            return
        found = self._write(_everything, self.oracle.now)
        assert found["breaches"] == {}
        assert found["grants"] == {
            purse.grant.grant_id: (_count(purse, "free"), _count(purse, "held"))
            for purses in self.oracle.purses.values()
            for purse in purses
        }
        assert found["balances"] == {
            account: (
                self.oracle.count(account, "free", "held"),
                self.oracle.count(account, "held"),
                len(self.oracle.spendable(account)),
            )
            for account in self.accounts
        }
        assert found["holds"] == {
            hold_id: (ride.state, ride.amount, ride.settled, ride.refunded)
            for hold_id, ride in self.oracle.rides.items()
        }
        days = {day: (self.oracle.used(day), self.oracle.held(day)) for day in self.oracle.limits}
        assert found["windows"] == days

    def teardown(self) -> None:
        self._commit()
        self.every_law_holds_and_every_amount_is_the_oracles()


def _count(purse: Purse, kind: str) -> int:
    return sum((coin if isinstance(coin, str) else coin[0]) == kind for coin in purse.coins)


def _new_accounts(connection: Connection) -> list[AccountId]:
    """In a database that is empty again."""
    for table in reversed(metadata.sorted_tables):
        connection.execute(table.delete())
    values = {"kind": "user", "tags": [], "created_at": START}
    insert = sa.insert(accounts).values(values).returning(accounts.c.id)
    return [AccountId(connection.execute(insert).scalar_one()) for _ in range(ACCOUNTS)]


def _run(connection: Connection, verbs: list[Verb], now: datetime) -> list[Outcome]:
    return run_batch(connection, verbs, lambda _: now)


def _run_and_crash(connection: Connection, verbs: list[Verb], now: datetime) -> None:
    run_batch(connection, verbs, lambda _: now)
    raise _Crash


def _overdue(connection: Connection, now: datetime) -> list[tuple[HoldId, AccountId]]:
    query = sa.select(holds.c.id, holds.c.account_id).where(holds.c.state == "reserved", holds.c.deadline <= now)
    return [(row.id, row.account_id) for row in connection.execute(query)]


def _everything(connection: Connection, now: datetime) -> dict[str, Any]:
    """All amounts of the ledger, and what breaks a law."""
    grants = connection.execute(sa.select(credit_grants.c.id, credit_grants.c.remaining, credit_grants.c.held))
    columns = (holds.c.id, holds.c.state, holds.c.amount, holds.c.settled_amount, holds.c.refunded_amount)
    balances = {}
    for account in connection.scalars(sa.select(accounts.c.id)):
        balance = reports.balance(connection, account, now)
        balances[account] = (balance.posted, balance.pending, balance.available)
    windows = {}
    for row in connection.execute(sa.select(quota_windows)):
        name = f"{row.window_start:%Y-%m-%d}" if row.metric == "daily" else f"{row.window_start:%Y-%m}"
        windows[row.account_id, row.metric, name] = (row.used, row.held)
    return {
        "breaches": {check.name: check.breaches for check in verify(connection) if check.breaches},
        "grants": {row.id: (row.remaining, row.held) for row in grants},
        "balances": balances,
        "holds": {row.id: tuple(row)[1:] for row in connection.execute(sa.select(*columns))},
        "windows": windows,
    }


def test_the_ledger_does_what_the_oracle_says(database_url: str) -> None:
    """Whatever the order of verbs, batches, crashes, clocks and plans."""
    wanted = os.environ.get("FAREBOX_LAW_EXAMPLES")
    with asyncio.Runner() as runner:
        database = Database(database_url, utc_now)
        try:
            run_state_machine_as_test(
                lambda: LedgerMachine(runner, database),
                settings=settings(
                    max_examples=int(wanted or EXAMPLES),
                    stateful_step_count=STEPS,
                    # The suite tries the same examples every time; a long run tries others.
                    derandomize=wanted is None,
                    deadline=None,
                    database=None,
                    print_blob=True,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(database.close())

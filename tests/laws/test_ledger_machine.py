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
class Ask:
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


@dataclass(frozen=True)
class Give:
    """A grant; with the key of an earlier one, `again` grants ago, it is the same grant."""

    place: int
    amount: int
    priority: int
    life: timedelta | None
    again: int | None


@dataclass(frozen=True)
class Take:
    """A deduction."""

    place: int
    amount: int


def seldom(values: st.SearchStrategy[Any], otherwise: Any) -> st.SearchStrategy[Any]:
    """One time in eight."""
    return st.integers(0, 7).flatmap(lambda number: values if number == 7 else st.just(otherwise))


places = st.integers(0, ACCOUNTS - 1)
fundings = st.sampled_from([(Funding.CREDITS,), (Funding.QUOTA,), (Funding.QUOTA, Funding.CREDITS)])
rules = st.sampled_from(list(OnDeadline))
dues = st.sampled_from([MINUTE, HOUR, DAY])
lifetimes = st.sampled_from([None, None, HOUR, DAY, 30 * DAY])
ways = st.sampled_from(["settle", "settle", "release", "expire", "refund", "refund", "bind"])
parts = st.none() | st.integers(0, 50)
asks = st.builds(Ask, places, st.integers(0, 30), st.integers(0, 6), fundings, dues, rules, seldom(st.just(1), 0))
ends = st.builds(End, ways, st.integers(0, 6), parts, seldom(places, None), st.sampled_from("abc"), dues, rules)
gives = st.builds(
    Give, places, st.integers(1, 40), st.sampled_from([1, 100]), lifetimes, seldom(st.integers(0, 9), None)
)
takes = st.builds(Take, places, st.integers(1, 30))
happenings = st.one_of(asks, asks, asks, ends, ends, ends, gives, takes)
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
        for place, amount in enumerate((60, 20)):
            self._submit(self._verb(Give(place, amount, 100, None, None)))

    def _id(self) -> int:
        self.next_id += 1
        return self.next_id

    def _submit(self, verb: Verb | None) -> None:
        """The oracle decides in the order of arrival, whenever the ledger does."""
        assert verb is not None
        outcome = self.oracle.expect(verb)
        kind = outcome.name if isinstance(outcome, Refused) else type(outcome).__name__
        event(f"{type(verb).__name__}: {kind}")
        self.waiting.append((verb, outcome))

    def _commit(self, crash: bool = False) -> None:
        waiting, self.waiting = self.waiting, []
        if not waiting:
            return
        verbs, expected = [verb for verb, _ in waiting], [outcome for _, outcome in waiting]
        if crash:
            with suppress(_Crash):
                self._write(_run_and_crash, verbs, self.oracle.now)
        assert self._write(_run, verbs, self.oracle.now) == expected

    # Steps.

    @rule(what=st.lists(happenings, min_size=1, max_size=5), wait=st.booleans())
    def happen(self, what: list[Ask | End | Give | Take], wait: bool) -> None:
        """What arrives together, and with `wait` also with what comes next, is committed together."""
        for each in what:
            verb = self._verb(each)
            if verb is not None:
                self._submit(verb)
        if not wait:
            self._commit()

    def _verb(self, what: Ask | End | Give | Take) -> Verb | None:
        now = self.oracle.now
        match what:
            case Ask():
                account = self.accounts[what.place]
                identity, ends = (HoldId(self._id()), account, what.revision), (now + what.due, what.rule)
                price = what.fundings, what.credits, what.quota, self.plans[account]
                return Reserve(*identity, *price, REQUEST, *ends)
            case Give():
                number, purses = self._id(), [p for each in self.oracle.purses.values() for p in each]
                again = purses[-1 - what.again % len(purses)].grant.key if what.again is not None else None
                lapses = None if what.life is None else now + what.life
                source, key = GrantSource.PURCHASE, again or f"key {number}"
                return GrantCredits(
                    number, self.accounts[what.place], what.amount, source, key, "", what.priority, lapses
                )
            case Take():
                return Deduct(self.accounts[what.place], what.amount, "correction")
            case End():
                return self._ending(what) if self.oracle.rides else None

    def _ending(self, end: End) -> Verb:
        hold_id, ride = list(self.oracle.rides.items())[-1 - end.age % len(self.oracle.rides)]
        account = ride.verb.account_id if end.place is None else self.accounts[end.place]
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
            self._submit(Expire(hold_id, account))
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

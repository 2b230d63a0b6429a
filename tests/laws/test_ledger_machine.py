"""The ledger does what an oracle says, step by step, and breaks no law on the way: on both databases.

The suite tries few examples, the same ones every time; `make laws` tries as many others as one likes.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import hypothesis
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
from policies.quota import FairUseTerms, QuotaTerms
from policies.terms import AccountId, Funding, HoldId, Metric, OnDeadline, OnLate, Overrun
from policies.windows import Calendar
from store import reports
from store.batch import run_batch
from store.engine import Database
from store.open_holds import taken_by_open_holds
from store.tables import accounts, credit_grants, holds, quota_windows
from store.verbs import (
    BindJob,
    Deduct,
    Expire,
    Extend,
    GrantCredits,
    GrantSource,
    Outcome,
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
from tests.emptying import empty
from tests.laws.oracle import Oracle, Purse
from tests.store.till import insert_plan_version

EXAMPLES = {"sqlite": 12, "postgresql": 6}
STEPS = 40
START = datetime(2025, 1, 30, 22, 0, tzinfo=UTC)
"""Two hours before the last day of a month, which is not the longest."""

ACCOUNTS = 3
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
REQUEST = Request("user", None, "app:model", "generate", "route", "policy", "rule", 1)


HAPPENINGS = {"reserve": 8, "settle": 4, "release": 2, "expire": 1, "refund": 4, "bind": 1, "grant": 2, "deduct": 1}
HAPPENINGS |= {"extend": 1}
"""What happens, and how often in comparison."""

CALENDARS = [
    (ZoneInfo(zone), time(hour))
    for zone, hour in [("UTC", 0), ("Asia/Jakarta", 6), ("America/Santiago", 0), ("Asia/Kathmandu", 4)]
]
"""Far apart; the clocks of one are set at midnight, on the night of 6 April and of 7 September."""

FUNDINGS = [(Funding.CREDITS,), (Funding.QUOTA,), (Funding.QUOTA, Funding.CREDITS)]
EXEMPTIONS = [("exempt:house", Metric.DAILY), ("exempt:staff", Metric.MONTHLY)]
WAITS = [MINUTE, HOUR, 3 * HOUR, 7 * HOUR, DAY, 3 * DAY, 28 * DAY, -MINUTE, -3 * HOUR, -DAY, -3 * DAY]
STROLLS = [MINUTE, 5 * HOUR, 9 * HOUR, DAY, DAY, 2 * DAY, 5 * DAY, 17 * DAY, 40 * DAY, -MINUTE, -9 * HOUR, -22 * HOUR]
LIVES = [None, None, HOUR, DAY, 30 * DAY]

seeds = st.integers(0, 2**32)
"""Each step makes its verbs from one number: that spreads them better than drawing every amount, and still shrinks."""


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
        self.plans = {account: self._plan(random.Random(account)) for account in self.accounts}
        for account, amount in zip(self.accounts, (100, 30), strict=False):
            number = self._id()
            self._submit(GrantCredits(number, account, amount, GrantSource.BONUS, f"key {number}", ""))

    def _id(self) -> int:
        self.next_id += 1
        return self.next_id

    def _submit(self, verb: Verb) -> None:
        """The oracle decides in the order of arrival, whenever the ledger does."""
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

    @rule(seed=seeds, count=st.integers(1, 6), wait=st.booleans())
    def happen(self, seed: int, count: int, wait: bool) -> None:
        """What arrives together is committed together, with `wait` also with what comes next."""
        chance = random.Random(seed + self.next_id)
        for what in chance.choices(list(HAPPENINGS), list(HAPPENINGS.values()), k=count):
            self._submit(self._verb(what, chance))
        if not wait:
            self._commit()

    def _verb(self, what: str, chance: random.Random) -> Verb:
        now, account = self.oracle.now, chance.choice(self.accounts)
        ends = chance.choice([MINUTE, HOUR, DAY]), chance.choice(list(OnDeadline))
        if what == "reserve" or (what not in ("grant", "deduct") and not self.oracle.rides):
            # Seldom on a decision that has become stale.
            revision = int(chance.random() < 0.03)
            fundings, fair_use = chance.choice(FUNDINGS), None
            if chance.random() < 0.3:
                fundings, (name, period) = (Funding.EXEMPT, *fundings), chance.choice(EXEMPTIONS)
                fair_use = FairUseTerms(name, chance.randint(0, 4), period) if chance.random() < 0.8 else None
            price = fundings, chance.randint(0, 30), chance.randint(0, 6), self.plans[account]
            rules = chance.choice(list(OnLate)), chance.choice(list(Overrun)), fair_use
            return Reserve(HoldId(self._id()), account, revision, *price, REQUEST, *ends, *rules)
        if what == "grant":
            number, lapses = self._id(), chance.choice(LIVES)
            key = f"key {chance.randint(0, 9) if chance.random() < 0.2 else number}"
            gift = chance.randint(1, 60), GrantSource.PURCHASE, key, "", chance.choice([1, 100])
            return GrantCredits(number, account, *gift, now + lapses if lapses else None)
        if what == "deduct":
            return Deduct(account, chance.randint(1, 30), "correction")
        # Late holds are likelier than early ones; seldom it is not their owner who ends them.
        hold_id = list(self.oracle.rides)[-1 - min(int(chance.expovariate(0.3)), len(self.oracle.rides) - 1)]
        owner = self.oracle.rides[hold_id].verb.account_id if chance.random() < 0.95 else account
        part = chance.choice([None, chance.randint(0, 50)])
        endings: dict[str, Verb] = {
            "settle": Settle(hold_id, owner, part, Usage(), "done"),
            "release": Release(hold_id, owner, "failed"),
            "expire": Expire(hold_id, owner),
            "refund": Refund(hold_id, owner, part, "sorry"),
            "extend": Extend(hold_id, owner, ends[0]),
            "bind": BindJob(hold_id, owner, chance.choice("abcdefgh"), *ends),
        }
        return endings[what]

    @rule(seed=seeds)
    def change_plan(self, seed: int) -> None:
        """With another zone, hour, anchor, limit and rollover, or a new lifetime of the same one."""
        chance = random.Random(seed + self.next_id)
        account = chance.choice(self.accounts)
        self.plans[account] = (
            replace(self.plans[account], since=self.oracle.now) if chance.random() < 0.2 else self._plan(chance)
        )

    def _plan(self, chance: random.Random) -> QuotaTerms:
        zone, day_starts = chance.choice(CALENDARS)
        daily, monthly = chance.randint(0, 12), chance.choice([None, chance.randint(0, 30)])
        rollover = chance.choice([0, 5, 40, 200]), chance.choice([0, 10, 50])
        plan = QuotaTerms(
            daily,
            monthly,
            self._id(),
            Calendar(zone, day_starts, chance.choice([None, self.oracle.now])),
            *rollover,
            since=self.oracle.now,
        )
        self._write(_new_plan_version, plan)
        return plan

    @rule(seed=seeds, count=st.integers(3, 12))
    def ride_from_day_to_day(self, seed: int, count: int) -> None:
        """One account's requests by quota, at any distance: within a window, over one reset, over many, and back.

        Now and then its plan is another one, in the middle of a window.
        """
        chance = random.Random(seed + self.next_id)
        account = chance.choice(self.accounts)
        for _ in range(count):
            self._commit()
            self.oracle.now += chance.choice(STROLLS)
            if chance.random() < 0.2:
                self.plans[account] = self._plan(chance)
            price = (Funding.QUOTA,), 0, chance.randint(0, 6), self.plans[account]
            ride = Reserve(HoldId(self._id()), account, 0, *price, REQUEST, HOUR, OnDeadline.RELEASE)
            self._submit(ride)
            if chance.random() < 0.7 and ride.hold_id in self.oracle.rides:
                self._submit(Settle(ride.hold_id, account, chance.choice([None, 0, 1]), Usage(), "done"))
        self._commit()

    @rule(step=st.sampled_from(WAITS))
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
                self.oracle.posted(account),
                self.oracle.count(account, "held"),
                len(self.oracle.spendable(account)) - self.oracle.owed.get(account, 0),
            )
            for account in self.accounts
        }
        assert found["holds"] == {
            hold_id: (ride.state, ride.amount, ride.settled, ride.refunded)
            for hold_id, ride in self.oracle.rides.items()
        }
        assert found["windows"] == {
            (*whose, spell.start): (
                spell.end,
                spell.allows(spell.limit),
                spell.carried,
                self.oracle.used(spell),
                self.oracle.held(spell),
            )
            for whose, spells in self.oracle.spells.items()
            for spell in spells
        }

    def teardown(self) -> None:
        self._commit()
        self.every_law_holds_and_every_amount_is_the_oracles()


def _count(purse: Purse, kind: str) -> int:
    return sum((coin if isinstance(coin, str) else coin[0]) == kind for coin in purse.coins)


def _new_accounts(connection: Connection) -> list[AccountId]:
    """In a database that is empty again."""
    empty(connection, truncate=True)
    values = {"kind": "user", "tags": [], "created_at": START}
    insert = sa.insert(accounts).values(values).returning(accounts.c.id)
    return [AccountId(connection.execute(insert).scalar_one()) for _ in range(ACCOUNTS)]


def _new_plan_version(connection: Connection, plan: QuotaTerms) -> None:
    caps = {"daily_rollover": plan.daily_rollover, "monthly_rollover": plan.monthly_rollover}
    insert_plan_version(connection, plan.plan_version_id, START, caps)


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
    grants = connection.execute(sa.select(credit_grants.c.id, credit_grants.c.unspent))
    taken = taken_by_open_holds(connection, list(connection.scalars(sa.select(accounts.c.id))))
    columns = (holds.c.id, holds.c.state, holds.c.amount, holds.c.settled_amount, holds.c.refunded_amount)
    balances = {}
    for account in connection.scalars(sa.select(accounts.c.id)):
        balance = reports.balance(connection, account, now)
        balances[account] = (balance.posted, balance.pending, balance.available)
    windows = {
        (row.account_id, row.metric, row.window_start): (
            row.window_end,
            row.limit + row.carried,
            row.carried,
            row.used,
            taken.windows[row.account_id, row.window_start, row.metric],
        )
        for row in connection.execute(sa.select(quota_windows))
    }
    return {
        "breaches": {check.name: check.breaches for check in verify(connection) if check.breaches},
        "grants": {row.id: (row.unspent - taken.grants[row.id], taken.grants[row.id]) for row in grants},
        "balances": balances,
        "holds": {row.id: tuple(row)[1:] for row in connection.execute(sa.select(*columns))},
        "windows": windows,
    }


def keep_the_laws(database_url: str, examples: int, seed: int | None = None) -> None:
    """Run the machine so many times on a migrated database. Without a seed it tries the same examples every time.

    Raises the first disagreement, with the shortest steps that lead to it in its notes.
    """
    with asyncio.Runner() as runner:
        database = Database(database_url, utc_now)

        def machine() -> LedgerMachine:
            return LedgerMachine(runner, database)

        if seed is not None:
            machine = hypothesis.seed(seed)(machine)
        try:
            run_state_machine_as_test(
                machine,
                settings=settings(
                    max_examples=examples,
                    stateful_step_count=STEPS,
                    derandomize=seed is None,
                    deadline=None,
                    database=None,
                    print_blob=False,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(database.close())


def test_the_ledger_does_what_the_oracle_says(database_url: str) -> None:
    """Whatever the order of verbs, batches, crashes, clocks and plans."""
    keep_the_laws(database_url, EXAMPLES[database_url.partition("+")[0]])

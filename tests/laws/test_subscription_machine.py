"""Subscriptions in the database are what the pure functions say, step by step, and every payment is booked once.

Two accounts live random lives on both databases: they subscribe, try, pay, cancel, resume and change plans, with keys
and amounts right and wrong, while the clock goes on and back and the job runs in between, twice, or not at all. A
longer and random run: `FAREBOX_LAW_EXAMPLES=500 pytest tests/laws`.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from hypothesis import HealthCheck, settings
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
from policies.proration import quote_change
from policies.subscription import Event, NotPossible, Subscription, elapsed, resolve, start
from policies.subscription_acts import cancel, change_plan, migrate, pay, resume
from policies.terms import AccountId, Plan
from store import payments, subscriptions, tables
from store.engine import AlreadyExists, Database
from store.tables import accounts
from store.verify import verify
from tests.emptying import empty
from tests.store.subscribing import TIERS, put_plans

EXAMPLES = {"sqlite": 12, "postgresql": 5}
STEPS = 25
START = datetime(2024, 1, 31, 10, 0, tzinfo=UTC)
"""The last day of a month before a short one, in a leap year."""

GRACES = [timedelta(days=7), timedelta(days=90)]
"""The usual one, and one in which several periods pass unpaid."""

WAITS = [timedelta(minutes=59), timedelta(days=1), timedelta(days=5), timedelta(days=14), timedelta(days=31)]
WAITS += [timedelta(days=62), timedelta(days=200), -timedelta(hours=1), -timedelta(days=3)]

HAPPENINGS = {"subscribe": 4, "confirm": 6, "change": 5, "cancel": 2, "resume": 2, "migrate": 1, "wait": 5, "job": 2}
"""What happens, and how often in comparison."""

PLANS = ("free", "basic", "tried", "pro", "pro-yearly", "top")

seeds = st.integers(0, 2**32)
"""Each step makes what happens from one number: that spreads it better than drawing everything, and still shrinks."""

Decision = Callable[[Subscription], tuple[Subscription, Event]]


class SubscriptionMachine(RuleBasedStateMachine):
    """`rows` are what the database should have, as it should have them; `booked` is the book, by key."""

    def __init__(self, runner: asyncio.Runner, database: Database) -> None:
        super().__init__()
        self._runner, self._database = runner, database
        self.rows: dict[AccountId, Subscription] = {}
        self.events: dict[AccountId, list[tuple[Event, datetime]]] = {}
        self.booked: dict[str, tuple[AccountId, int]] = {}
        self.had_trial: set[AccountId] = set()

    def _write(self, function: Any, *arguments: Any, **named: Any) -> Any:
        """What was written, or the refusal."""
        try:
            return self._runner.run(self._database.write(function, *arguments, **named))
        except (NotPossible, AlreadyExists) as refused:
            return refused

    @initialize()
    def begin(self) -> None:
        self.now = START
        self.accounts: list[AccountId] = self._write(_new_accounts)
        plans = self._write(put_plans, START)
        # As they are read with a subscription, which says nothing about what is on sale.
        self.plans: dict[str, Plan] = {name: replace(plan, order=0) for name, plan in plans.items()}

    # The oracle: what should become of the row of an account.

    def _elapsed(self, account: AccountId) -> Subscription | None:
        """The row as it is now; what time has done is written down only together with something else."""
        row = self.rows.get(account)
        return resolve(row, self.now)[0] if row is not None else None

    def _store(self, account: AccountId, row: Subscription, *events: Event) -> None:
        before = self.rows.get(account)
        if before is not None and before.subscription_id == row.subscription_id:
            self.events[account] += [(step.event, step.at) for step in elapsed(before, self.now)]
        self.events[account] += [(event, self.now) for event in events]
        self.rows[account] = row

    def _pay(self, account: AccountId, due: Subscription, key: str) -> Subscription:
        self.booked[key] = account, due.amount_due
        return pay(due, self.now)[0]

    def _settle(self, account: AccountId) -> None:
        """What time has done since, such as the next period of a payment that was late."""
        self._store(account, resolve(self.rows[account], self.now)[0])

    # What can happen.

    @rule(seed=seeds, count=st.integers(2, 10))
    def happen(self, seed: int, count: int) -> None:
        self.chance = random.Random(seed + len(self.booked))
        for what in self.chance.choices(list(HAPPENINGS), list(HAPPENINGS.values()), k=count):
            getattr(self, f"_{what}")(self.chance.choice(self.accounts))

    def _key(self) -> str:
        """Mostly a new one; some have been used, by either account."""
        number = len(self.booked)
        return f"key {self.chance.randrange(number + 1) if self.chance.random() < 0.3 else number}"

    def _subscribe(self, account: AccountId) -> None:
        plan, key = self.plans[self.chance.choice(PLANS)], self.chance.choice([None, None, self._key()])
        grace = self.chance.choice(GRACES)
        answer = self._write(subscriptions.subscribe, account, plan, grace, "user", self.now, payment_key=key)
        previous = self._elapsed(account)
        fresh = start(0, account, plan, self.now, previous, trial=account not in self.had_trial)
        fresh = replace(fresh, grace=grace)
        pays = key is not None and fresh.amount_due > 0
        if (previous is not None and previous.current) or (pays and key in self.booked):
            assert isinstance(answer, NotPossible | AlreadyExists)
            return
        assert isinstance(answer, Subscription), answer
        self.events[account], self.rows[account] = [], replace(fresh, subscription_id=answer.subscription_id)
        self._store(account, self.rows[account], Event.SUBSCRIBED)
        if fresh.trial_end is not None:
            self.had_trial.add(account)
        if pays and key is not None:
            self._store(account, self._pay(account, self.rows[account], key), Event.PAID)
        assert answer == self.rows[account]

    def _confirm(self, account: AccountId) -> None:
        row, key = self._elapsed(account), self._key()
        due = row.amount_due if row is not None and row.current else 0
        given = self.chance.choice([due or 1, due or 1, None, None, due + 1])
        answer = self._write(subscriptions.confirm, account, key, given, "operator", self.now)
        if key in self.booked:
            if self.booked[key][0] == account and given in (None, self.booked[key][1]):
                assert (answer.changed, answer.payment.amount) == (False, self.booked[key][1])
            else:
                assert isinstance(answer, NotPossible)
        elif row is None or not due or given == due + 1:
            assert isinstance(answer, NotPossible)
        else:
            self._store(account, row)
            self._store(account, self._pay(account, row, key), Event.PAID)
            self._settle(account)
            assert (answer.changed, answer.payment.amount, answer.row) == (True, due, self.rows[account])

    def _cancel(self, account: AccountId) -> None:
        now, refund = self.chance.random() < 0.3, self.chance.random() < 0.5
        self._decide(account, lambda row: cancel(row, self.now, now, None, refund=refund))

    def _resume(self, account: AccountId) -> None:
        self._decide(account, resume)

    def _change(self, account: AccountId) -> None:
        plan, key = self.plans[self.chance.choice(PLANS)], self.chance.choice([None, self._key()])
        self._decide(account, lambda row: change_plan(row, quote_change(row, plan, TIERS, self.now), self.now), key)

    def _migrate(self, account: AccountId) -> None:
        """To a plan as if it were the newest version of the present one."""
        plan = self.plans[self.chance.choice(PLANS)]
        self._decide(account, lambda row: migrate(row, plan))

    def _wait(self, _: AccountId) -> None:
        """Forwards, over short months and leap days, and backwards."""
        self.now += self.chance.choice(WAITS)

    def _job(self, _: AccountId) -> None:
        """Once or twice."""
        for _ in range(self.chance.randint(1, 2)):
            due, _ = self._runner.run(self._database.read(subscriptions.due_accounts, self.now, 0, 10))
            lagging = [account for account, row in self.rows.items() if row.current and elapsed(row, self.now)]
            assert due == sorted(lagging)
            for account in due:
                self._write(subscriptions.store_due, account, self.now)
                self._settle(account)

    def _decide(self, account: AccountId, decide: Decision, key: str | None = None) -> None:
        answer = self._write(subscriptions.change, account, decide, "user", self.now, payment_key=key)
        row = self._elapsed(account)
        try:
            if row is None or not row.current:
                raise NotPossible("there is none")
            after, event = decide(row)
        except NotPossible:
            assert isinstance(answer, NotPossible)
            return
        if key is not None and after.amount_due and key in self.booked:
            assert isinstance(answer, AlreadyExists)
            return
        self._store(account, row)
        self._store(account, after, event)
        if key is not None and after.amount_due:
            self._store(account, self._pay(account, after, key), Event.PAID)
        assert (answer.before, answer.row) == (row, self.rows[account])

    # Laws.

    @invariant()
    def the_database_has_what_the_oracle_has(self) -> None:
        found = self._write(_everything)
        assert found["breaches"] == {}
        assert found["rows"] == self.rows
        assert found["events"] == self.events
        assert found["booked"] == self.booked
        assert found["trials"] == len(self.had_trial), "one for each account that had one"


def _new_accounts(connection: Connection) -> list[AccountId]:
    """In a database that is empty again."""
    empty(connection, truncate=True)
    insert = sa.insert(accounts).values({"kind": "user", "tags": [], "created_at": START}).returning(accounts.c.id)
    return [AccountId(connection.execute(insert).scalar_one()) for _ in range(2)]


def _everything(connection: Connection) -> dict[str, Any]:
    """The last subscription of each account with its events, the book, and what breaks a law."""
    found: dict[str, Any] = {"rows": {}, "events": {}, "booked": {}}
    found["breaches"] = {check.name: check.breaches for check in verify(connection) if check.breaches}
    found["trials"] = connection.execute(sa.select(sa.func.count(tables.subscriptions.c.trial_end))).scalar_one()
    for account in connection.scalars(sa.select(accounts.c.id)).all():
        row = subscriptions.latest(connection, account)
        if row is not None:
            found["rows"][account] = row
            events = subscriptions.history(connection, row.subscription_id)
            found["events"][account] = [(event["event"], event["at"]) for event in events]
        for payment in payments.of_account(connection, account, None, 1_000):
            found["booked"][payment.key] = account, payment.amount
    return found


def test_subscriptions_are_what_the_pure_functions_say(database_url: str) -> None:
    """Whatever the order of what people do, of keys, clocks and jobs."""
    wanted = os.environ.get("FAREBOX_LAW_EXAMPLES")
    with asyncio.Runner() as runner:
        database = Database(database_url, utc_now)
        try:
            run_state_machine_as_test(
                lambda: SubscriptionMachine(runner, database),
                settings=settings(
                    max_examples=int(wanted or EXAMPLES[database_url.partition("+")[0]]),
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

"""Whatever happens to usage: dashboards show its sums, and what is archived is with what is left all there was.

A longer and random run: `FAREBOX_LAW_EXAMPLES=500 pytest tests/laws/test_retention_machine.py`.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import Connection

import jobs.archive_usage
import store.archiving
import store.roll_up
from jobs.archive_usage import Keep, archive_usage
from jobs.roll_up_usage import roll_up_usage
from jobs.turns import Turn
from policies.quota import FairUseTerms
from policies.spending import DEFAULT_ORDER
from policies.terms import AccountId, Funding, HoldId, Metric, ModelKey
from store.archive_files import manifests
from store.archive_rows import ArchiveRow
from store.archiving import Archive, archives, is_final
from store.engine import Database
from store.ids import first_id_at, moment_of, parse_id
from store.opening import Store
from store.roll_up import count_anew, settled_until
from store.verbs import Hold, Refund, Refunded, Settle, Usage
from tests.archive.archives import StopAfter, by_id, filed, stored
from tests.emptying import empty
from tests.store.till import CREDITS, QUOTA, REQUEST, Till, reserving, terms
from tests.store.usages import HOUR, Sums, shown

EXAMPLES = {"sqlite": 8, "postgresql": 4}
STEPS = 30
START = datetime(2025, 1, 30, 22, 0, tzinfo=UTC)
"""Two hours before the last day of a month."""

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
EXEMPT = (Funding.EXEMPT,)
WAITS = [MINUTE, 20 * MINUTE, HOUR, 3 * HOUR, DAY, 9 * DAY]

seeds = st.integers(0, 2**32)
looks = st.one_of(st.none(), st.integers(0, 12))
"""After how many pieces of work a job is told to stop; None lets it come to its end."""


class TimedDatabase(Database):
    """One whose moment is the machine's also where there is a server with a clock."""

    def now(self, connection: Connection) -> datetime:
        return self._clock()


class RetentionMachine(RuleBasedStateMachine):
    """`known` is every hold that has ended, as it was last seen: what the archives and the database have to show."""

    def __init__(self, runner: asyncio.Runner, url: str) -> None:
        super().__init__()
        self._runner, self._now = runner, START
        self._database = TimedDatabase(url, lambda: self._now)
        self._folder = TemporaryDirectory(prefix="farebox-archive-")
        self._till = Till(self._database)
        self._open: list[Hold] = []
        self._known: dict[str, ArchiveRow] = {}
        self._accounts: list[AccountId] = []

    def _run(self, awaitable: Awaitable[Any]) -> Any:
        async def awaited() -> Any:
            return await awaitable

        self._till.now = self._now
        return self._runner.run(awaited())

    @initialize()
    def begin(self) -> None:
        self._run(self._database.write(empty))
        self._accounts = self._run(self._till.accounts(3, 10**9))

    @rule(seed=seeds, calls=st.integers(1, 6))
    def use(self, seed: int, calls: int) -> None:
        """Calls, numbered by nodes whose clocks differ; most of them end at once."""
        chance = random.Random(seed + len(self._known))
        for _ in range(calls):
            moment = self._now + timedelta(seconds=chance.randint(-120, 120))
            request = replace(REQUEST, model_key=ModelKey(chance.choice(["a:x", "a:y", "b:z"])))
            verb = reserving(
                HoldId(first_id_at(moment) + self._till.hold_id()),
                chance.choice(self._accounts),
                chance.randint(0, 9),
                quota=chance.randint(0, 9),
                terms=terms(10**6),
                fundings=chance.choice([CREDITS, QUOTA, EXEMPT]),
                fair_use=chance.choice([None, FairUseTerms("exempt:house", 10**6, Metric.DAILY)]),
                request=request,
                lasts=400 * DAY,
            )
            (hold,) = self._run(self._till.run(verb))
            assert isinstance(hold, Hold)
            self._open.append(hold)
            if chance.random() < 0.8:
                self._end(hold, chance)

    def _end(self, hold: Hold, chance: random.Random) -> None:
        self._open.remove(hold)
        usage = Usage({"seconds": "4"}, estimated=chance.random() < 0.3, upstream_status=200, latency_ms=7)
        if chance.random() < 0.15:
            self._run(self._till.release(hold))
        else:
            verb = Settle(hold.hold_id, hold.account_id, chance.randint(0, hold.amount), usage, "done")
            self._run(self._till.run(verb))

    @rule(seed=seeds)
    def end_late(self, seed: int) -> None:
        """A job that has run for as long as time has passed meanwhile."""
        chance = random.Random(seed)
        for hold in chance.sample(self._open, min(len(self._open), 3)):
            self._end(hold, chance)

    @rule(seed=seeds)
    def refund(self, seed: int) -> None:
        """Of any charge, however old; those of archived months are final."""
        chance = random.Random(seed)
        settled = [row for row in self._known.values() if row["state"] == "settled"]
        for row in chance.sample(settled, min(len(settled), 3)):
            hold_id, left = parse_id(row["id"]), int(row["charged"]) - int(row["refunded"])
            assert hold_id is not None
            if not self._run(self._database.read(is_final, hold_id)):
                verb = Refund(hold_id, AccountId(int(row["account_id"])), chance.randint(0, left), "sorry")
                (outcome,) = self._run(self._till.run(verb))
                assert isinstance(outcome, Refunded)
                event("refunded")

    @rule(step=st.sampled_from(WAITS))
    def pass_time(self, step: timedelta) -> None:
        self._now += step

    @rule(seed=seeds)
    def pass_a_month(self, seed: int) -> None:
        """With calls on both sides of its end, some of them still running."""
        self.use(seed, 3)
        self._now += 31 * DAY
        self.use(seed + 1, 3)

    @rule(looks=looks)
    def roll_up(self, looks: int | None) -> None:
        counts = self._run(self._job(lambda store, turn: roll_up_usage(store, turn), looks))
        event(f"rolled up: {bool(counts['usage_rolled_up'])}")

    @rule()
    def count_anew(self) -> None:
        until = self._run(settled_until(self._database))
        self._run(self._database.write(count_anew, until))

    @rule(months=st.integers(0, 2), looks=looks)
    def archive(self, months: int, looks: int | None) -> None:
        """What is not cut short comes to its end, whatever was cut short before."""
        keep = Keep(months, Path(self._folder.name))
        counts = self._run(self._job(lambda store, turn: archive_usage(store, turn, keep), looks))
        event(f"archived: {bool(counts['months_archived'])}, cut short: {looks is not None}")
        assert looks is not None or not self._under_way()

    def _under_way(self) -> list[Archive]:
        return [month for month in self._run(self._database.read(archives)) if month.done_at is None]

    async def _job(self, job: Callable[[Store, Turn], Awaitable[dict[str, int]]], looks: int | None) -> dict[str, int]:
        store = Store(self._database, None, None, self._database._clock, DEFAULT_ORDER)  # type: ignore[arg-type]
        stop = StopAfter(looks) if looks is not None else asyncio.Event()
        turn = Turn(store, self._database._clock, stop, "job", "machine")
        assert await turn.begin()
        return await job(store, turn)

    @invariant()
    def nothing_is_lost_and_every_sum_is_right(self) -> None:
        if not self._accounts:
            return
        left = self._run(stored(self._database))
        gone = by_id(filed(Path(self._folder.name)))
        self._known |= left
        assert gone | left == self._known
        assert gone == {number: self._known[number] for number in gone}
        assert not gone.keys() & left.keys() or self._under_way()
        assert self._run(shown(self._till)) == _sums(self._known)
        assert sum(manifest["rows"] for manifest in manifests(Path(self._folder.name)).values()) == len(gone)
        self._run(self._till.check())

    def teardown(self) -> None:
        self._folder.cleanup()
        self._runner.run(self._database.close())


def _sums(rows: dict[str, ArchiveRow]) -> Sums:
    """Counted one by one, from the texts of the rows."""
    sums: dict[tuple[Any, ...], Counter[str]] = {}
    for row in rows.values():
        if row["charged_at"]:
            number = parse_id(row["id"])
            assert number is not None
            day = moment_of(number).replace(hour=0, minute=0, second=0, microsecond=0)
            key = (int(row["account_id"]), day, row["model_key"], row["funding"])
            total = sums.setdefault(key, Counter())
            # What is counted for fair use is a call, and no amount.
            counts = row["funding"] != Funding.EXEMPT
            amounts = {name: int(row[name]) if counts else 0 for name in ("charged", "refunded")}
            total.update(calls=1, estimated=int(row["estimated"] == "true"), **amounts)
    return {key: (c["calls"], c["charged"], c["refunded"], c["estimated"]) for key, c in sorted(sums.items())}


def test_nothing_is_lost_and_every_sum_is_right(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random histories over month ends, with refunds, late ends, several accounts, and jobs cut short anywhere."""
    for module, name, size in [
        (store.roll_up, "STEP", 3),
        (store.archiving, "BATCH", 3),
        (jobs.archive_usage, "READ_SIZE", 4),
    ]:
        monkeypatch.setattr(module, name, size)
    monkeypatch.setattr("jobs.pacing.REST", 0)
    wanted = os.environ.get("FAREBOX_LAW_EXAMPLES")
    with asyncio.Runner() as runner:
        run_state_machine_as_test(
            lambda: RetentionMachine(runner, database_url),
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

"""A batch of verbs is written with one statement for each kind of row, whatever its size, and found by its indexes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, event

from policies.terms import HoldId
from store import job_holds, reports
from store.batch import run_batch
from store.findings import Findings, Span
from store.verbs import Hold, Settle, Usage, Verb
from store.verify_grants import check_provenance
from tests.store.till import CREDITS, NOON, QUOTA, Till, reserving, terms

pytestmark = pytest.mark.asyncio(loop_scope="session")


@contextmanager
def _watched(connection: Connection, look: Callable[[str, Any], None]) -> Iterator[None]:
    """`look` is told of every statement and its parameters, before PostgreSQL and after SQLite has begun with it."""
    if connection.dialect.name == "sqlite":
        # Its driver tells of the whole text, with the parameters in it.
        driver: Any = connection.connection.dbapi_connection
        driver.set_trace_callback(lambda statement: look(statement, ()))
        try:
            yield
        finally:
            driver.set_trace_callback(None)
        return

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        look(statement, parameters)

    event.listen(connection, "before_cursor_execute", note)
    try:
        yield
    finally:
        event.remove(connection, "before_cursor_execute", note)


def _kind(statement: str) -> str:
    """Its first words, which name what it does and to which table."""
    return " ".join(statement.replace(" OR FAIL", "").split()[:3])


async def _statements_of(till: Till, *verbs: Verb) -> list[str]:
    def counted(connection: Connection) -> list[str]:
        seen: list[str] = []
        with _watched(connection, lambda statement, _: seen.append(_kind(statement))):
            run_batch(connection, verbs, lambda _: NOON)
        return seen

    return await till.database.write(counted)


async def test_the_number_of_statements_does_not_grow_with_the_batch(till: Till) -> None:
    """One hundred reserves and settlements of ten accounts cost as many as one of each; on SQLite, which takes rows in
    portions of powers of two, a few more.
    """
    accounts = await till.accounts(10, 1_000)

    def verbs(first: int, count: int) -> list[Verb]:
        fundings = (*QUOTA, *CREDITS)
        made: list[Verb] = []
        for number in range(count):
            account = accounts[number % 10]
            made += [
                reserving(first + 2 * number, account, 5, fundings=fundings, terms=terms(100, 1000)),
                reserving(first + 2 * number + 1, account, 5),
            ]
            ends = (Settle(HoldId(first + 2 * number + which), account, None, Usage(), "") for which in (0, 1))
            made += ends
        return made

    small = await _statements_of(till, *verbs(1_000, 1))
    large = await _statements_of(till, *verbs(2_000, 50))
    kinds = {statement: large.count(statement) for statement in large}
    # Windows are looked for a second time where the first look finds none.
    assert max(kinds.values()) <= (4 if till.database.url.startswith("sqlite") else 2)
    assert len(kinds) <= len(small) + 1  # Windows are made the first time and changed later.
    assert len(small) <= 12


async def test_a_refused_batch_writes_nothing(till: Till) -> None:
    """Reading is all that a refusal costs."""
    account = await till.account(1)
    statements = await _statements_of(till, *(reserving(1_000 + number, account, 5) for number in range(20)))
    assert {statement.split()[0] for statement in statements} == {"SELECT"}


async def test_the_largest_batch_fits_the_database(till: Till) -> None:
    """As many verbs as the committer ever takes together, each of another account."""
    await _crowd(till)
    assert len(await till.rows("SELECT id FROM usage_events")) == 256


async def _crowd(till: Till) -> None:
    """Many accounts, each with a call that was charged and one that is under way."""
    accounts = await till.accounts(256, 10)
    for first in (10_000, 20_000):
        outcomes = await till.run(*(reserving(first + number, account, 1) for number, account in enumerate(accounts)))
        holds = [outcome for outcome in outcomes if isinstance(outcome, Hold)]
        assert len(holds) == len(outcomes)
        if first == 10_000:
            await till.run(*(Settle(hold.hold_id, hold.account_id, None, Usage(), "") for hold in holds))


SPENT = 300
"""Grants with nothing left: so many that no planner prefers to go through them."""


def _reserve(connection: Connection, account_id: int) -> None:
    run_batch(connection, [reserving(1, account_id, 9)], lambda _: NOON)


@pytest.mark.parametrize(
    ("index", "query"),
    [
        ("ix_holds_open", reports.open_holds),
        ("ix_holds_open", lambda connection, number: check_provenance(connection, Span(0, number, 1), Findings())),
        ("ix_credit_grants_unspent", reports.grants),
        ("ix_credit_grants_unspent", _reserve),
        ("ix_holds_open_of_account", _reserve),
        ("ix_usage_events_account_id_id", lambda connection, number: reports.usage(connection, number, None, 50)),
        ("uq_holds_job", lambda connection, number: job_holds.job_holds(connection, ["route"], [f"job {number}"])),
    ],
)
async def test_queries_of_every_request_and_every_sweep_use_their_index(till: Till, index: str, query: Any) -> None:
    """A partial index helps only where the database sees that its condition is met, and that much is spent."""
    await _crowd(till)
    account = await till.account(*[1] * SPENT, 100)
    await till.deduct(account, SPENT)
    for _ in range(3):
        await till.hold(account, 1, lasts=timedelta(hours=1))
    if till.database.url.startswith("postgresql"):
        await till.tamper("ANALYZE credit_grants, holds, usage_events")

    plans = await till.database.write(_plans, lambda connection: query(connection, account))
    assert index in "\n".join(plans)


async def test_windows_are_found_along_their_key(till: Till) -> None:
    """By one statement, however long the history is; by a second one at the first request in a window."""
    account, quota = await till.account(), terms(100, 1000)
    for _ in range(40):
        await till.settled(account, 0, quota=1, fundings=QUOTA, terms=quota)
        till.now += timedelta(days=1)
    verb = reserving(1_000, account, quota=1, fundings=QUOTA, terms=quota)
    again = replace(verb, hold_id=HoldId(1_001))
    for reserve, statements in ((verb, 2), (again, 1)):
        plans = await till.database.write(_plans, partial(run_batch, verbs=[reserve], clock=lambda _: till.now))
        looks = [plan for plan in plans if "quota_windows" in plan]
        assert len(looks) == statements
        # Each look is a search for an account, a metric and a start; none goes through a table, or through a history.
        assert not re.search(r"SCAN quota_windows|Seq Scan|Bitmap|Sort", "\n".join(looks))
        searches = re.findall(r"SEARCH (?:quota_windows|other) .*|Index Cond: .*metric.*", "\n".join(looks))
        assert searches
        assert all("metric" in search and "window_start" in search for search in searches), searches


def _plans(connection: Connection, run: Callable[[Connection], object]) -> list[str]:
    """How the database finds the rows of every SELECT of a run."""
    selects: list[tuple[str, Any]] = []

    def note(statement: str, parameters: Any) -> None:
        if statement.startswith("SELECT"):
            selects.append((statement, parameters))

    with _watched(connection, note):
        run(connection)
    return [_plan(connection, statement, parameters) for statement, parameters in selects]


def _plan(connection: Connection, statement: str, parameters: Any) -> str:
    if connection.dialect.name == "sqlite":
        rows = connection.connection.cursor().execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
        return "\n".join(row[3] for row in rows)
    # A table of three rows is quicker read than any index.
    cursor = connection.connection.cursor()
    cursor.execute("SET LOCAL enable_seqscan = off")
    cursor.execute(f"EXPLAIN {statement}", parameters)
    return "\n".join(row[0] for row in cursor.fetchall())

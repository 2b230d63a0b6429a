"""Reports: what accounts and operators are shown agrees with what the ledger decides, and reading writes nothing."""

from __future__ import annotations

from datetime import timedelta

import pytest

from policies.terms import OnDeadline
from store import job_holds, reports
from store.verbs import Hold
from tests.store.till import NOON, Till

pytestmark = pytest.mark.asyncio(loop_scope="session")

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


async def test_available_credits_are_what_a_request_can_have(till: Till) -> None:
    """Without what is held, and without what has lapsed although nobody has booked it yet."""
    account = await till.account(100)
    await till.grant(account, 50, expires_at=NOON + HOUR, priority=1)
    await till.hold(account, 20)
    till.now = NOON + HOUR
    balance = await till.balance(account)
    assert (balance.posted, balance.pending, balance.available) == (150, 20, 100)
    assert isinstance(await till.reserve(account, balance.available), Hold)


async def test_grants_are_listed_in_the_order_in_which_they_are_spent(till: Till) -> None:
    """Those with anything left, also if all of it is held."""
    account = await till.account(10)
    await till.settled(account, 10)
    for priority, expires_at in [(100, None), (100, NOON + 2 * HOUR), (100, NOON + HOUR), (1, None)]:
        await till.grant(account, 10, priority=priority, expires_at=expires_at)
    await till.hold(account, 15)
    rows = await till.database.read(reports.grants, account)
    assert [(row["priority"], row["expires_at"], row["held"]) for row in rows] == [
        (1, None, 10),
        (100, NOON + HOUR, 5),
        (100, NOON + 2 * HOUR, 0),
        (100, None, 0),
    ]


async def test_entries_are_paged_newest_first(till: Till) -> None:
    """Each page goes on below the last version of the one before; nothing is shown twice."""
    account, other = await till.account(*range(1, 8)), await till.account(100)
    first = await till.database.read(reports.entries, account, None, 3)
    second = await till.database.read(reports.entries, account, first[-1]["version"], 3)
    third = await till.database.read(reports.entries, account, second[-1]["version"], 3)
    assert [row["amount"] for row in first + second + third] == [7, 6, 5, 4, 3, 2, 1]
    assert len(await till.database.read(reports.entries, other, None, 3)) == 1


async def test_usage_is_paged_newest_first(till: Till) -> None:
    """Of one account, or of all."""
    one, other = await till.account(100), await till.account(100)
    for account in (one, other, one, one):
        await till.settled(account, 1)
    first = await till.database.read(reports.usage, one, None, 2)
    second = await till.database.read(reports.usage, one, first[-1]["id"], 2)
    assert len(first + second) == 3
    assert [row["id"] for row in first + second] == sorted((row["id"] for row in first + second), reverse=True)
    assert len(await till.database.read(reports.usage, None, None, 10)) == 4


async def test_a_hold_is_shown_with_everything_it_remembers(till: Till) -> None:
    """Enough to explain the charge for ever; an unknown one is none."""
    account = await till.account(100)
    hold = await till.hold(account, 30)
    row = await till.database.read(reports.hold, hold.hold_id)
    assert row is not None
    assert (row["policy_revision"], row["rule"], row["price_version"], row["units"]) == (
        "policy",
        "rule",
        1,
        {"seconds": "5"},
    )
    assert [part for _, part in row["taken"]["grants"]] == [30]
    assert await till.database.read(reports.hold, 10**9) is None


async def test_open_holds_are_listed_by_their_deadline(till: Till) -> None:
    """The soonest first, and no ended ones."""
    account = await till.account(100)
    late = await till.hold(account, 1, lasts=2 * HOUR)
    soon = await till.hold(account, 1, lasts=HOUR, on_deadline=OnDeadline.QUOTE)
    await till.settled(account, 1)
    rows = await till.database.read(reports.open_holds, 10)
    assert [row["id"] for row in rows] == [soon.hold_id, late.hold_id]
    assert len(await till.database.read(reports.open_holds, 1)) == 1


async def test_the_hold_of_a_job_is_found_by_the_jobs_id(till: Till) -> None:
    """On its route, with its account and state."""
    account = await till.account(100)
    hold = await till.hold(account, 30)
    await till.bind(hold, "job 1")
    (found,) = await till.database.read(job_holds.job_holds, ["route", "other"], ["job 1", "job 2"])
    assert (found.hold_id, found.account_id, found.job_id, found.state) == (hold.hold_id, account, "job 1", "reserved")
    assert await till.database.read(job_holds.job_holds, ["other"], ["job 1"]) == []
    assert await till.database.read(job_holds.job_holds, [], []) == []

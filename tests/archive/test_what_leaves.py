"""What leaves the database when its month is old enough, what it looks like in the file, and what never leaves."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import store.roll_up
from config.clock import utc_now
from jobs.archive_usage import Keep
from jobs.timetable import JOBS, jobs_for
from policies.terms import HoldId
from store import archiving, job_holds
from store.archive_files import manifests
from store.ids import first_id_at, id_text
from store.ledger import Ledger
from store.roll_up import count_anew
from store.verbs import Ended, Granted, Refunded, Refused, Settle, Usage
from tests.archive.archives import (
    APRIL,
    CALLS,
    FEBRUARY,
    JANUARY,
    MARCH,
    MAY,
    archive,
    by_id,
    filed,
    stored,
    used_account,
)
from tests.store.till import QUOTA, Till, reserving, terms
from tests.store.usages import DAY, HOUR, counted, reserve, shown, use

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_what_leaves_the_database_is_in_the_file(till: Till, tmp_path: Path) -> None:
    """Every row of the months that are due, word for word, and no other; each row is in one place."""
    await used_account(till)
    before = await stored(till.database)
    assert await archive(till.database, tmp_path, before=APRIL) == {"months_archived": 2, "rows_deleted": 9}
    gone, left = by_id(filed(tmp_path)), await stored(till.database)
    assert gone | left == before
    assert gone.keys() & left.keys() == set()
    assert sorted(manifests(tmp_path)) == ["usage-2025-02.csv.gz", "usage-2025-03.csv.gz"]
    assert all(row["created_at"] < "2025-04" for row in gone.values())
    assert all(row["created_at"] >= "2025-04" for row in left.values())


async def test_a_row_explains_a_charge(till: Till, tmp_path: Path) -> None:
    """With its rule, policy, price, provenance, and what was given back."""
    till.now = JANUARY
    account = await till.account(100)
    usage = Usage({"seconds": "4"}, estimated=False, upstream_status=200, latency_ms=9)
    hold = await use(till, account, FEBRUARY, "a:x", 30, funding="credits", usage=usage)
    await till.refund(hold, 10)
    grant = (await till.rows("SELECT id FROM credit_grants"))[0]["id"]
    await archive(till.database, tmp_path, before=MARCH)
    (row,) = filed(tmp_path)
    expected = {
        "id": id_text(hold.hold_id),
        "created_at": "2025-02-01T00:00:00.000000Z",
        "state": "settled",
        "account_id": str(account),
        "user_id": "user",
        "key_id": "",
        "model_key": "a:x",
        "rule": "rule",
        "policy_revision": "policy",
        "price_version": "1",
        "funding": "credits",
        "reserved": "30",
        "charged": "30",
        "refunded": "10",
        "taken": f'{{"grants":[[{grant},30]]}}',
        "units": '{"seconds":"5"}',
        "used_units": '{"seconds":"4"}',
        "estimated": "false",
        "upstream_status": "200",
        "latency_ms": "9",
    }
    assert {name: row[name] for name in expected} == expected


async def test_sums_are_the_same_before_and_after(till: Till, tmp_path: Path) -> None:
    """Of days whose rows are gone, with their refunds, also when they are counted anew."""
    account = await used_account(till)
    hold = await use(till, account, FEBRUARY + DAY, "a:0", 50, funding="credits")
    await till.refund(hold, 20)
    before = await counted(till)
    await archive(till.database, tmp_path, before=MAY)
    assert await counted(till) == {}
    assert await shown(till) == before
    await till.database.write(count_anew, utc_now())
    assert await shown(till) == before
    await archive(till.database, tmp_path, before=MAY)
    assert await shown(till) == before


async def test_released_and_expired_holds_leave_too(till: Till, tmp_path: Path) -> None:
    """They are no usage, and still tell why nothing was charged."""
    till.now = JANUARY
    account = await till.account(100)
    released = await reserve(till, account, FEBRUARY, "a:x", 5, "credits")
    await till.release(released)
    expired = await reserve(till, account, FEBRUARY, "a:x", 5, "credits")
    till.now = FEBRUARY + 2 * HOUR
    await till.expire(expired)
    await archive(till.database, tmp_path, before=MARCH)
    assert [(row["state"], row["end_reason"], row["used_units"]) for row in filed(tmp_path)] == [
        ("released", "failed", ""),
        ("expired", "deadline", ""),
    ]
    assert await till.rows("SELECT id FROM holds") == []
    assert manifests(tmp_path)["usage-2025-02.csv.gz"]["usage"] == {}


async def test_an_open_hold_stays_and_goes_after_its_end(
    till: Till, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that is still running is not forgotten, and neither is its usage: it is in the file of a later month."""
    monkeypatch.setattr(store.roll_up, "MARGIN", 2 * HOUR)
    account = await used_account(till)
    job = await reserve(till, account, FEBRUARY, "a:slow", 9, "credits")
    await till.bind(job, "job 1", lasts=1000 * DAY)
    await archive(till.database, tmp_path, before=MARCH)
    till.now = utc_now() - HOUR
    assert isinstance(await till.settle(job, 7), Ended)
    await till.check()
    monkeypatch.setattr(store.roll_up, "MARGIN", 0 * HOUR)
    await archive(till.database, tmp_path, before=APRIL)
    (row,) = [row for row in by_id(filed(tmp_path)).values() if row["model_key"] == "a:slow"]
    assert (row["id"], row["charged"], row["ended_at"][:10]) == (id_text(job.hold_id), "7", f"{till.now:%Y-%m-%d}")


async def test_what_is_not_counted_yet_waits(till: Till, tmp_path: Path) -> None:
    """A hold that has ended just now is not in the sums yet, which would lack it for ever."""
    account = await used_account(till)
    job = await reserve(till, account, FEBRUARY, "a:slow", 9, "credits")
    till.now = utc_now()
    await till.settle(job)
    before = await shown(till)
    await archive(till.database, tmp_path, before=MAY)
    assert list(await stored(till.database)) == [id_text(job.hold_id)]
    assert await shown(till) == before


async def test_a_month_goes_when_it_is_old_enough(till: Till, tmp_path: Path) -> None:
    """Not a month sooner; what is done is not done again."""
    await used_account(till)
    for before, months in ((FEBRUARY, 0), (MARCH, 1), (MARCH, 0), (MAY, 2), (MAY, 0)):
        assert (await archive(till.database, tmp_path, before))["months_archived"] == months


async def test_empty_months_have_no_file(till: Till, tmp_path: Path) -> None:
    """Between two months with usage there may be years without."""
    till.now = JANUARY
    account = await till.account(100)
    await use(till, account, FEBRUARY, funding="credits")
    await use(till, account, MAY, funding="credits")
    assert (await archive(till.database, tmp_path, before=MAY + 40 * DAY))["months_archived"] == 2
    assert sorted(manifests(tmp_path)) == ["usage-2025-02.csv.gz", "usage-2025-05.csv.gz"]


async def test_the_ledger_keeps_its_entries(till: Till, tmp_path: Path) -> None:
    """Balances, entries, grants and what can be spent are as they were; new calls go on."""
    account = await used_account(till)
    before = await till.entries(account), await till.grants(account), await till.balance(account)
    await archive(till.database, tmp_path, before=MAY)
    assert (await till.entries(account), await till.grants(account), await till.balance(account)) == before
    await use(till, account, utc_now(), "a:x", 3, funding="credits")
    assert isinstance(await till.grant(account, 5), Granted)


class _Committer:
    """Runs every verb at the till's moment."""

    def __init__(self, till: Till) -> None:
        self._till = till

    def submit(self, verb: Any) -> asyncio.Future[Any]:
        async def run() -> Any:
            return (await self._till.run(verb))[0]

        return asyncio.ensure_future(run())


async def test_a_charge_that_was_archived_is_final(till: Till, tmp_path: Path) -> None:
    """A refund is refused with its reason; younger charges, and those that ended later, can be given back."""
    account = await used_account(till)
    old = await use(till, account, FEBRUARY, "a:x", 30, funding="credits")
    young = await use(till, account, APRIL, "a:x", 30, funding="credits")
    running = await reserve(till, account, FEBRUARY, "a:x", 30, "credits")
    ledger = Ledger(till.database, _Committer(till), None, None)  # type: ignore[arg-type]
    assert isinstance(await ledger.refund(old.hold_id, account, 1, "sorry"), Refunded)
    # From the beginning on, when everything is still there.
    await archive(till.database, tmp_path, MARCH, looks=1)
    await archive(till.database, tmp_path, MARCH, looks=1)
    assert await till.database.read(archiving.archived_until) == MARCH
    assert await ledger.refund(old.hold_id, account, None, "sorry") is Refused.ARCHIVED
    await archive(till.database, tmp_path, before=MARCH)
    for hold_id in (old.hold_id, HoldId(12345)):
        assert await ledger.refund(hold_id, account, None, "sorry") is Refused.ARCHIVED
    till.now = utc_now()
    await till.settle(running)
    for hold in (young, running):
        assert isinstance(await ledger.refund(hold.hold_id, account, 10, "sorry"), Refunded)


async def test_late_verbs_find_no_hold(till: Till, tmp_path: Path) -> None:
    """A settlement or refund that comes after a year changes nothing, and a poll finds no job of that id."""
    account = await used_account(till)
    hold = await reserve(till, account, FEBRUARY, "a:x", 5, "credits")
    await till.bind(hold, "job 1", lasts=HOUR)
    await till.settle(hold)
    await archive(till.database, tmp_path, before=MAY)
    entries = await till.entries(account)
    for verb in (till.settle(hold), till.release(hold), till.expire(hold), till.refund(hold), till.bind(hold, "job 1")):
        assert await verb is Refused.UNKNOWN_HOLD
    assert await till.entries(account) == entries
    assert await till.database.read(job_holds.job_holds, ["route"], ["job 1"]) == []


async def test_nothing_is_kept_where_that_was_said(till: Till) -> None:
    """`archive: off` deletes for good, and the ledger and the sums still add up."""
    await used_account(till)
    sums = await shown(till)
    assert await archive(till.database, None, before=MAY) == {"months_archived": 3, "rows_deleted": CALLS}
    assert await stored(till.database) == {}
    assert await shown(till) == sums
    assert {month.file for month in await till.database.read(archiving.archives)} == {None}


async def test_everything_is_kept_by_default(till: Till) -> None:
    """Without `retention.usage` the job looks at nothing."""
    (job,) = [job for job in JOBS if job.name == "archive_usage"]
    assert await job.run(None, None) == {"months_archived": 0, "rows_deleted": 0}  # type: ignore[arg-type]
    (told,) = [job for job in jobs_for(Keep(13, None)) if job.name == "archive_usage"]
    assert told.run.keywords == {"keep": Keep(13, None)}  # type: ignore[attr-defined]


async def test_quota_windows_of_archived_months_may_stay(till: Till, tmp_path: Path) -> None:
    """Housekeeping may be late: windows whose holds are gone are not compared with what is left of these."""
    account = await till.account()
    await use(till, account, FEBRUARY, units=4)
    await use(till, account, MARCH, units=2)
    await archive(till.database, tmp_path, before=MARCH)
    assert len(await till.windows(account)) == 2
    await till.check()
    breaches = await till.breaches_after("UPDATE quota_windows SET used = used + 1")
    assert breaches == {"windows": [f"account {account}: daily window of 2025-03-01: used 3, holds 2"]}


async def test_a_month_is_that_of_the_databases_clock_too(till: Till, tmp_path: Path) -> None:
    """A node whose clock is behind numbers a request into the month before; it goes with that of its window."""
    account = await till.account()
    till.now = MARCH
    number = HoldId(first_id_at(MARCH) - 1)
    await till.run(reserving(number, account, quota=3, fundings=QUOTA, terms=terms(10, 100)))
    await till.run(Settle(number, account, None, Usage(), "done"))
    others = [await use(till, account, at) for at in (FEBRUARY, MARCH)]
    await archive(till.database, tmp_path, before=MARCH)
    assert list(await stored(till.database)) == [id_text(number), id_text(others[1].hold_id)]
    await archive(till.database, tmp_path, before=APRIL)
    assert len(by_id(filed(tmp_path))) == 3

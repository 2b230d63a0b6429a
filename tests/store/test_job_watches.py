"""Jobs that are asked about: written with their binding, due in their order, and gone with their holds."""

from __future__ import annotations

from datetime import timedelta

import pytest

from store import job_watches
from store.verbs import Watch
from tests.store.till import Till

pytestmark = pytest.mark.asyncio(loop_scope="session")

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
WATCH = Watch("/jobs/1", 10 * SECOND, 30 * SECOND)


async def _due(till: Till, after: timedelta, limit: int = 10) -> list[str]:
    return [watched.job_id for watched in await till.database.read(job_watches.due, till.now + after, limit)]


async def _asked(till: Till, after: timedelta) -> None:
    due = await till.database.read(job_watches.due, till.now + after, 10)
    await till.database.write(job_watches.asked, due, till.now + after)


async def test_a_watch_is_due_after_its_waits(till: Till) -> None:
    """Ten seconds, then twenty, then never more than thirty."""
    hold = await till.hold(await till.account(100), 1)
    await till.bind(hold, "job", watch=WATCH)
    assert await _due(till, 9 * SECOND) == []
    (watched,) = await till.database.read(job_watches.due, till.now + 11 * SECOND, 10)
    assert (watched.hold_id, watched.account_id, watched.path) == (hold.hold_id, hold.account_id, "/jobs/1")
    at = 0
    for wait in (11, 20, 30, 30):
        at += wait
        assert await _due(till, (at - 2) * SECOND) == []
        assert await _due(till, at * SECOND) == ["job"]
        await _asked(till, at * SECOND)


async def test_the_longest_due_comes_first(till: Till) -> None:
    """So that a busy moment starves nobody."""
    account = await till.account(100)
    for number, first in ((1, 3), (2, 1), (3, 2)):
        hold = await till.hold(account, 1)
        await till.bind(hold, f"job {number}", watch=Watch("/", first * SECOND, MINUTE))
    assert await _due(till, MINUTE) == ["job 2", "job 3", "job 1"]
    assert await _due(till, MINUTE, limit=1) == ["job 2"]


async def test_a_job_is_watched_once(till: Till) -> None:
    """Binding again, and a second hold that the job is refused to, change nothing."""
    account = await till.account(100)
    hold, other = await till.hold(account, 1), await till.hold(account, 1)
    for _ in range(2):
        await till.bind(hold, "job", watch=WATCH)
    await till.bind(other, "job", watch=WATCH)
    assert await _due(till, MINUTE) == ["job"]
    assert len(await till.rows("SELECT hold_id FROM job_watches")) == 1


async def test_a_job_without_a_watch_is_not_asked_about(till: Till) -> None:
    await till.bind(await till.hold(await till.account(100), 1), "job")
    assert await till.rows("SELECT hold_id FROM job_watches") == []


async def test_a_watch_goes_with_its_hold(till: Till) -> None:
    """However it has ended; a hold that is still open keeps its watch."""
    account = await till.account(100)
    settled, released, open_one = [await till.hold(account, 1) for _ in range(3)]
    for number, hold in enumerate((settled, released, open_one)):
        await till.bind(hold, f"job {number}", watch=WATCH)
    await till.settle(settled)
    await till.release(released)
    assert await _due(till, MINUTE) == ["job 2"]
    assert await till.database.write(job_watches.forget, till.now, 10) == 0
    assert await till.database.write(job_watches.forget, till.now + MINUTE, 1) == 1
    assert await till.database.write(job_watches.forget, till.now + MINUTE, 10) == 1
    assert [row["hold_id"] for row in await till.rows("SELECT hold_id FROM job_watches")] == [open_one.hold_id]

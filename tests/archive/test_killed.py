"""kill -9 at any point of archiving: the next process goes on, nothing is lost, and nothing is there twice."""

from __future__ import annotations

import asyncio
import random
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

from sqlalchemy import Connection

from config.clock import utc_now
from store import archiving
from store.engine import Database
from store.ids import first_id_at
from store.tables import leases
from store.verbs import Hold, Settle, Usage
from tests.archive.archives import FEBRUARY, JANUARY, MAY, by_id, filed, stored
from tests.store.till import CREDITS, QUOTA, Till, reserving, terms
from tests.store.usages import HOUR, shown

ROOT = Path(__file__).parents[2]
CALLS, AT_ONCE = 120, 12
PATIENCE_S = 60


async def _use(till: Till) -> None:
    """Calls from February to April, of three accounts, with a refund now and then."""
    till.now = JANUARY
    accounts, chance = await till.accounts(3, 10**6), random.Random(7)
    for start in range(0, CALLS, AT_ONCE):
        till.now = FEBRUARY + start * 17 * HOUR
        verbs = [
            reserving(
                first_id_at(till.now) + start + number,
                chance.choice(accounts),
                chance.randint(0, 9),
                fundings=chance.choice([CREDITS, QUOTA]),
                terms=terms(10**6),
            )
            for number in range(AT_ONCE)
        ]
        held = await till.run(*verbs)
        await till.run(*(Settle(h.hold_id, h.account_id, None, Usage(), "done") for h in held if isinstance(h, Hold)))
        for hold in held[:3]:
            assert isinstance(hold, Hold)
            await till.refund(hold)


async def _archive(url: str, folder: Path, killed_after_s: float) -> bool:
    """Whether a process that archives came to its end before it was killed."""
    command = [sys.executable, "-m", "tests.archive.archiver", url, str(folder), MAY.isoformat()]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, cwd=ROOT)
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        try:
            assert await process.stdout.readline() == b"ready\n"
            await asyncio.wait_for(process.stdout.readline(), killed_after_s)
        except TimeoutError:
            process.kill()
        await process.communicate()
    return process.returncode == 0


def _free(connection: Connection) -> None:
    """A killed process keeps its lease for a minute, which this test does not wait for."""
    connection.execute(leases.delete())


async def test_a_killed_process_loses_nothing_and_doubles_nothing(database_url: str, tmp_path: Path) -> None:
    """While it counts, writes or deletes, or between a file and its record: all there was is in one place or both."""
    folder, chance, kills = tmp_path / "archive", random.Random(), 0
    folder.mkdir()
    database = Database(database_url, utc_now)
    till = Till(database)
    await _use(till)
    before, sums = await stored(database), await shown(till)
    assert len(before) == CALLS
    # The first one soon: all of the work may take less than half a second.
    while not await _archive(database_url, folder, (0.05 + chance.random() / 2) if kills else 0.02):
        kills += 1
        await database.write(_free)
        left, gone = await stored(database), by_id(filed(folder))
        assert gone | left == before
        # What is in both is of the one month that is on its way.
        under_way = [month for month in await database.read(archiving.archives) if month.done_at is None]
        assert not gone.keys() & left.keys() or len(under_way) == 1
        assert await shown(till) == sums
        await till.check()
    assert kills > 0
    assert (by_id(filed(folder)), await stored(database)) == (before, {})
    assert sorted(path.name for path in folder.iterdir() if path.suffix == ".gz") == [
        f"usage-2025-0{month}.csv.gz" for month in (2, 3, 4)
    ]
    assert await shown(till) == sums
    await till.check()
    await database.close()

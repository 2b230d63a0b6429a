"""A scheduler that archives until it is killed: started by tests as `python -m tests.archive.archiver URL FOLDER DAY`.

Archives what is older than DAY in small pieces, so that there are many points to be killed at, and says `ready` when it
begins and `done` at its end.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import datetime
from pathlib import Path

import jobs.archive_usage
import jobs.pacing
import store.archiving
import store.roll_up
from config.clock import utc_now
from store.engine import Database
from tests.archive.archives import archive

PIECE = 7


async def main(url: str, folder: Path, before: datetime) -> None:
    database = Database(url, utc_now)
    print("ready", flush=True)
    await archive(database, folder, before)
    print("done", flush=True)
    await database.close()


if __name__ == "__main__":
    store.roll_up.STEP = store.archiving.BATCH = jobs.archive_usage.READ_SIZE = PIECE
    jobs.pacing.REST = 0
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), datetime.fromisoformat(sys.argv[3])))

"""What old usage costs: requests while it is archived beside requests while nothing else runs, and pages of much of it.

    python bench/retention.py [--rows 1000000] [--seconds 10] [--databases sqlite,postgresql] [--pages] [--json]

Fills a database with usage of three months ago (with --pages: of the last thirty days), and measures cycles of reserve
and settle in this process, first alone and then while a second process archives, as the scheduler does; with --pages
the times of what dashboards ask. PostgreSQL runs without fsync here. Compare the ratios of one run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

sys.path.insert(0, str(Path(__file__).parents[1]))

from config.clock import utc_now
from jobs.archive_usage import Keep
from jobs.process import run_job_once
from jobs.timetable import jobs_that_keep
from policies.terms import AccountId, Funding, OnDeadline
from store import reports
from store.ids import first_id_at
from store.opening import Store, open_store
from store.schema import migrate
from store.usage_sums import last_days, popular, used
from store.users import ensure_user
from store.verbs import Hold, Request, Reserve, Settle, Usage
from tests.postgres import PostgresServer

ACCOUNTS, CLIENTS, CHUNK = 1_000, 16, 200_000
REQUEST = Request("user", None, "app:m1", "use", "route", "policy", "rule", 1)  # type: ignore[arg-type]


@contextmanager
def database(kind: str, folder: Path) -> Iterator[str]:
    if kind == "sqlite":
        yield f"sqlite+aiosqlite:///{folder}/farebox.db"
        return
    server = PostgresServer()
    try:
        server.execute("CREATE DATABASE farebox")
        yield server.url("farebox")
    finally:
        server.stop()


async def fill(store: Store, rows: int, start: datetime, end: datetime) -> None:
    """Old usage, evenly over the time and over the accounts."""
    for first in range(0, ACCOUNTS, 100):
        await asyncio.gather(*(ensure_user(store, f"user-{n}", None, 10**13) for n in range(first, first + 100)))
    step = (first_id_at(end) - first_id_at(start)) // rows
    for first in range(0, rows, CHUNK):
        await store.database.write(insert, first, min(first + CHUNK, rows), first_id_at(start), step)
    await store.database.write(lambda connection: connection.execute(sa.text("ANALYZE")))


def insert(connection: Connection, first: int, last: int, start: int, step: int) -> None:
    numbers = (
        "WITH RECURSIVE n(i) AS (SELECT :first UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :last) "
        if connection.dialect.name == "sqlite"
        else "WITH n(i) AS (SELECT generate_series(CAST(:first AS BIGINT), CAST(:last AS BIGINT) - 1)) "
    )
    # In the words of `store.ids`; every hold is settled two seconds after its request.
    number, at = f"({start} + i * {step})", f"({start} + i * {step}) / 4194304 * 1000 + 1704067200000000"
    account, model = f"1 + i % {ACCOUNTS}", "'app:m' || (i % 10)"
    funding = "CASE WHEN i % 2 = 0 THEN 'credits' ELSE 'quota' END"
    holds = {
        "id": number, "account_id": account, "user_id": "'user'", "state": "'settled'", "funding": funding,
        "amount": "5", "settled_amount": "5", "refunded_amount": "0", "taken": "'{}'", "model_key": model,
        "action": "'use'", "route_id": "'route'", "policy_revision": "'c04fe984ebda'", "rule": "'tier-models'",
        "price_version": "1", "units": "'{}'", "on_deadline": "'release'", "deadline": f"{at} + 3600000000",
        "created_at": at, "ended_at": f"{at} + 2000000", "end_reason": "'answered'",
    }  # fmt: skip
    events = {
        "id": number, "account_id": account, "user_id": "'user'", "model_key": model, "action": "'use'",
        "route_id": "'route'", "funding": funding, "quoted": "5", "charged": "5", "units": "'{}'",
        "estimated": "false", "upstream_status": "200", "latency_ms": "1800", "at": f"{at} + 2000000",
    }  # fmt: skip
    for table, columns in (("holds", holds), ("usage_events", events)):
        insert = f"INSERT INTO {table} ({', '.join(columns)}) {numbers} SELECT {', '.join(columns.values())} FROM n"
        connection.execute(sa.text(insert), {"first": first, "last": last})


async def cycles(store: Store, until: Callable[[], bool]) -> list[float]:
    """Milliseconds of each reserve and settle, by clients that ask again when they are answered."""
    taken: list[float] = []

    async def client(chance: random.Random) -> None:
        while not until():
            begun = time.perf_counter()
            account, deadline = AccountId(chance.randint(1, ACCOUNTS)), utc_now() + timedelta(minutes=10)
            verb = Reserve(store.ids.next(), account, 0, (Funding.CREDITS,), 5, 1, None, REQUEST, deadline,
                           OnDeadline.RELEASE)  # fmt: skip
            hold = await store.ledger.reserve(verb)
            assert isinstance(hold, Hold), hold
            await store.ledger.settle(Settle(hold.hold_id, account, None, Usage(), "answered"))
            taken.append((time.perf_counter() - begun) * 1000)

    await asyncio.gather(*(client(random.Random(number)) for number in range(CLIENTS)))
    return taken


def percentiles(milliseconds: list[float]) -> dict[str, float]:
    hundredths = statistics.quantiles(milliseconds, n=100)
    return {"p50 ms": round(hundredths[49], 2), "p99 ms": round(hundredths[98], 2)}


async def beside_archiving(store: Store, url: str, folder: Path, seconds: float) -> dict[str, Any]:
    """Requests alone, then beside a process that archives, until that has come to its end."""
    end = time.perf_counter() + seconds
    alone = await cycles(store, lambda: time.perf_counter() > end)
    begun = time.perf_counter()
    command = [sys.executable, __file__, "--archive", url, str(folder)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    beside = await cycles(store, lambda: process.returncode is not None)
    output, _ = await process.communicate()
    assert process.returncode == 0, "archiving has failed"
    lasted = time.perf_counter() - begun
    idle, busy = percentiles(alone), percentiles(beside)
    return {
        "alone": {**idle, "cycles/s": round(len(alone) / seconds)},
        "archiving": {**busy, "cycles/s": round(len(beside) / lasted)},
        "p50 ratio": round(busy["p50 ms"] / idle["p50 ms"], 2),
        "p99 ratio": round(busy["p99 ms"] / idle["p99 ms"], 2),
        "archived rows/s": round(json.loads(output)["rows_deleted"] / lasted),
    }


async def archive(url: str, folder: Path) -> None:
    async with open_store(url, utc_now) as store:
        report = await run_job_once(store, utc_now, "archive_usage", jobs_that_keep(Keep(2, folder)))
        print(json.dumps(report.counts))


async def pages(store: Store, seconds: float) -> dict[str, Any]:
    """What dashboards ask, of accounts at random, when the roll-up has run."""
    await run_job_once(store, utc_now, "roll_up_usage")
    now, chance = utc_now(), random.Random(1)
    asked: dict[str, Callable[[Connection, int], Any]] = {
        "balance": lambda connection, account: reports.balance(connection, account, now),
        "usage page": lambda connection, account: reports.usage(connection, account, None, 50),
        "quota of today by model": lambda connection, account: used(
            connection, last_days(1, now, account), ["model_key"]
        ),
        "summary of 30 days": lambda connection, account: used(
            connection, last_days(30, now, account), ["day", "model_key"]
        ),
        "popular": lambda connection, account: popular(connection, last_days(30, now), 100),
    }
    found = {}
    for name, query in asked.items():
        times, end = [], time.perf_counter() + seconds
        while time.perf_counter() < end or len(times) < 100:
            begun = time.perf_counter()
            await store.database.read(query, chance.randint(1, ACCOUNTS))
            times.append((time.perf_counter() - begun) * 1000)
        found[name] = percentiles(times)
    return found


async def measure(url: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    await migrate(url)
    async with open_store(url, utc_now) as store:
        now = utc_now()
        if options.pages:
            await fill(store, options.rows, now - timedelta(days=30), now)
            return await pages(store, options.seconds)
        month = (now.replace(day=1) - timedelta(days=70)).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        await fill(store, options.rows, month, month + timedelta(days=28))
        return await beside_archiving(store, url, folder, options.seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    parser.add_argument("--databases", default="sqlite,postgresql")
    parser.add_argument("--pages", action="store_true", help="what dashboards ask, instead of archiving")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--archive", nargs=2, metavar=("URL", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.archive:
        asyncio.run(archive(options.archive[0], Path(options.archive[1])))
        return
    for kind in options.databases.split(","):
        with tempfile.TemporaryDirectory(prefix="farebox-bench-") as name, database(kind, Path(name)) as url:
            found = asyncio.run(measure(url, Path(name), options))
        print(json.dumps({kind: found}) if options.json else f"{kind}, {options.rows} rows")
        for what, figures in found.items() if not options.json else ():
            print(f"  {what:25} {figures}")


if __name__ == "__main__":
    main()

"""The ledger alone: cycles of reserve and settle, a lone reservation, what size costs, and what people read.

    python bench/ledger.py [--database sqlite|postgresql] [--accounts 1000000] [--usage 10000000] [--seconds 5]
                           [--rounds 3] [--json] [--write]

Every commit is durable: SQLite with `synchronous = FULL`, PostgreSQL with `fsync` on, both on this machine's disk. Each
cycle is of another account, chosen at random from all: the worst case, since no two share a page. What grows with size
is the ratio of the large database to one of a thousand accounts and no usage, measured in turns in the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import Connection

sys.path.insert(0, str(Path(__file__).parents[1]))

from figures import Figure, add_options, at_least, at_most, conditions, report

from config.clock import utc_now
from policies.quota import QuotaTerms
from policies.terms import MICRO, AccountId, Funding, OnDeadline
from proxy.serving import SWITCH_S, settle_memory
from store import reports
from store.columns import to_micros
from store.ids import first_id_at
from store.opening import Store, open_store
from store.quota_reports import windows_now
from store.schema import migrate
from store.verbs import Hold, Request, Reserve, Settle, Usage
from tests.postgres import PostgresServer

CONCURRENT = 64
LONE_MS = {"sqlite": 2, "postgresql": 3}
"""What a lone reservation may take, by database."""
REQUEST = Request("user-1", None, "chat:gpt-4o-mini", "chat", "chat", "c04fe984ebda", "tier-models", 1, {"tokens": "9"})
TERMS = QuotaTerms(10**9, 10**9, 1)
USED = Usage({"input_tokens": "12", "output_tokens": "18"}, False, 200, 12)
LOT = 100_000
"""Rows that one statement fills in."""


@dataclass(frozen=True, slots=True)
class Size:
    accounts: int
    usage: int

    def __str__(self) -> str:
        return f"{self.accounts:,} accounts, {self.usage:,} usage rows"


async def fill(store: Store, size: Size) -> None:
    """Accounts with credits, and their usage of the last weeks, as the ledger would have left them."""
    for start in range(0, max(size.accounts, size.usage), LOT):
        for table, total in (("accounts", size.accounts), ("usage", size.usage)):
            if start < total:
                await store.database.write(_FILL[table], start, min(LOT, total - start), size)
                print(f"\rfilling in: {min(start + LOT, total):,} {table}   ", end="", file=sys.stderr)
    print(file=sys.stderr)


def _numbers(connection: Connection, start: int, count: int) -> str:
    if connection.dialect.name == "postgresql":
        return f"(SELECT generate_series({start + 1}::bigint, {start + count}) AS n) AS s"
    # The offset is constant, and so the table of numbers is computed once for each statement.
    series = f"WITH RECURSIVE s(n) AS (SELECT {start + 1} UNION ALL SELECT n + 1 FROM s LIMIT {count}) SELECT n FROM s"
    return f"({series}) AS s"


def _fill_accounts(connection: Connection, start: int, count: int, size: Size) -> None:
    numbers, now, credits = _numbers(connection, start, count), to_micros(utc_now()), 10**6 * MICRO
    for statement in (
        "accounts (id, kind, revision, tags, created_at) SELECT n, 'user', 0, '[]', {now}",
        "credit_grants (id, account_id, key, source, amount, unspent, spent, priority, effective_at, description,"
        " created_at) SELECT n, n, 'welcome', 'bonus', {credits}, {credits}, FALSE, 100, {now}, 'Welcome bonus', {now}",
        "ledger_entries (account_id, version, kind, amount, balance_after, grant_id, description, at)"
        " SELECT n, 1, 'grant', {credits}, {credits}, n, 'Welcome bonus', {now}",
    ):
        connection.execute(sa.text(f"INSERT INTO {statement} FROM {numbers}".format(now=now, credits=credits)))


def _fill_usage(connection: Connection, start: int, count: int, size: Size) -> None:
    """Rows of quota, which change no balance: spread over all accounts, one every millisecond."""
    numbers, now, no_window = _numbers(connection, start, count), utc_now(), '{"windows":[]}'
    first, moment = first_id_at(now - timedelta(milliseconds=size.usage)), to_micros(now)
    # The accounts by a stride that has no factor in common with their number; the ids a millisecond apart.
    request = f"{first} + n * {1 << 22}, 1 + (n * 7919) % {size.accounts}, 'user-1', NULL, 'chat:gpt-4o-mini', 'chat'"
    for statement in (
        "usage_events (id, account_id, user_id, key_id, model_key, action, route_id, funding, quoted, charged, units,"
        f" estimated, upstream_status, latency_ms, at) SELECT {request}, 'chat', 'quota', 1, 1, '{{}}', FALSE, 200, 12,"
        f" {moment}",
        "holds (id, account_id, user_id, key_id, model_key, action, route_id, funding, state, amount, settled_amount,"
        " refunded_amount, taken, policy_revision, rule, price_version, units, on_deadline, deadline, created_at,"
        f" ended_at, end_reason) SELECT {request}, 'chat', 'quota', 'settled', 1, 1, 0, '{no_window}', 'c04fe984ebda',"
        f" 'tier-models', 1, '{{}}', 'release', {moment}, {moment}, {moment}, 'answered'",
    ):
        connection.execute(sa.text(f"INSERT INTO {statement} FROM {numbers}"))


_FILL = {"accounts": _fill_accounts, "usage": _fill_usage}


def _reserve(store: Store, account_id: int, funding: Funding) -> Reserve:
    identity = store.ids.next(), AccountId(account_id), 0
    terms = TERMS if funding is Funding.QUOTA else None
    return Reserve(*identity, (funding,), 1000, 1, terms, REQUEST, timedelta(hours=1), OnDeadline.RELEASE)


async def cycles(store: Store, size: Size, seconds: float, funding: Funding, concurrent: int) -> list[float]:
    """Moments at which cycles ended, in seconds since the start."""
    ended: list[float] = []
    started = time.perf_counter()

    async def client(chance: random.Random) -> None:
        while time.perf_counter() - started < seconds:
            verb = _reserve(store, chance.randint(1, size.accounts), funding)
            hold = await store.ledger.reserve(verb)
            assert isinstance(hold, Hold), hold
            await store.ledger.settle(Settle(hold.hold_id, hold.account_id, None, USED, "answered"))
            ended.append(time.perf_counter() - started)

    await asyncio.gather(*(client(random.Random()) for _ in range(concurrent)))
    return ended


async def cycles_per_s(store: Store, size: Size, seconds: float, funding: Funding) -> float:
    ended = await cycles(store, size, seconds, funding, CONCURRENT)
    return len(ended) / ended[-1]


async def timed(action: Callable[[int], Awaitable[object]], size: Size, seconds: float) -> tuple[float, float]:
    """p50 and p99 in milliseconds of one action after the other, each for another account."""
    took: list[float] = []
    started, chance = time.perf_counter(), random.Random()
    while time.perf_counter() - started < seconds:
        before = time.perf_counter()
        await action(chance.randint(1, size.accounts))
        took.append((time.perf_counter() - before) * 1e3)
        # An idle system: what is measured is not the queue.
        await asyncio.sleep(0.001)
    took.sort()
    return took[len(took) // 2], took[len(took) * 99 // 100]


@contextmanager
def databases(kind: str, *names: str) -> Iterator[list[str]]:
    """The URLs of new, empty databases."""
    if kind == "sqlite":
        with tempfile.TemporaryDirectory(prefix="farebox-bench-") as folder:
            yield [f"sqlite+aiosqlite:///{folder}/{name}.db" for name in names]
        return
    postgres = PostgresServer(durable=True)
    try:
        for name in names:
            postgres.execute(f"CREATE DATABASE {name}")
        yield [postgres.url(name) for name in names]
    finally:
        postgres.stop()


@asynccontextmanager
async def filled(url: str, size: Size) -> AsyncIterator[Store]:
    await migrate(url)
    async with open_store(url, utc_now) as store:
        await fill(store, size)
        if url.startswith("postgresql"):
            await store.database.write(lambda connection: connection.execute(sa.text("ANALYZE")))
        yield store


async def measure(kind: str, small: Store, large: Store, size: Size, options: argparse.Namespace) -> list[Figure]:
    """Every figure of one database."""
    tiny = Size(1_000, 0)
    rates: dict[tuple[str, str], list[float]] = {}
    for _ in range(options.rounds):
        for funding in (Funding.CREDITS, Funding.QUOTA):
            for name, store, of in (("small", small, tiny), ("large", large, size)):
                rate = await cycles_per_s(store, of, options.seconds, funding)
                rates.setdefault((name, funding), []).append(rate)
    figures = []
    for funding in (Funding.CREDITS, Funding.QUOTA):
        pairs = zip(rates["small", funding], rates["large", funding], strict=True)
        growth = statistics.median(one / other for one, other in pairs)
        rate = statistics.median(rates["large", funding])
        figures.append(at_least(f"{kind}: cycles of {funding}, {CONCURRENT} at a time", rate, "1/s", 8_000))
        figures.append(at_most(f"{kind}: cost of a cycle of {funding}, large to small", growth, "x", 1.2))
    return figures + [figure async for figure in _lone(kind, large, size, options.seconds)]


async def _lone(kind: str, store: Store, size: Size, seconds: float) -> AsyncIterator[Figure]:
    """One action at a time: a reservation, and what people read."""
    read, now = store.database.read, utc_now()
    p50, _ = await timed(lambda account: store.ledger.reserve(_reserve(store, account, Funding.CREDITS)), size, seconds)
    yield at_most(f"{kind}: lone reservation, p50", p50, "ms", LONE_MS[kind])
    reads: dict[str, Callable[[int], Awaitable[object]]] = {
        "balance": lambda account: read(reports.balance, account, now),
        "quota status": lambda account: read(windows_now, AccountId(account), TERMS, utc_now()),
        "usage page": lambda account: read(reports.usage, account, None, 50),
    }
    for name, action in reads.items():
        _, p99 = await timed(action, size, seconds)
        yield at_most(f"{kind}: {name}, p99", p99, "ms", 20)


async def run(kind: str, urls: list[str], size: Size, options: argparse.Namespace) -> list[Figure]:
    async with filled(urls[0], Size(1_000, 0)) as small, filled(urls[1], size) as large:
        return await measure(kind, small, large, size, options)


def measured(kinds: Sequence[str], size: Size, options: argparse.Namespace) -> Iterator[Figure]:
    for kind in kinds:
        with databases(kind, "small", "large") as urls:
            yield from asyncio.run(run(kind, urls, size, options))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--database", choices=list(LONE_MS), action="append")
    parser.add_argument("--accounts", type=int, default=1_000_000)
    parser.add_argument("--usage", type=int, default=10_000_000)
    options = parser.parse_args()
    size = Size(options.accounts, options.usage)
    # As the proxy does.
    sys.setswitchinterval(SWITCH_S)
    settle_memory()
    report(
        measured(options.database or list(LONE_MS), size, options), options, "ledger.py", conditions(options, str(size))
    )


if __name__ == "__main__":
    main()

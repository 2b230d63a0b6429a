"""`make laws`: the machine of the ledger's laws, with as many random examples as asked for.

    python -m tests.laws [--examples 200] [--seed 7] [--database all]

They are tried some at a time, each time with the next seed, so that a disagreement can be found again quickly: it is
printed with the shortest steps that lead to it, and with the line that tries only those examples again.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import SystemRandom
from time import perf_counter

from store.schema import migrate
from tests.conftest import DIALECTS
from tests.laws.test_ledger_machine import keep_the_laws
from tests.postgres import PostgresServer

AT_ONCE = 20
"""Examples of one seed: half a minute of them, so that progress is seen."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=200, help="for each database")
    parser.add_argument("--seed", type=int, help="of the first examples; without it, another every time")
    parser.add_argument("--database", choices=["all", *DIALECTS], default="all")
    options = parser.parse_args()
    seed = SystemRandom().randrange(10**6) if options.seed is None else options.seed
    dialects = DIALECTS if options.database == "all" else [options.database]
    print(f"seed {seed}, {options.examples} examples on each of: {', '.join(dialects)}", flush=True)
    return max(_keep_on(dialect, options.examples, seed) for dialect in dialects)


def _keep_on(dialect: str, examples: int, seed: int) -> int:
    """All examples on one database, some at a time. Returns 1 at the first disagreement."""
    started, tried = perf_counter(), 0
    with _database(dialect) as url:
        for done in range(0, examples, AT_ONCE):
            count, current = min(AT_ONCE, examples - done), seed + done // AT_ONCE
            try:
                keep_the_laws(url, count, current)
            except Exception:
                traceback.print_exc()
                print(f"\nthe same again: make laws EXAMPLES={count} SEED={current} DATABASE={dialect}", flush=True)
                return 1
            tried += count
            print(f"{dialect}: {tried} of {examples} examples, {perf_counter() - started:.0f} s", flush=True)
    return 0


@contextmanager
def _database(dialect: str) -> Iterator[str]:
    """A migrated database that is gone afterwards."""
    if dialect == "sqlite":
        with tempfile.TemporaryDirectory(prefix="farebox-laws-") as folder:
            url = f"sqlite+aiosqlite:///{Path(folder)}/farebox.db"
            asyncio.run(migrate(url))
            yield url
        return
    server = PostgresServer()
    try:
        server.execute("CREATE DATABASE farebox")
        asyncio.run(migrate(server.url("farebox")))
        yield server.url("farebox")
    finally:
        server.stop()


if __name__ == "__main__":
    sys.exit(main())

"""`make differential`: as many odd requests and answers as asked for, and a table of how they were read.

    python -m tests.differential [--requests 5000] [--answers 2500] [--seed 7] [--json] [--page docs/security.md]

Progress goes to standard error. Ends with 1 when any two parsers disagree, or when something was forwarded or charged
that should not have been. Node's parser is asked too where `node` is on the path.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from random import SystemRandom
from time import perf_counter

from store.schema import migrate
from tests.differential.answers import Answers
from tests.differential.field import running_field
from tests.differential.readers import Node, readers
from tests.differential.report import Report, as_json, report_of, table, write_page
from tests.differential.requests import Requests

MOST_TOLD = 20
"""Problems that are printed; their cases are found again by the seed."""


def options_of(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=5000, help="odd requests of clients")
    parser.add_argument("--answers", type=int, default=2500, help="odd answers of backends")
    parser.add_argument("--seed", type=int, help="the same one makes the same bytes; without it, another every time")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--page", type=Path, help="also write the table into this page")
    options = parser.parse_args(arguments)
    if options.seed is None:
        options.seed = SystemRandom().randrange(10**6)
    return options


def main() -> int:
    options = options_of(sys.argv[1:])
    # Every odd answer is a line of the log.
    logging.disable(logging.CRITICAL)
    tell(f"seed {options.seed}")
    with tempfile.TemporaryDirectory(prefix="farebox-differential-") as folder:
        report = asyncio.run(run(options, Path(folder)))
    print(json.dumps(as_json(report), indent=2) if options.json else table(report))
    if options.page is not None:
        write_page(options.page, table(report))
    for problem in report.problems[:MOST_TOLD]:
        tell(problem)
    if report.problems:
        again = f"make differential REQUESTS={options.requests} ANSWERS={options.answers} SEED={options.seed}"
        tell(f"{len(report.problems)} problems; the same again: {again}")
    return 1 if report.problems else 0


async def run(options: argparse.Namespace, folder: Path) -> Report:
    database, place = folder / "migrated.db", folder / "field"
    place.mkdir()
    await migrate(f"sqlite+aiosqlite:///{database}")
    node = await Node.start()
    try:
        async with running_field(database, place) as field:
            requests = await Requests(field, readers(), node).run(
                options.seed, options.requests, telling("requests", options.requests)
            )
            answers = await Answers(field).run(options.seed, options.answers, telling("answers", options.answers))
    finally:
        if node is not None:
            await node.stop()
    names = [*(reader.name for reader in readers()), *([node.name] if node is not None else [])]
    return report_of(options.seed, requests, answers, names)


def telling(what: str, count: int) -> Callable[[int], None]:
    """Says how far it has come, twenty times."""
    started, step = perf_counter(), max(count // 20, 1)

    def progress(done: int) -> None:
        if done % step == 0 or done == count:
            tell(f"{what}: {done} of {count}, {perf_counter() - started:.0f} s")

    return progress


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

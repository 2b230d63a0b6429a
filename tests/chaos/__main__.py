"""`make chaos`: every way to run Farebox, killed as often as asked for, and a table of what was wrong.

    python -m tests.chaos [--kills 60] [--seed 7] [--database all] [--json] [--page docs/chaos.md] [--keep]

Progress goes to standard error. Ends with 1 when anything was wrong; then the books, logs and databases are kept.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from random import SystemRandom

from tests.chaos.conductor import Run, conduct
from tests.chaos.plan import VARIANTS, make_plan
from tests.chaos.report import as_json, row_of, tables, write_page

MOST_TOLD = 20
"""Breaches of a variant that are printed; all of them are in its folder."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60, help="in all; divided among the variants")
    parser.add_argument("--seed", type=int, help="the same one makes the same plan; without it, another every time")
    parser.add_argument("--database", choices=["all", "sqlite", "postgresql"], default="all")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--page", type=Path, help="also write the tables into this page")
    parser.add_argument("--keep", action="store_true", help="keep books, logs and databases also when nothing is wrong")
    options = parser.parse_args()
    seed = SystemRandom().randrange(10**6) if options.seed is None else options.seed
    folder = Path(tempfile.mkdtemp(prefix="farebox-chaos-"))
    for number in (signal.SIGINT, signal.SIGTERM):
        # Also where whoever started it ignores the one, and the other would leave everything running.
        signal.signal(number, signal.default_int_handler)
    tell(f"seed {seed}, in {folder}")
    again = f"make chaos KILLS={options.kills} SEED={seed} DATABASE={options.database}"
    try:
        runs = asyncio.run(run_all(options.database, seed, options.kills, folder))
    except KeyboardInterrupt:
        tell(f"stopped; what there is so far is in {folder}")
        return 130
    rows = [row_of(run) for run in runs]
    text = tables(rows, seed)
    print(json.dumps(as_json(runs, seed), indent=2) if options.json else text)
    if options.page is not None:
        write_page(options.page, text)
    wrong = sum(row.breaches for row in rows)
    if wrong:
        tell_breaches(runs)
        tell(f"{wrong} things are wrong; everything is kept in {folder}; the same plan again: {again}")
    elif not options.keep:
        shutil.rmtree(folder)
    return 1 if wrong else 0


async def run_all(database: str, seed: int, kills: int, folder: Path) -> list[Run]:
    """One variant after the other."""
    variants = [variant for variant in VARIANTS if database in ("all", variant.database)]
    runs = []
    for number, variant in enumerate(variants, 1):
        place = folder / str(number)
        place.mkdir()
        runs.append(await conduct(make_plan(variant, seed, -(-kills // len(variants))), place, tell))
    return runs


def tell_breaches(runs: list[Run]) -> None:
    for run in runs:
        told = [f"{breach.wrong}: {breach.where}: {breach.what}" for breach in run.breaches] + run.laws
        for line in told[:MOST_TOLD]:
            tell(f"{run.plan.variant.name}: {line}")
        if len(told) > MOST_TOLD:
            tell(f"{run.plan.variant.name}: … {len(told) - MOST_TOLD} more in {run.folder}/breaches.txt")


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

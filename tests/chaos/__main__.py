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
from collections.abc import Sequence
from pathlib import Path
from random import SystemRandom

from tests.chaos.conductor import Run, conduct
from tests.chaos.plan import VARIANTS, make_plan
from tests.chaos.report import as_json, row_of, tables, write_page

MOST_TOLD = 20
"""Breaches of a variant that are printed; all of them are in its folder."""

STOPPED = 130
"""The exit code of a run that somebody has stopped, as shells have it for SIGINT."""


def options_of(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60, help="in all; divided among the variants")
    parser.add_argument("--seed", type=int, help="the same one makes the same plan; without it, another every time")
    parser.add_argument("--database", choices=["all", "sqlite", "postgresql"], default="all")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--page", type=Path, help="also write the tables into this page")
    parser.add_argument("--keep", action="store_true", help="keep books, logs and databases also when nothing is wrong")
    options = parser.parse_args(arguments)
    if options.seed is None:
        options.seed = SystemRandom().randrange(10**6)
    return options


def main() -> int:
    options = options_of(sys.argv[1:])
    folder = Path(tempfile.mkdtemp(prefix="farebox-chaos-"))
    for number in (signal.SIGINT, signal.SIGTERM):
        # Also where whoever started it ignores the one, and the other would leave everything running.
        signal.signal(number, signal.default_int_handler)
    tell(f"seed {options.seed}, in {folder}")
    try:
        runs = asyncio.run(run_all(options, folder))
    except KeyboardInterrupt:
        tell(f"stopped; what there is so far is in {folder}")
        return STOPPED
    return conclude(runs, options, folder)


async def run_all(options: argparse.Namespace, folder: Path) -> list[Run]:
    """One variant after the other."""
    variants = [variant for variant in VARIANTS if options.database in ("all", variant.database)]
    runs = []
    for number, variant in enumerate(variants, 1):
        place = folder / str(number)
        place.mkdir()
        plan = make_plan(variant, options.seed, -(-options.kills // len(variants)))
        runs.append(await conduct(plan, place, tell))
    return runs


def conclude(runs: Sequence[Run], options: argparse.Namespace, folder: Path) -> int:
    """Tell what came of it, and return the exit code. The folder is removed when there is nothing to look at."""
    text = tables([row_of(run) for run in runs], options.seed)
    print(json.dumps(as_json(runs, options.seed), indent=2) if options.json else text)
    if options.page is not None:
        write_page(options.page, text)
    wrong = [f"{run.plan.variant.name}: {line}" for run in runs for line in _told(run)]
    if wrong:
        again = f"make chaos KILLS={options.kills} SEED={options.seed} DATABASE={options.database}"
        tell("\n".join(wrong))
        tell(f"everything is kept in {folder}; the same plan again: {again}")
    elif not options.keep:
        shutil.rmtree(folder)
    return 1 if wrong else 0


def _told(run: Run) -> list[str]:
    told = [f"{breach.wrong}: {breach.where}: {breach.what}" for breach in run.breaches] + run.laws
    more = len(told) - MOST_TOLD
    return [*told[:MOST_TOLD], f"… {more} more in {run.folder}/breaches.txt"] if more > 0 else told


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

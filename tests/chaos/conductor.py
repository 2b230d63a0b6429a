"""One run: Farebox is called and killed as a plan says, started for the last time, and its books compared.

The order of the end matters: clients stop first, then every node by SIGTERM, then the deadlines of all open holds pass,
then Farebox starts once more, and only then nothing may be held any more.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from config.clock import utc_now
from store.engine import Database
from store.verify import verify
from tests.chaos.audit import Books, Breach, Wrong, audit
from tests.chaos.backend import read_book
from tests.chaos.clients import Crew
from tests.chaos.ledger import last_deadline, read_ledger
from tests.chaos.plan import Plan
from tests.chaos.processes import Stuck
from tests.chaos.stage import Stage, staged

JITTER_S = 0.2
"""As long as a call lasts."""

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a plan. `laws` are the breaches that `farebox ledger verify` found, at the end and on the way."""

    plan: Plan
    folder: Path
    kills: int
    stops: int
    books: Books
    breaches: list[Breach]
    laws: list[str]


async def conduct(plan: Plan, folder: Path, tell: Tell) -> Run:
    """Carry out a plan in a folder of its own, where everything is kept."""
    laws: list[str] = []
    async with staged(plan, folder) as stage:
        crew = Crew(plan.seed, [(ports.public, ports.admin) for ports in stage.ports])
        try:
            crew.start()
            await _perform(plan, stage, crew, laws, tell)
            await crew.stop()
            await _wind_up(stage, laws)
        except Stuck as stuck:
            # What the books say at this point tells more than that something hangs.
            stage.faults.append(Breach(Wrong.FAULT, plan.variant.name, str(stuck)))
        finally:
            await crew.abandon()
        database = Database(stage.database_url, utc_now)
        ledger = await database.read(read_ledger)
        await database.close()
        books = Books(crew.book, read_book(stage.backend.book), ledger, stage.outages)
    run = Run(plan, folder, stage.kills, stage.stops, books, [*stage.faults, *audit(books)], laws)
    _keep(run)
    return run


async def _perform(plan: Plan, stage: Stage, crew: Crew, laws: list[str], tell: Tell) -> None:
    """Every step, each followed by a look at the laws: they hold also while calls are under way."""
    for number, steps in enumerate(plan.rounds, 1):
        for step in steps:
            await crew.answers(step.calls)
            # Not always when an answer has just been read.
            await asyncio.sleep(step.moment * JITTER_S)
            await stage.do(step)
            database = Database(stage.database_url, utc_now)
            for check in await database.read(verify):
                laws += [f"{check.name}: {breach}" for breach in check.breaches]
            await database.close()
        counts = f"{stage.kills} kills, {len(crew.book.calls)} calls, {len(laws)} laws broken"
        tell(f"{plan.variant.name}: round {number} of {len(plan.rounds)}, {counts}")
        crew.next_round()


async def _wind_up(stage: Stage, laws: list[str]) -> None:
    """Everything ends that was under way; then nothing may be left, neither a hold nor a process."""
    for node in stage.nodes:
        await stage.stop(node)
    database = Database(stage.database_url, utc_now)
    deadline = await database.read(last_deadline)
    await database.close()
    if deadline is not None:
        await asyncio.sleep(max(deadline - time.time(), 0))
    last = stage.nodes[0]
    await last.start()
    await stage.stop(last)
    for node in stage.nodes:
        stage.faults += [Breach(Wrong.FAULT, node.name, f"has left {line} behind") for line in await node.leftovers()]
    status, output = await last.farebox("ledger", "verify", "--json")
    found = json.loads(output)
    assert (status == 0) == found["ok"], "the exit code says what the output says"
    laws += [f"{breach['law']}: {breach['what']}" for breach in found["breaches"]]


def _keep(run: Run) -> None:
    """Calls, holds and what is wrong, beside the logs, the backend's book and the file of the database."""
    (run.folder / "calls.jsonl").write_text("".join(f"{call.line()}\n" for call in run.books.clients.calls))
    holds = [json.dumps(asdict(hold)) for hold in run.books.ledger.holds.values()]
    (run.folder / "holds.jsonl").write_text("".join(f"{line}\n" for line in holds))
    wrong = [f"{breach.wrong}: {breach.where}: {breach.what}" for breach in run.breaches]
    (run.folder / "breaches.txt").write_text("".join(f"{line}\n" for line in [*wrong, *run.laws]))

"""The short form of `make chaos`: some kills of everything on each database, and nothing is wrong.

The plans are written out, so that the suite does the same every time; `make chaos` makes longer ones from a seed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.chaos.conductor import conduct
from tests.chaos.plan import Plan, Step, Target, Variant
from tests.chaos.report import as_json

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")

CHILDREN = Step(40, Target.MAIN, 0, 0.4), Step(15, Target.WORKER, 0, 0.6), Step(15, Target.BACKEND, 0, 0.5)
STARTS = Step(40, Target.NODE, 0, 0.4), Step(20, Target.STARTING, 0, 0.3)
LOCKED = Step(30, Target.DATABASE_LOCKED, 0, 0.2), Step(30, Target.DISK_FULL, 0, 0.2)
STOPPED = Step(30, Target.DATABASE_KILLED, 0, 0.2), Step(30, Target.DATABASE_STOPPED, 0, 0.1)

PLANS = [
    Plan(Variant("SQLite, two processes", "sqlite", 1, 2, {}), "suite", (0.3,), (CHILDREN,)),
    Plan(Variant("SQLite, locked and full", "sqlite", 1, 1, {}), "suite", (), (LOCKED,)),
    Plan(Variant("PostgreSQL, one process", "postgresql", 1, 1, {}), "suite", (0.1,), (STARTS,)),
    Plan(Variant("PostgreSQL, killed and stopped", "postgresql", 1, 1, {}), "suite", (), (STOPPED,)),
]
"""Without weights for targets: these plans were not drawn."""


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.variant.name)
async def test_the_three_books_agree(plan: Plan, tmp_path: Path) -> None:
    """Nothing overspent, forwarded unpaid, lost, charged twice or for nothing, and every law is kept, all the way."""
    run = await conduct(plan, tmp_path, print)
    found = as_json([run], 0)
    assert found["ok"], found
    assert (run.kills, len(run.books.outages)) == _counts(plan)
    assert run.books.ledger.holds, "something was bought"


def _counts(plan: Plan) -> tuple[int, int]:
    """Kills and outages of a plan."""
    targets = [step.target for steps in plan.rounds for step in steps]
    return plan.kills, sum(target.name.startswith(("DATABASE", "DISK")) for target in targets)

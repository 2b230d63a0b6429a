"""What is done to a run, and when: decided before it begins, by its seed alone.

The same seed makes the same plan and the same decisions of clients. It does not make the same run: at which statement a
kill meets a process is up to the machine, and no two runs are alike. That is why there are many kills.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from random import Random

STEPS = 5
"""Things that happen in one round, to the same accounts."""

MOST_CALLS = 60
"""That end before a thing happens: enough for caches to be warm at some kills, and few enough for them to be cold."""

FIRST_STARTS = 3
"""Kills of the very first start, while it makes the schema."""


class Target(StrEnum):
    """What a step does."""

    MAIN = "the main process is killed"
    WORKER = "a worker is killed"
    SCHEDULER = "the scheduler is killed"
    NODE = "all processes of a node are killed at once"
    EVERYTHING = "all processes of all nodes and the backend are killed at once"
    BACKEND = "the backend is killed"
    STARTING = "a node is killed, and killed again while it starts"
    STOP = "a node is stopped by SIGTERM"
    DATABASE_KILLED = "the database server is killed"
    DATABASE_STOPPED = "the database server is shut down"
    DATABASE_LOCKED = "another process locks the database"
    DATABASE_LOCKED_LONG = "another process locks the database for longer than anybody waits"
    DISK_FULL = "the disk is full"


KILLS = {Target.STARTING: 2, Target.STOP: 0, Target.DATABASE_STOPPED: 0}
KILLS |= {Target.DATABASE_LOCKED: 0, Target.DATABASE_LOCKED_LONG: 0, Target.DISK_FULL: 0}
"""How many kills a step counts for, where it is not one: moments of a SIGKILL, to however many processes."""

ONE = {Target.MAIN: 6, Target.SCHEDULER: 1, Target.NODE: 4, Target.STARTING: 3, Target.EVERYTHING: 1}
ONE |= {Target.BACKEND: 1, Target.STOP: 2}
SEVERAL = {**ONE, Target.WORKER: 5}
LOCKED = {
    Target.DATABASE_LOCKED: 4,
    Target.DATABASE_LOCKED_LONG: 1,
    Target.DISK_FULL: 4,
    Target.MAIN: 3,
    Target.NODE: 2,
    Target.STARTING: 1,
}
STOPPED = {Target.DATABASE_KILLED: 6, Target.DATABASE_STOPPED: 3, Target.MAIN: 3, Target.NODE: 2, Target.STARTING: 1}


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to run Farebox, and what happens to it, each with how often in comparison."""

    name: str
    database: str
    nodes: int
    workers: int
    targets: Mapping[Target, int]


VARIANTS = (
    Variant("SQLite, one process", "sqlite", 1, 1, ONE),
    Variant("SQLite, two processes", "sqlite", 1, 2, SEVERAL),
    Variant("SQLite, locked and full", "sqlite", 1, 1, LOCKED),
    Variant("PostgreSQL, two processes", "postgresql", 1, 2, SEVERAL),
    Variant("PostgreSQL, two nodes", "postgresql", 2, 1, ONE),
    Variant("PostgreSQL, killed and stopped", "postgresql", 2, 1, STOPPED),
)


@dataclass(frozen=True, slots=True)
class Step:
    """After some calls something happens, to the node of this number. `moment` in [0, 1) decides the rest of it."""

    calls: int
    target: Target
    node: int
    moment: float


@dataclass(frozen=True, slots=True)
class Plan:
    """`first_starts` decides how long the first starts live. Each round has accounts of its own."""

    variant: Variant
    seed: str
    first_starts: tuple[float, ...]
    rounds: tuple[tuple[Step, ...], ...]

    @property
    def kills(self) -> int:
        steps = [step for steps in self.rounds for step in steps]
        return len(self.first_starts) + sum(KILLS.get(step.target, 1) for step in steps)


def make_plan(variant: Variant, seed: int, kills: int) -> Plan:
    """The plan with at least so many kills."""
    name = f"{seed}/{variant.name}"
    chance = Random(name)
    first_starts = tuple(round(chance.random(), 3) for _ in range(FIRST_STARTS))
    rounds: list[tuple[Step, ...]] = []
    plan = Plan(variant, name, first_starts, ())
    while plan.kills < kills or not rounds:
        rounds.append(tuple(_step(variant, chance) for _ in range(STEPS)))
        plan = Plan(variant, name, first_starts, tuple(rounds))
    return plan


def _step(variant: Variant, chance: Random) -> Step:
    target = chance.choices(list(variant.targets), list(variant.targets.values()))[0]
    return Step(chance.randint(1, MOST_CALLS), target, chance.randrange(variant.nodes), round(chance.random(), 3))

"""The stage of a run: the database, the backend and the nodes, and everything that can be done to them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

from config.clock import utc_now
from store.engine import Database
from store.schema import migrate
from tests.chaos.audit import Breach, Wrong
from tests.chaos.databases import Postgres, SmallDisk, SqliteFile, full_files
from tests.chaos.plan import Plan, Step, Target, Variant
from tests.chaos.processes import PATIENCE_S, Backend, Node, Stuck
from tests.chaos.shop import Ports, stock, write_settings
from tests.flows.raw import RawClient, request

STARTING_S = 3.0
"""How long a start may last before it is killed: longer than one takes, so that it may also meet the first calls."""

SCHEMA_S = 0.3
"""How long a first start may last from when it has touched the database: about as long as it makes the schema."""

OUTAGE_S = 2.0
"""How long the database is away, at most."""

LONG_LOCK_S = 12.0
"""Longer than a write waits for the lock of another process."""


class Stage:
    """Counts what is done to it. `faults` are what processes did that they must not; every method may raise Stuck."""

    def __init__(self, variant: Variant, folder: Path, database: SqliteFile | Postgres, disk: SmallDisk | None) -> None:
        self.database_url = database.url
        self._database, self._disk = database, disk
        self.ports = Ports.free(variant.nodes)
        self.nodes = []
        for number, ports in enumerate(self.ports, 1):
            config = write_settings(folder / f"node{number}", database.url, ports)
            self.nodes.append(Node(f"node {number}", config, variant.workers, folder / f"node{number}.log"))
        self.backend = Backend(self.ports[0].backend, folder)
        self.kills = self.stops = 0
        self.outages: list[tuple[float, float]] = []
        """Spans, in seconds since 1970, in which the database could not be relied upon."""
        self.faults: list[Breach] = []

    async def start(self, first_starts: tuple[float, ...]) -> None:
        """Kill whatever makes the schema, at some moments, and then let it; stock the shop; serve."""
        first, is_file = self.nodes[0], isinstance(self._database, SqliteFile)
        for moment in first_starts:
            # A file is made by the first start itself, a server's schema by the operator's command.
            await first.spawn("serve" if is_file else "migrate")
            while first.alive and not await self._database.opened_by(first.pid):
                await asyncio.sleep(0.005)
            await asyncio.sleep(moment * SCHEMA_S)
            await self._kill(first)
        await migrate(self.database_url)
        database = Database(self.database_url, utc_now)
        await database.write(stock, utc_now())
        await database.close()
        await self.backend.start()
        await asyncio.gather(*(node.start() for node in self.nodes))

    async def end(self) -> None:
        """Whatever happened: nothing outlives the run."""
        await self.backend.kill()
        for node in self.nodes:
            await node.end()

    async def do(self, step: Step) -> None:
        """One step of the plan, until everything is well again."""
        node = self.nodes[step.node]
        match step.target:
            case Target.MAIN | Target.NODE:
                await self._kill(node, node.pid if step.target is Target.MAIN else None)
                await node.start()
            case Target.WORKER | Target.SCHEDULER:
                children = node.children("serve" if step.target is Target.WORKER else "jobs")
                if children:
                    await self._kill(node, children[int(step.moment * len(children))])
            case Target.EVERYTHING:
                self.kills += 1
                await asyncio.gather(self.backend.kill(), *(each.kill() for each in self.nodes))
                await asyncio.gather(self.backend.start(), *(each.start() for each in self.nodes))
            case Target.BACKEND:
                self.kills += 1
                await self.backend.kill()
                await self.backend.start()
            case Target.STARTING:
                await self._kill(node)
                await node.spawn()
                await asyncio.sleep(step.moment * STARTING_S)
                await self._kill(node)
                await node.start()
            case Target.STOP:
                await self.stop(node)
                await node.start()
            case _:
                await self._outage(step)

    async def _kill(self, node: Node, pid: int | None = None) -> None:
        self.kills += 1
        await node.kill(pid)

    async def stop(self, node: Node) -> None:
        self.stops += 1
        status = await node.stop()
        if status != 0:
            self.faults.append(Breach(Wrong.FAULT, node.name, f"SIGTERM ended it with {status}"))

    async def _outage(self, step: Step) -> None:
        """Take the database away for a while, and wait until the nodes have noticed that it is back."""
        started, away_s = time.time(), step.moment * OUTAGE_S
        async with AsyncExitStack() as stack:
            if isinstance(self._database, Postgres):
                killed = step.target is Target.DATABASE_KILLED
                self.kills += killed
                await stack.enter_async_context(self._database.killed() if killed else self._database.shut_down())
            elif step.target is Target.DISK_FULL:
                stack.enter_context(self._disk.full() if self._disk else full_files(self._pids))
            else:
                await stack.enter_async_context(self._database.locked())
                away_s = LONG_LOCK_S if step.target is Target.DATABASE_LOCKED_LONG else away_s
            await asyncio.sleep(away_s)
        await asyncio.gather(*(_well(ports) for ports in self.ports))
        self.outages.append((started, time.time()))

    def _pids(self) -> list[int]:
        return [pid for node in self.nodes for pid in (node.pid, *node.children("serve"), *node.children("jobs"))]


@asynccontextmanager
async def staged(plan: Plan, folder: Path) -> AsyncIterator[Stage]:
    """Everything that a plan needs, running in a folder, until the block is left."""
    async with AsyncExitStack() as stack:
        database: SqliteFile | Postgres
        disk: SmallDisk | None = None
        if plan.variant.database == "postgresql":
            database = await asyncio.to_thread(Postgres)
            stack.push_async_callback(asyncio.to_thread, database.stop)
        else:
            if any(step.target is Target.DISK_FULL for steps in plan.rounds for step in steps):
                with suppress(PermissionError):
                    disk = stack.enter_context(SmallDisk.mounted(folder / "disk"))
            database = SqliteFile(disk.folder if disk is not None else folder)
        stage = Stage(plan.variant, folder, database, disk)
        stack.push_async_callback(stage.end)
        await stage.start(plan.first_starts)
        yield stage


async def _well(ports: Ports) -> None:
    """Until a node says that it is ready."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while await _readiness(ports) != 200:
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise Stuck("the database is back, and a node is not ready again") from None


async def _readiness(ports: Ports) -> int | None:
    """The status of the probe, or None when nobody answers."""
    with suppress(OSError, asyncio.IncompleteReadError):
        client = await RawClient.connect("127.0.0.1", ports.admin)
        await client.send(request("GET /readyz", "Host: localhost"))
        answer = await client.answer()
        await client.close()
        return answer.status
    return None

"""One run: Farebox is started, called and killed as a plan says, started for the last time, and its books compared.

The order of the end matters: clients stop first, then every node by SIGTERM, then the deadlines of all open holds pass,
then Farebox starts once more, and only then nothing may be held any more.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from config.clock import utc_now
from store.engine import Database
from store.schema import migrate
from store.verify import verify
from tests.chaos.audit import Books, Breach, Wrong, audit
from tests.chaos.backend import read_book
from tests.chaos.clients import Crew
from tests.chaos.databases import Postgres, SmallDisk, SqliteFile, full_files
from tests.chaos.ledger import LedgerBook, last_deadline, read_ledger
from tests.chaos.plan import Plan, Step, Target
from tests.chaos.processes import PATIENCE_S, Backend, Node, Stuck, free_ports
from tests.chaos.shop import Ports, stock, write_settings
from tests.flows.raw import RawClient, request

STARTING_S = 3.0
"""How long a start may last before it is killed: longer than one takes, so that it may also meet the first calls."""

JITTER_S = 0.2
"""As long as a call lasts."""

OUTAGE_S = 2.0
"""How long the database is away, at most."""

LONG_LOCK_S = 12.0
"""Longer than a write waits for the lock of another process."""

Tell = Callable[[str], None]


@dataclass
class Run:
    """What came of a plan. `laws` counts what `farebox ledger verify` found, and what was found on the way."""

    plan: Plan
    folder: Path
    books: Books
    breaches: list[Breach]
    kills: int
    stops: int
    laws: list[str] = field(default_factory=list)


class Conductor:
    """Carries out one plan in a folder of its own."""

    def __init__(self, plan: Plan, folder: Path, tell: Tell) -> None:
        self._plan, self._folder, self._tell = plan, folder, tell
        self._kills = self._stops = 0
        self._outages: list[tuple[float, float]] = []
        self._laws: list[str] = []
        self._breaches: list[Breach] = []

    async def run(self) -> Run:
        """Raises Stuck when a process does not do what it must."""
        async with AsyncExitStack() as stack:
            await self._set_up(stack)
            crew = Crew(self._plan.seed, [(ports.public, ports.admin) for ports in self._ports])
            stack.push_async_callback(crew.abandon)
            crew.start()
            for number, steps in enumerate(self._plan.rounds, 1):
                for step in steps:
                    await crew.answers(step.calls)
                    # Not always when an answer has just been read.
                    await asyncio.sleep(step.moment * JITTER_S)
                    await self._do(step)
                    await self._check_laws()
                self._report(number, crew)
                crew.next_round()
            await crew.stop()
            ledger = await self._wind_up()
            books = Books(crew.book, read_book(self._backend.book), ledger, self._outages)
        breaches = [*self._breaches, *audit(books)]
        result = Run(self._plan, self._folder, books, breaches, self._kills, self._stops, self._laws)
        self._keep(result)
        return result

    # Before.

    async def _set_up(self, stack: AsyncExitStack) -> None:
        """The database, killed while it is made; what is for sale; the backend; the nodes, serving."""
        variant = self._plan.variant
        self._database = await stack.enter_async_context(self._opened())
        numbers = free_ports(2 * variant.nodes + 1)
        self._ports = [Ports(*numbers[2 * node : 2 * node + 2], numbers[-1]) for node in range(variant.nodes)]
        self._nodes = [self._node(number, ports) for number, ports in enumerate(self._ports, 1)]
        self._backend = Backend(numbers[-1], self._folder)
        stack.push_async_callback(self._backend.kill)
        for node in self._nodes:
            stack.push_async_callback(node.end)
        await self._first_start()
        database = Database(self._database.url, utc_now)
        await database.write(stock, utc_now())
        await database.close()
        await self._backend.start()
        await asyncio.gather(*(node.start() for node in self._nodes))

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[SqliteFile | Postgres]:
        self._disk: SmallDisk | None = None
        if self._plan.variant.database == "postgresql":
            server = await asyncio.to_thread(Postgres)
            try:
                yield server
            finally:
                await asyncio.to_thread(server.stop)
        elif Target.DISK_FULL in self._plan.variant.targets:
            with suppress(OSError), SmallDisk.mounted(self._folder / "disk") as disk:
                self._disk = disk
                yield SqliteFile(disk.folder)
            if self._disk is None:
                yield SqliteFile(self._folder)
        else:
            yield SqliteFile(self._folder)

    def _node(self, number: int, ports: Ports) -> Node:
        config = write_settings(self._folder / f"node{number}", self._database.url, ports)
        return Node(f"node {number}", config, self._plan.variant.workers, self._folder / f"node{number}.log")

    async def _first_start(self) -> None:
        """Kill whatever makes the schema, at some moments, then let it."""
        node = self._nodes[0]
        for lives_s in self._plan.first_starts:
            await node.spawn()
            await asyncio.sleep(lives_s)
            await node.kill()
            self._kills += 1
        await migrate(self._database.url)

    # Meanwhile.

    async def _do(self, step: Step) -> None:
        node = self._nodes[step.node]
        match step.target:
            case Target.MAIN | Target.NODE:
                await self._kill(node, node.pid if step.target is Target.MAIN else None)
                await node.start()
            case Target.WORKER | Target.SCHEDULER:
                children = node.children("serve" if step.target is Target.WORKER else "jobs")
                if children:
                    await self._kill(node, children[int(step.moment * len(children))])
            case Target.EVERYTHING:
                self._kills += 1
                await asyncio.gather(self._backend.kill(), *(each.kill() for each in self._nodes))
                await asyncio.gather(self._backend.start(), *(each.start() for each in self._nodes))
            case Target.BACKEND:
                self._kills += 1
                await self._backend.kill()
                await self._backend.start()
            case Target.STARTING:
                await self._kill(node)
                await node.spawn()
                await asyncio.sleep(step.moment * STARTING_S)
                await self._kill(node)
                await node.start()
            case Target.STOP:
                await self._stop(node)
                await node.start()
            case _:
                await self._outage(step)

    async def _kill(self, node: Node, pid: int | None = None) -> None:
        self._kills += 1
        await node.kill(pid)

    async def _stop(self, node: Node) -> None:
        self._stops += 1
        status = await node.stop()
        if status != 0:
            self._breaches.append(Breach(Wrong.FAULT, node.name, f"SIGTERM ended it with {status}"))

    async def _outage(self, step: Step) -> None:
        """Take the database away for a while, and wait until the nodes have noticed that it is back."""
        started, away_s = time.time(), step.moment * OUTAGE_S
        async with AsyncExitStack() as stack:
            if isinstance(self._database, Postgres):
                killed = step.target is Target.DATABASE_KILLED
                self._kills += killed
                await stack.enter_async_context(self._database.killed() if killed else self._database.shut_down())
            elif step.target is Target.DISK_FULL:
                stack.enter_context(self._disk.full() if self._disk else full_files(self._pids))
            else:
                await stack.enter_async_context(self._database.locked())
                away_s = LONG_LOCK_S if step.target is Target.DATABASE_LOCKED_LONG else away_s
            await asyncio.sleep(away_s)
        await asyncio.gather(*(self._well(ports) for ports in self._ports))
        self._outages.append((started, time.time()))

    def _pids(self) -> list[int]:
        return [pid for node in self._nodes for pid in (node.pid, *node.children("serve"), *node.children("jobs"))]

    async def _well(self, ports: Ports) -> None:
        """Until the node says that it is ready."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while await _readiness(ports) != 200:
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise Stuck("the database is back, and a node is not ready again") from None

    async def _check_laws(self) -> None:
        """The laws hold also while calls are under way."""
        database = Database(self._database.url, utc_now)
        try:
            for check in await database.read(verify):
                self._laws += [f"{check.name}: {breach}" for breach in check.breaches]
        finally:
            await database.close()

    def _report(self, number: int, crew: Crew) -> None:
        rounds, calls = len(self._plan.rounds), len(crew.book.calls)
        told = f"round {number} of {rounds}, {self._kills} kills, {calls} calls, {len(self._laws)} laws broken"
        self._tell(f"{self._plan.variant.name}: {told}")

    # After.

    async def _wind_up(self) -> LedgerBook:
        for node in self._nodes:
            await self._stop(node)
        database = Database(self._database.url, utc_now)
        try:
            deadline = await database.read(last_deadline)
            if deadline is not None:
                await asyncio.sleep(max(deadline - time.time(), 0))
            await self._nodes[0].start()
            await self._stop(self._nodes[0])
            for node in self._nodes:
                left = await node.leftovers()
                self._breaches += [Breach(Wrong.FAULT, node.name, f"has left {line} behind") for line in left]
            status, output = await self._nodes[0].farebox("ledger", "verify", "--json")
            self._laws += [f"{breach['law']}: {breach['what']}" for breach in json.loads(output)["breaches"]]
            assert (status == 0) == json.loads(output)["ok"], "the exit code says what the output says"
            return await database.read(read_ledger)
        finally:
            await database.close()

    def _keep(self, run: Run) -> None:
        """What clients saw and what is wrong, beside the logs and the books that are there already."""
        (self._folder / "calls.jsonl").write_text("".join(f"{call.line()}\n" for call in run.books.clients.calls))
        wrong = [f"{breach.wrong}: {breach.where}: {breach.what}" for breach in run.breaches]
        (self._folder / "breaches.txt").write_text("".join(f"{line}\n" for line in [*wrong, *run.laws]))


async def _readiness(ports: Ports) -> int | None:
    """The status of the probe, or None when nobody answers."""
    with suppress(OSError, asyncio.IncompleteReadError):
        client = await RawClient.connect("127.0.0.1", ports.admin)
        await client.send(request("GET /readyz"))
        answer = await client.answer()
        await client.close()
        return answer.status
    return None

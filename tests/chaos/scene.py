"""Some nodes, their backend and their users, for tests that do one thing to them and look closely."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from config.clock import utc_now
from store.engine import Database
from store.ids import parse_id
from store.verify import verify
from tests.chaos.backend import Receipt, read_book
from tests.chaos.calls import Call, Kind
from tests.chaos.ledger import LedgerBook, read_ledger
from tests.chaos.processes import PATIENCE_S, Backend, Node
from tests.chaos.shop import Ports, stock, write_settings
from tests.flows.house import token
from tests.flows.raw import Message, RawClient, request

AT_ONCE = 16
"""Connections that are opened together: processes that share a port share them out only when they come thick."""


@dataclass
class Scene:
    """Everything runs until the block is left."""

    database_url: str
    ports: list[Ports]
    nodes: list[Node]
    backend: Backend
    _tokens: dict[str, str] = field(default_factory=dict)
    _clients: list[RawClient] = field(default_factory=list)
    _calls: int = 0

    def buy(self, user: str, kind: Kind = Kind.QUICK) -> bytes:
        """The bytes of a call that costs the base, or one unit of quota."""
        self._calls += 1
        call = Call(f"s{self._calls}", user, kind, strict=False, tokens=1, max_tokens=1, delay_ms=20)
        return request(f"POST {call.path}", self.bearer(user), body=call.body())

    def bearer(self, user: str) -> str:
        return f"Authorization: Bearer {self._tokens.setdefault(user, token(user))}"

    async def connect(self, node: int = 0) -> RawClient:
        client = await RawClient.connect("127.0.0.1", self.ports[node].public)
        self._clients.append(client)
        return client

    async def ask(self, data: bytes) -> Message:
        """The answer to a request on a connection of its own."""
        client = await self.connect()
        await client.send(data)
        async with asyncio.timeout(PATIENCE_S):
            answer = await client.answer()
        await client.close()
        return answer

    async def hang_up(self) -> None:
        for client in self._clients:
            await client.close()

    async def connections(self, processes: int, each: int) -> list[RawClient]:
        """`each` connections to each of so many serving processes, however the system shares them out."""
        found: defaultdict[int, list[RawClient]] = defaultdict(list)
        async with asyncio.timeout(PATIENCE_S):
            while sum(len(clients) == each for clients in found.values()) < processes:
                nodes = [number % len(self.nodes) for number in range(AT_ONCE)]
                clients = await asyncio.gather(*(self.connect(node) for node in nodes))
                for client, number in zip(clients, await asyncio.gather(*map(_process, clients)), strict=True):
                    if len(found[number]) < each:
                        found[number].append(client)
                    else:
                        await client.close()
        return [client for clients in found.values() for client in clients]

    def received(self) -> list[Receipt]:
        return read_book(self.backend.book)

    async def ledger(self) -> LedgerBook:
        """The book, which obeys every law at any time."""
        database = Database(self.database_url, utc_now)
        try:
            checks = await database.read(verify)
            assert [check for check in checks if check.breaches] == []
            return await database.read(read_ledger)
        finally:
            await database.close()


async def _process(client: RawClient) -> int:
    """The number of the process at the other end: its ids hold it."""
    await client.send(request("GET /open"))
    answer = await client.answer()
    number = parse_id(answer.values(b"x-request-id")[0].decode())
    assert number is not None, "it is an id"
    return number >> 12 & 1023


@asynccontextmanager
async def scene(
    folder: Path, database_url: str, *, nodes: int = 1, workers: int = 1, deadline_s: int = PATIENCE_S
) -> AsyncIterator[Scene]:
    """On a database that has its schema, and nothing in it. There is no scheduler."""
    database = Database(database_url, utc_now)
    await database.write(stock, utc_now())
    await database.close()
    ports = Ports.free(nodes)
    async with AsyncExitStack() as stack:
        backend = Backend(ports[0].backend, folder)
        stack.push_async_callback(backend.kill)
        await backend.start()
        started = []
        for number, own in enumerate(ports):
            config = write_settings(folder / f"node{number}", database_url, own, deadline_s)
            node = Node(f"node {number}", config, workers, folder / f"node{number}.log", jobs=False)
            stack.push_async_callback(node.end)
            started.append(node)
        await asyncio.gather(*(node.start() for node in started))
        running = Scene(database_url, ports, started, backend)
        stack.push_async_callback(running.hang_up)
        yield running

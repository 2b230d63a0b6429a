"""A database that is locked, full, or gone: money fails closed, nothing is corrupted, and it goes on by itself."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from store.schema import migrate
from tests.chaos.calls import Kind
from tests.chaos.databases import Postgres, SmallDisk, SqliteFile, full_files
from tests.chaos.ledger import LedgerBook
from tests.chaos.scene import Scene, scene
from tests.chaos.shop import BASE, MICRO, WELCOME
from tests.flows.raw import Message, RawClient, request

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")

PATIENCE_S = 30
IMPATIENT = 300
"""Clients that do not wait for their answer."""

MORE_MEMORY_KIB = 32 * 2**10
"""That a node may take while nothing can be written: far more than some hundred requests, far less than a pile."""


@asynccontextmanager
async def _selling(database: SqliteFile | Postgres, folder: Path) -> AsyncIterator[Scene]:
    """A node on an empty database, where Ann has bought once."""
    await migrate(database.url)
    async with scene(folder, database.url) as running:
        assert (await running.ask(running.buy("ann"))).status == 200
        yield running


async def _until(running: Scene, status: int) -> list[Message]:
    """Ann's answers up to the first one with this status."""
    answers: list[Message] = []
    async with asyncio.timeout(PATIENCE_S):
        while not answers or answers[-1].status != status:
            answers.append(await running.ask(running.buy("ann")))
    return answers


async def _assert_exact(running: Scene, answers: list[Message]) -> None:
    """Who was refused was not served, who was served has paid, and the laws are kept."""
    refused = [answer for answer in answers if answer.status == 503]
    assert all(answer.values(b"retry-after") for answer in refused)
    received = {receipt.request_id for receipt in running.received()}
    assert not received & {answer.values(b"x-request-id")[0].decode() for answer in refused}
    served = {answer.values(b"x-request-id")[0].decode() for answer in answers if answer.status == 200}
    ledger = await _written(running, served)
    paid = {hold.request_id for hold in ledger.holds.values() if hold.settled}
    assert served <= paid <= received
    balance = json.loads((await running.ask(_balance(running))).body)["balance"]
    held = sum(hold.amount for hold in ledger.holds.values() if hold.state == "reserved")
    assert round(balance * MICRO) == WELCOME - len(paid) * BASE - held


async def _written(running: Scene, served: set[str]) -> LedgerBook:
    """The ledger, with the endings of these requests, which are repeated until the database takes them."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            ledger = await running.ledger()
            if not any(hold.state == "reserved" and hold.request_id in served for hold in ledger.holds.values()):
                return ledger
            await asyncio.sleep(0.1)


def _balance(running: Scene) -> bytes:
    return request("GET /api/credits/balance", running.bearer("ann"))


def _memory_kib(running: Scene) -> int:
    """Resident memory of the node (proc_pid_status(5))."""
    lines = Path(f"/proc/{running.nodes[0].pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


async def test_a_file_that_another_process_locks(tmp_path: Path) -> None:
    """Longer than a write waits: refused, not forwarded, still readable; no memory is piled up, and it goes on after.

    Those who did not wait for their answer are charged nothing and hold nothing.
    """
    database = SqliteFile(tmp_path)
    async with _selling(database, tmp_path) as running:
        before, memory_kib = running.received(), _memory_kib(running)
        async with database.locked():
            first = await running.connect()
            await first.send(running.buy("ann"))
            for client in [await running.connect() for _ in range(IMPATIENT)]:
                await client.send(running.buy("ann", Kind.SLOW))
                client.leave()
            assert (await running.ask(_balance(running))).status == 200
            refused = await _patiently(first)
            assert refused.status == 503
            assert running.received() == before
            assert _memory_kib(running) - memory_kib < MORE_MEMORY_KIB
        answers = [refused, *await _until(running, 200)]
        ledger = await running.ledger()
        assert not [hold for hold in ledger.holds.values() if hold.state == "reserved"]
        await _assert_exact(running, answers)


async def _patiently(client: RawClient) -> Message:
    """An answer that takes longer than a write waits for a lock."""
    while True:
        try:
            return await client.answer()
        except TimeoutError:
            continue


@contextmanager
def _disk(kind: str, folder: Path) -> Iterator[tuple[Path, Callable[[Scene], AbstractContextManager[None]]]]:
    """Where the database is, and how to fill that place."""
    if kind == "files may not grow":
        yield folder, lambda running: full_files(lambda: [running.nodes[0].pid])
        return
    with ExitStack() as stack:
        try:
            disk = stack.enter_context(SmallDisk.mounted(folder / "disk"))
        except PermissionError as error:
            pytest.skip(str(error))
        yield disk.folder, lambda running: disk.full()


@pytest.mark.parametrize("kind", ["files may not grow", "a small disk is full"])
async def test_a_full_disk(kind: str, tmp_path: Path) -> None:
    """What cannot be written down is not forwarded; the file stays sound; with room again it goes on by itself."""
    with _disk(kind, tmp_path) as (folder, full):
        database = SqliteFile(folder)
        async with _selling(database, tmp_path) as running:
            with full(running):
                answers = await _until(running, 503)
                answers += [await running.ask(running.buy("ann")) for _ in range(20)]
            answers += await _until(running, 200)
            await _assert_exact(running, answers)
            with sqlite3.connect(database.path) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            connection.close()


async def test_a_database_server_that_is_gone(tmp_path: Path) -> None:
    """Killed, and shut down: refused, not forwarded, not ready; when it is there again, the same node goes on."""
    server = await asyncio.to_thread(Postgres)
    try:
        async with _selling(server, tmp_path) as running:
            answers: list[Message] = []
            for gone in (server.killed, server.shut_down):
                before = running.received()
                async with gone():
                    refused = await asyncio.gather(*(running.ask(running.buy("ann")) for _ in range(20)))
                    assert {answer.status for answer in refused} == {503}
                    assert await _readiness(running) == 503
                    assert running.received() == before
                answers += [*refused, *await _until(running, 200)]
                assert await _readiness(running) == 200
            await _assert_exact(running, answers)
    finally:
        await asyncio.to_thread(server.stop)


async def _readiness(running: Scene) -> int:
    client = await RawClient.connect("127.0.0.1", running.ports[0].admin)
    await client.send(request("GET /readyz", "Host: localhost"))
    answer = await client.answer()
    await client.close()
    return answer.status

"""S14: Farebox stops: nobody new is let in, what runs comes to its end, and what does not is cut and settled."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import proxy.app
from config.clock import utc_now
from store import accounts, reports
from store.opening import Store, open_store
from store.verify import verify
from tests.canaries import BACKEND_KEY
from tests.flows.house import SECRET, token
from tests.flows.raw import EVENTS, OK, RawBackend, RawClient, Visit, chunk, event, request
from tests.flows.wire.frames import ASKING, Closed, frame, granting, read_frame, stated, until_closed
from tests.flows.wire.wire import CHEAP, SETTINGS, TOKEN, WELCOME, order, running_wire, stating, stock

FAREBOX = Path(sys.executable).with_name("farebox")
ADDRESSES = "listen: 127.0.0.1:0\nadmin: {listen: 127.0.0.1:0}\n"
STREAMS = 6
MIB = 2**20
REALTIME = """
  - id: realtime
    match: GET /realtime
    upstream: raw
    app: shop
    model: {const: cheap}
    units: {tokens: {const: 20, max: 20}}
    usage: {tokens: {json: /usage/tokens}}
    websocket: {charge: usage}
"""


@pytest.fixture
async def backend() -> AsyncIterator[RawBackend]:
    backend = RawBackend()
    await backend.start()
    yield backend
    await backend.stop()


def headers(user: str) -> str:
    return f"Authorization: Bearer {token(user)}"


async def balance(store: Store, user: str) -> int:
    found = await store.database.read(accounts.find_user, user)
    assert found is not None
    return (await store.database.read(reports.balance, found.account.account_id, utc_now())).available


async def test_what_runs_may_end(migrated_file: Path, tmp_path: Path, backend: RawBackend) -> None:
    """Two workers behind one port, and SIGTERM to the first: streams of both end whole and are charged by their usage,
    an unused connection is closed, a WebSocket is told to go elsewhere, nobody new is let in, and the end is orderly.
    """
    shutil.copyfile(migrated_file, tmp_path / "farebox.db")
    (tmp_path / "farebox.yaml").write_text(ADDRESSES + SETTINGS)
    async with open_store(f"sqlite+aiosqlite:///{tmp_path}/farebox.db", utc_now) as store:
        await store.database.write(stock)
    go = asyncio.Event()

    async def script(visit: Visit) -> None:
        if visit.request.values(b"upgrade"):
            await granting(_listen)(visit)
            return
        await visit.body()
        if visit.request.first.startswith(b"GET"):
            await visit.send(OK)
            return
        await visit.send(EVENTS + chunk(event("hi")))
        await go.wait()
        await visit.send(chunk(stating(50)) + chunk(b""))

    async def _listen(visit: Visit) -> None:
        await until_closed(visit.reader)

    backend.script = script
    command = [
        str(FAREBOX),
        "serve",
        "--workers",
        "2",
        "--no-jobs",
        "--json",
        "--config",
        str(tmp_path / "farebox.yaml"),
    ]
    environment = {**os.environ, "JWT_SECRET": SECRET, "BACKEND_URL": backend.url, "BACKEND_KEY": BACKEND_KEY}
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, env=environment)
    try:
        async with asyncio.timeout(60):
            assert process.stdout is not None
            host, _, port = str(json.loads(await process.stdout.readline())["listen"]).partition(":")

            async def ask(line: str, *lines: str, body: bytes = b"") -> RawClient:
                client = await RawClient.connect(host, int(port))
                await client.send(request(line, *lines, body=body))
                return client

            unused = await ask("GET /open/x")
            assert (await unused.answer()).status == 200
            talking = await ask("GET /open/x", *ASKING)
            assert (await talking.head()).status == 101
            streams = [await ask("POST /buy", headers(f"u{n}"), body=order()) for n in range(STREAMS)]
            for client in streams:
                assert (await client.head()).status == 200
                await client.chunk()
            process.send_signal(signal.SIGTERM)
            assert await until_closed(talking.reader, talking.writer) == Closed(1001, "the service is restarting")
            assert await unused.rest() == b""
            await _refused(host, int(port))
            go.set()
            for client in streams:
                assert await client.chunk() == stating(50)
                assert await client.chunk() == b""
            assert await process.wait() == 0
            for client in (unused, talking, *streams):
                await client.close()
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
    async with open_store(f"sqlite+aiosqlite:///{tmp_path}/farebox.db", utc_now) as store:
        assert not await store.database.read(reports.open_holds, 100)
        assert [await balance(store, f"u{n}") for n in range(STREAMS)] == [WELCOME - 50 * TOKEN] * STREAMS
        assert not any(check.breaches for check in await store.database.read(verify))


async def _refused(host: str, port: int) -> None:
    """Wait until nobody listens."""
    while True:
        try:
            client = await RawClient.connect(host, port)
        except ConnectionError:
            return
        await client.close()
        await asyncio.sleep(0.05)


async def test_who_is_sending_may_go_on(migrated_file: Path, tmp_path: Path) -> None:
    """An upload arrives whole, and its answer comes; so do the words of who waits for an answer that is paid for."""
    heard = b""

    async def script(visit: Visit) -> None:
        nonlocal heard
        if visit.request.values(b"upgrade"):
            await granting(_answer)(visit)
            return
        await visit.body()
        await visit.send(OK)

    async def _answer(visit: Visit) -> None:
        nonlocal heard
        await read_frame(visit.reader)
        await visit.send(frame("what?", masked=False))
        heard = (await read_frame(visit.reader)).payload
        await visit.send(stated(50))
        await until_closed(visit.reader)

    async with running_wire(migrated_file, tmp_path, SETTINGS + REALTIME) as wire:
        wire.backend.script = script
        uploading = await RawClient.connect(wire.address.host, wire.address.port)
        await uploading.send(request("POST /flat", wire.bearer("ann"), f"Content-Length: {2 * MIB}") + b"x" * MIB)
        await wire.backend.arrived.wait()
        talking = await RawClient.connect(wire.address.host, wire.address.port)
        await talking.send(request("GET /realtime", wire.bearer("bob"), *ASKING))
        await talking.head()
        await talking.send(frame("tell me"))
        await read_frame(talking.reader)
        going_on = asyncio.create_task(_go_on(wire.address.host, wire.address.port, uploading, talking))
    await going_on
    assert (await uploading.answer("POST")).body == b"ok"
    assert b"usage" in (await read_frame(talking.reader)).payload
    assert (await until_closed(talking.reader, talking.writer)).code == 1001
    assert heard == b"all of it"
    for client in (uploading, talking):
        await client.close()


async def _go_on(host: str, port: int, uploading: RawClient, talking: RawClient) -> None:
    """Once nobody is let in any more."""
    await _refused(host, port)
    await uploading.send(b"x" * MIB)
    await talking.send(frame("all of it"))


async def test_what_does_not_end_is_cut(migrated_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the time is over: cut, as truncated, and settled by the route's rule before the process has ended."""
    monkeypatch.setattr(proxy.app, "DRAIN_S", 0.2)

    async def endless(visit: Visit) -> None:
        if visit.request.values(b"upgrade"):
            await granting(_talk)(visit)
            return
        await visit.body()
        await visit.send(EVENTS + chunk(stating(50)))
        await visit.gone()

    async def _talk(visit: Visit) -> None:
        await read_frame(visit.reader)
        await visit.send(frame("well", fin=False, masked=False))
        await visit.gone()

    async with running_wire(migrated_file, tmp_path, SETTINGS) as wire:
        wire.backend.script = endless
        clients = [await RawClient.connect(wire.address.host, wire.address.port) for _ in range(3)]
        for client, line in zip(clients, ("POST /buy", "POST /buy-strictly", "GET /open/x"), strict=True):
            lines = ASKING if "open" in line else (wire.bearer(line[-3:]),)
            await client.send(request(line, *lines, body=b"" if "open" in line else order()))
            await client.head()
        for client in clients[:2]:
            await client.chunk()
        await clients[2].send(frame("hi"))
        assert (await read_frame(clients[2].reader)).payload == b"well"
    for client in clients[:2]:
        assert not (await client.rest()).endswith(b"0\r\n\r\n")
    assert await until_closed(clients[2].reader) == Closed(1006), "in the middle of a message nothing can be said"
    for client in clients:
        await client.close()
    async with open_store(f"sqlite+aiosqlite:///{tmp_path}/farebox.db", utc_now) as store:
        assert not await store.database.read(reports.open_holds, 100)
        assert await balance(store, wire.name("buy")) == WELCOME - 50 * TOKEN
        assert await balance(store, wire.name("tly")) == WELCOME - 2 * CHEAP

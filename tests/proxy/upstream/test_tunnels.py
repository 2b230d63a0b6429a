"""A connection that has switched its protocol: bytes both ways, until either side ends it; then its place is free."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trustme

from config.upstreams import Upstream as UpstreamSettings
from proxy.upstream.client import Outgoing, Upstream, UpstreamBroken
from proxy.upstream.trust import context_of
from tests.flows.raw import OK, PATIENCE_S, read_head
from tests.proxy.upstream.backend import ask, until

SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
ASKING = Outgoing("GET", "/", [("Host", "a"), ("Connection", "Upgrade"), ("Upgrade", "x")], None, None, switches=True)

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(params=["plain", "TLS"])
def secured(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "TLS")


@asynccontextmanager
async def tunnels(talk: Talk, secured: bool, folder: Path, **settings: object) -> AsyncIterator[Upstream]:
    """An upstream whose backend switches whoever asks for it, talks, and ends the connection."""
    context = None
    if secured:
        authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(context)
        authority.cert_pem.write_to_path(folder / "ca.pem")

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := await read_head(reader):
                if b"Upgrade" not in head:
                    writer.write(OK)
                    continue
                writer.write(SWITCHED)
                await talk(reader, writer)
                break
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
    url = f"http{'s' if secured else ''}://localhost:{server.sockets[0].getsockname()[1]}"
    values = UpstreamSettings.model_validate({"url": url, **({"ca": "ca.pem"} if secured else {}), **settings})
    async with asyncio.timeout(PATIENCE_S), Upstream("backend", values, context_of(values, folder)) as upstream:
        yield upstream
    server.close()
    await server.wait_closed()
    await asyncio.sleep(0.01)


def busy(upstream: Upstream) -> int:
    (found,) = upstream.states()
    return found.busy


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(2**16):
        writer.write(data)
        await writer.drain()


async def test_bytes_pass_both_ways(secured: bool, tmp_path: Path) -> None:
    """Also what comes right behind the answer, and more than any buffer holds; then the one place is free again."""

    async def greet_and_echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        await echo(reader, writer)

    async with tunnels(greet_and_echo, secured, tmp_path, max_connections=1, idle_timeout="50ms") as upstream:
        async with await upstream.send(ASKING) as answer:
            tunnel = answer.tunnel
            assert tunnel is not None
            assert (answer.status, await tunnel.read()) == (101, b"hello")
            await asyncio.sleep(0.1)
            data, heard = bytes(range(256)) * 2**14, b""
            sending = asyncio.create_task(tunnel.write(data))
            while len(heard) < len(data):
                heard += await tunnel.read()
            await sending
            assert heard == data
            tunnel.finish()
        await until(lambda: busy(upstream) == 0)
        assert await ask(upstream) == b"ok"


async def test_last_bytes_leave(secured: bool, tmp_path: Path) -> None:
    """What was written before the end arrives, although nobody waits for it."""
    heard = b""

    async def listen(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        nonlocal heard
        await asyncio.sleep(0.05)
        heard = await reader.read()

    async with tunnels(listen, secured, tmp_path) as upstream:
        async with await upstream.send(ASKING) as answer:
            assert answer.tunnel is not None
            writing = asyncio.create_task(answer.tunnel.write(b"x" * 10_000_000))
            await asyncio.sleep(0)
            answer.tunnel.finish()
        await until(lambda: heard)
        await asyncio.gather(writing, return_exceptions=True)
        assert heard == b"x" * 10_000_000


async def test_a_backend_that_ends_it(secured: bool, tmp_path: Path) -> None:
    """Everything that it has said is read, then the end; writing says so."""

    async def say(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"bye")

    async with tunnels(say, secured, tmp_path) as upstream, await upstream.send(ASKING) as answer:
        tunnel = answer.tunnel
        assert tunnel is not None
        assert [await tunnel.read(), await tunnel.read()] == [b"bye", b""]
        await until(lambda: busy(upstream) == 0)
        with pytest.raises(UpstreamBroken):
            await tunnel.write(b"x")


async def test_who_forgets_it_has_ended_it(secured: bool, tmp_path: Path) -> None:
    """Leaving the answer ends the connection at once, and so does the end of the upstream."""
    ended = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.read()
        ended.set()

    async with tunnels(listen, secured, tmp_path, max_connections=1) as upstream:
        for _ in range(2):
            async with await upstream.send(ASKING):
                """Nothing is done with it."""
            await ended.wait()
            ended.clear()
        await upstream.send(ASKING)
    await ended.wait()


async def test_a_slow_reader_holds_the_backend_back(secured: bool, tmp_path: Path) -> None:
    """What is not read here is not taken from the system."""
    sent = 0

    async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while True:
            writer.write(b"x" * 2**16)
            await writer.drain()
            sent += 2**16

    async with tunnels(endless, secured, tmp_path) as upstream, await upstream.send(ASKING) as answer:
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.1)
        assert answer.tunnel is not None
        assert len(await answer.tunnel.read()) < 2**20

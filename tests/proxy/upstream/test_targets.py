"""A backend at several addresses: the work is shared, what cannot be reached is left out, and never all of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

import pytest

from proxy.upstream.client import Upstream, UpstreamBroken, UpstreamBusy, UpstreamUnreachable
from tests.flows.raw import OK, RawBackend, Visit, answering
from tests.proxy.upstream.backend import ask, backend_with, outgoing, until, upstream

NOWHERE = "http://127.0.0.1:9"


def busy(client: Upstream) -> list[int]:
    return [state.busy for state in client.states()]


async def backends(stack: AsyncExitStack, count: int) -> list[RawBackend]:
    return [await stack.enter_async_context(backend_with(answering(OK))) for _ in range(count)]


async def test_addresses_take_turns() -> None:
    """Where none is busier than another."""
    async with AsyncExitStack() as stack:
        those = await backends(stack, 3)
        client = await stack.enter_async_context(upstream(*(backend.url for backend in those)))
        for _ in range(9):
            await ask(client)
        assert [len(backend.requests) for backend in those] == [3, 3, 3]


async def test_a_busy_address_gets_less() -> None:
    """A backend that is slow with its answers is not given more of them than one that is quick."""
    go = asyncio.Event()

    async def slow(visit: Visit) -> None:
        await go.wait()
        await visit.send(OK)

    async with AsyncExitStack() as stack:
        those = await backends(stack, 2)
        those[0].script = slow
        client = await stack.enter_async_context(upstream(*(backend.url for backend in those)))
        waiting = asyncio.create_task(ask(client, outgoing(target="/slow")))
        await until(lambda: those[0].requests or those[1].requests)
        for _ in range(10):
            await asyncio.wait([asyncio.create_task(ask(client))], timeout=0.5)
        go.set()
        await waiting
        assert len(those[0].requests) <= 2


async def test_each_address_has_its_base_path_and_its_host() -> None:
    """The request is made for the address that it goes to."""
    async with AsyncExitStack() as stack:
        those = await backends(stack, 2)
        urls = [f"{those[0].url}/first/", f"{those[1].url}/second"]
        client = await stack.enter_async_context(upstream(*urls, host="upstream"))
        for _ in range(2):
            await ask(client, outgoing(target="/x?y"))
        for backend, prefix in zip(those, (b"/first", b"/second"), strict=True):
            (arrived,) = backend.requests
            assert arrived.first == b"GET " + prefix + b"/x?y HTTP/1.1"
            assert arrived.values(b"host") == [backend.url.removeprefix("http://").encode()]


async def test_what_cannot_be_reached_costs_no_request() -> None:
    """The next address is tried, with any method: nothing was sent. After a few failures it is left out."""
    async with backend_with(answering(OK)) as backend, upstream(NOWHERE, backend.url) as client:
        for _ in range(12):
            assert await ask(client, outgoing("POST", body=b"abc")) == b"ok"
        assert [state.ejected for state in client.states()] == [True, False]
        assert busy(client) == [0, 0]


async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(OK)
    writer.close()


async def test_when_all_addresses_are_out_all_are_tried() -> None:
    """Nobody is told that there is no backend without a look."""
    async with AsyncExitStack() as stack:
        (backend,) = await backends(stack, 1)
        port = int(backend.url.rpartition(":")[2])
        await backend.stop()
        client = await stack.enter_async_context(upstream(backend.url, NOWHERE))
        for _ in range(5):
            with pytest.raises(UpstreamUnreachable):
                await ask(client)
        assert [state.ejected for state in client.states()] == [True, True]
        server = await asyncio.start_server(once, "127.0.0.1", port)
        assert await ask(client) == b"ok"
        server.close()
        await server.wait_closed()


async def test_what_is_left_out_is_the_last_resort() -> None:
    """An address whose check fails is asked rather than nobody, when no other can be reached."""
    health = {"path": "/healthz", "interval": "10ms"}

    async def ill(visit: Visit) -> None:
        is_check = visit.request.first.startswith(b"GET /healthz")
        await visit.send(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n" if is_check else OK)

    async with backend_with(ill) as backend, upstream(NOWHERE, backend.url, health=health) as client:
        await until(lambda: all(state.ejected for state in client.states()))
        assert await ask(client) == b"ok"


async def test_an_answer_that_fails_ejects_nobody() -> None:
    """A backend that can be reached may be right to refuse or to break a request; its health check may judge that."""
    async with backend_with(answering(b"nonsense")) as backend, upstream(backend.url) as client:
        for _ in range(5):
            with pytest.raises(UpstreamBroken):
                await ask(client)
        assert [state.ejected for state in client.states()] == [False]


# As many at once as the backend is given.


async def test_more_than_the_places_wait_and_are_served_in_turn() -> None:
    """Never more connections than `max_connections`, and none of the requests is lost."""
    open_now, most = 0, 0

    async def counting(visit: Visit) -> None:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await asyncio.sleep(0.005)
        open_now -= 1
        await visit.send(OK)

    async with backend_with(counting) as backend, upstream(backend.url, max_connections=3) as client:
        assert await asyncio.gather(*(ask(client) for _ in range(20))) == [b"ok"] * 20
        assert (most, backend.connections) == (3, 3)


async def test_one_more_than_may_wait_is_refused() -> None:
    """At once, or after its time in line; what is under way is not disturbed."""

    async def silent(visit: Visit) -> None:
        await visit.gone()

    limits = {"max_connections": 1, "max_waiting": 1, "queue_timeout": "500ms"}
    async with backend_with(silent) as backend, upstream(backend.url, **limits) as client:
        running = asyncio.create_task(ask(client))
        await backend.arrived.wait()
        waiting = asyncio.create_task(ask(client))
        await until(lambda: client.waiting == 1)
        with pytest.raises(UpstreamBusy, match="1 requests wait"):
            await ask(client)
        with pytest.raises(UpstreamBusy, match="no place came free"):
            await waiting
        assert (len(backend.requests), client.waiting) == (1, 0)
        running.cancel()
        await asyncio.wait([running])
        backend.script = answering(OK)
        assert await ask(client) == b"ok"


async def test_every_end_of_an_exchange_gives_its_place_back() -> None:
    """An answer, a broken one, one that is left in the middle, nobody there, and a cancelled request."""

    async def by_path(visit: Visit) -> None:
        path = visit.request.first.split(b" ")[1]
        if path == b"/break":
            visit.reset()
        elif path == b"/silent":
            await visit.gone()
        else:
            await visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok" + (b"ok" if path == b"/good" else b""))

    async with backend_with(by_path) as backend, upstream(backend.url, max_connections=1, max_waiting=0) as client:
        for _ in range(3):
            assert await ask(client, outgoing(target="/good")) == b"okok"
            with pytest.raises(UpstreamBroken):
                await ask(client, outgoing(target="/break"))
            async with await client.send(outgoing(target="/half")):
                pass
            task = asyncio.create_task(ask(client, outgoing(target="/silent")))
            await until(lambda: backend.requests[-1].first.startswith(b"GET /silent"))
            task.cancel()
            await asyncio.wait([task])
        assert busy(client) == [0]
    async with upstream(NOWHERE, max_connections=1, max_waiting=0) as client:
        for _ in range(3):
            with pytest.raises(UpstreamUnreachable):
                await ask(client)


async def test_kept_connections_count_as_well() -> None:
    """With several addresses, one that is unused makes room for one that is needed."""
    async with AsyncExitStack() as stack:
        those = await backends(stack, 3)
        client = await stack.enter_async_context(
            upstream(*(backend.url for backend in those), max_connections=2, keepalive="10s")
        )
        for _ in range(9):
            await ask(client)
            assert sum(state.busy + state.kept for state in client.states()) <= 2


# Health checks.


async def test_an_address_that_fails_its_check_is_left_out() -> None:
    """And comes back when it passes; the check asks for its path below the address's own."""
    healthy = True

    async def ill(visit: Visit) -> None:
        is_check = visit.request.first == b"GET /base/healthz HTTP/1.1"
        await visit.send(OK if healthy or not is_check else b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")

    def served(backend: RawBackend) -> int:
        return Counter(message.first for message in backend.requests)[b"GET /base/x HTTP/1.1"]

    async with AsyncExitStack() as stack:
        those = await backends(stack, 2)
        those[0].script = ill
        urls = [f"{backend.url}/base" for backend in those]
        client = await stack.enter_async_context(upstream(*urls, health={"path": "/healthz", "interval": "10ms"}))
        await until(lambda: those[0].requests and those[1].requests)
        healthy = False
        await until(lambda: client.states()[0].ejected)
        for _ in range(6):
            await ask(client, outgoing(target="/x"))
        assert (served(those[0]), served(those[1])) == (0, 6)
        healthy = True
        await until(lambda: not client.states()[0].ejected)
        for _ in range(4):
            await ask(client, outgoing(target="/x"))
        assert served(those[0]) == 2


async def test_a_check_takes_no_place_and_says_what_is_wrong(caplog: pytest.LogCaptureFixture) -> None:
    """Once when an address is left out, and once when it is back."""
    health = {"path": "/", "interval": "5ms", "timeout": "400ms"}

    async def silent(visit: Visit) -> None:
        await visit.gone()

    async with backend_with(silent) as backend, upstream(backend.url, health=health, max_connections=1) as client:
        await until(lambda: client.states()[0].ejected)
        await until(lambda: len(backend.requests) > 2)
        assert busy(client) == [0]
        backend.script = answering(OK)
        await until(lambda: not client.states()[0].ejected)
        assert await ask(client) == b"ok"
    told = [record.getMessage() for record in caplog.records if record.name == "proxy.upstream.health"]
    assert len(told) == 2
    assert "left out: " in told[0]
    assert told[1].endswith("is back")

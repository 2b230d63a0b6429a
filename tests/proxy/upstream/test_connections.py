"""Connections to a backend: used again where that is safe, given up where it is not, and no request sent twice."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

import pytest

from proxy.upstream.client import Upstream, UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from tests.flows.raw import OK, Script, Visit, answering, chunk, closing
from tests.proxy.upstream.backend import ask, backend_with, outgoing, until, upstream
from tests.proxy.upstream.odd_answers import BROKEN, ODD

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def state(client: Upstream) -> tuple[int, int]:
    """Exchanges under way, and connections kept."""
    (found,) = client.states()
    return found.busy, found.kept


# Use again.


@pytest.mark.parametrize("name", [name for name, odd in ODD.items() if odd.body is not BROKEN])
async def test_a_connection_is_used_again_when_the_table_says_so(name: str) -> None:
    """What could be taken for the next answer is never there when the next request is sent."""
    odd = ODD[name]

    async def script(visit: Visit) -> None:
        await visit.body()
        await visit.send(odd.data)
        if b"to the end" in name.encode() or name == "HEAD without a length":
            visit.writer.close()

    async with backend_with(script) as backend, upstream(backend.url) as client:
        assert await ask(client, outgoing(odd.method)) == odd.body
        await until(lambda: state(client) == (0, int(odd.reused)))
        backend.script = answering(OK)
        assert await ask(client) == b"ok"
        assert backend.connections == 2 - odd.reused


async def test_the_last_one_used_is_used_first() -> None:
    """So that the others can be given up when fewer are needed."""
    async with backend_with(answering(OK)) as backend, upstream(backend.url) as client:
        await asyncio.gather(*(ask(client) for _ in range(4)))
        assert backend.connections == 4
        for _ in range(5):
            await ask(client)
        assert backend.connections == 4
        assert state(client) == (0, 4)


async def test_an_unused_connection_is_given_up_before_the_backend_does() -> None:
    """Also when nothing more is asked: after `keepalive` the backend sees it end."""
    async with backend_with(answering(OK)) as backend, upstream(backend.url, keepalive="50ms") as client:
        await ask(client)
        await backend.left.wait()
        assert state(client) == (0, 0)
        await ask(client)
        assert backend.connections == 2


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_connection_that_the_backend_has_closed_is_not_used(method: str) -> None:
    """Not even when the loop has had no time to notice: the system is asked before anything is sent."""

    async def once(visit: Visit) -> None:
        await answering(OK)(visit)
        visit.writer.close()

    async with backend_with(once) as backend, upstream(backend.url) as client:
        for _ in range(20):
            assert await ask(client, outgoing(method, body=b"abc" if method == "POST" else None)) == b"ok"
        assert len(backend.requests) == 20


def impatient(idle_s: float) -> Script:
    """Closes a connection on which nothing has come for so long."""
    timers: dict[int, asyncio.TimerHandle] = {}

    async def script(visit: Visit) -> None:
        if visit.connection in timers:
            timers[visit.connection].cancel()
        await answering(OK)(visit)
        timers[visit.connection] = asyncio.get_running_loop().call_later(idle_s, visit.writer.close)

    return script


@pytest.mark.parametrize(("keepalive", "pauses_ms"), [("20ms", range(0, 130, 5)), ("10s", (0, 120, 130, 140, 150))])
async def test_a_backend_that_closes_what_is_idle_loses_nothing(keepalive: str, pauses_ms: Sequence[int]) -> None:
    """With a shorter `keepalive` at any moment; with a longer one as soon as the end of a connection is here."""
    async with backend_with(impatient(0.1)) as backend, upstream(backend.url, keepalive=keepalive) as client:
        for pause_ms in pauses_ms:
            assert await ask(client, outgoing("POST", body=b"abc")) == b"ok"
            await asyncio.sleep(pause_ms / 1000)
        assert len(backend.requests) == len(pauses_ms)
        assert 1 < backend.connections <= len(pauses_ms)


async def test_bytes_that_nobody_asked_for_end_an_unused_connection() -> None:
    """A 408 of a backend that is tired of waiting is no answer to the next request."""

    async def tired(visit: Visit) -> None:
        await answering(OK)(visit)
        await asyncio.sleep(0.01)
        await visit.send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 4\r\n\r\nevil")

    async with backend_with(tired) as backend, upstream(backend.url) as client:
        assert await ask(client) == b"ok"
        await until(lambda: state(client) == (0, 0))
        assert await ask(client) == b"ok"


# Sending again.


def dying(*, answered: int) -> Script:
    """Answers so many requests on each connection; the next one is read, and the connection ends."""
    seen: dict[int, int] = {}

    async def script(visit: Visit) -> None:
        await visit.body()
        seen[visit.connection] = seen.get(visit.connection, 0) + 1
        if seen[visit.connection] > answered:
            visit.writer.close()
        else:
            await visit.send(OK)

    return script


async def test_what_only_reads_is_sent_once_more() -> None:
    """On a fresh connection, when a used one ended without a byte of an answer (RFC 9110 §9.2.2)."""
    async with backend_with(dying(answered=1)) as backend, upstream(backend.url) as client:
        await ask(client)
        assert await ask(client, outgoing(repeatable=True)) == b"ok"
        assert (len(backend.requests), backend.connections) == (3, 2)


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
async def test_what_may_have_been_acted_on_is_not_sent_again(method: str) -> None:
    """On a connection that was used before it may have been acted on, too."""
    async with backend_with(dying(answered=1)) as backend, upstream(backend.url) as client:
        await ask(client)
        with pytest.raises(UpstreamBroken):
            await ask(client, outgoing(method, body=b"abc" if method != "GET" else None))
        assert len(backend.requests) == 2
        assert state(client) == (0, 0)


async def test_what_fails_on_a_new_connection_is_not_sent_again() -> None:
    """That the first request of a connection fails tells nothing of a race."""
    async with backend_with(dying(answered=0)) as backend, upstream(backend.url) as client:
        with pytest.raises(UpstreamBroken):
            await ask(client, outgoing(repeatable=True))
        assert len(backend.requests) == 1


async def test_a_request_is_sent_twice_at_most() -> None:
    """A backend that ends every connection is asked once more, not for ever."""
    seen = 0

    async def script(visit: Visit) -> None:
        nonlocal seen
        seen += 1
        if seen == 1:
            await visit.send(OK)
        else:
            visit.writer.close()

    async with backend_with(script) as backend, upstream(backend.url) as client:
        await ask(client)
        with pytest.raises(UpstreamBroken):
            await ask(client, outgoing(repeatable=True))
        assert len(backend.requests) == 3


async def test_a_first_byte_is_an_answer() -> None:
    """What breaks after it is not asked for again."""

    async def script(visit: Visit) -> None:
        if visit.request.first.startswith(b"GET /first"):
            await visit.send(OK)
        else:
            await visit.send(b"H")
            visit.writer.close()

    async with backend_with(script) as backend, upstream(backend.url) as client:
        await ask(client, outgoing(target="/first"))
        with pytest.raises(UpstreamBroken):
            await ask(client, outgoing(repeatable=True))
        assert len(backend.requests) == 2


async def test_what_the_system_refuses_to_send_goes_on_a_fresh_connection() -> None:
    """Of a write that failed at once not a byte has left; so any request may be sent elsewhere."""
    async with backend_with(answering(OK)) as backend, upstream(backend.url) as client:
        await ask(client)
        (target,) = client._targets
        (connection,) = target._kept
        # As if the connection broke between the look at it and the write.
        type(connection).is_dead, original = False, type(connection).is_dead  # type: ignore[method-assign, assignment]
        try:
            connection._transport.abort()
            assert await ask(client, outgoing("POST", body=b"abc")) == b"ok"
        finally:
            type(connection).is_dead = original  # type: ignore[method-assign]
        assert (len(backend.requests), backend.connections) == (2, 2)
        assert state(client) == (0, 1)


# Leaving.


async def test_who_was_cancelled_too_late_disturbs_nobody() -> None:
    """Its answer is there, its connection serves another one already, and only then it learns of its end."""

    async def script(visit: Visit) -> None:
        if visit.request.first.startswith(b"GET /second"):
            await asyncio.wait([first])
        await visit.send(OK)

    async with backend_with(script) as backend, upstream(backend.url) as client:
        first = asyncio.create_task(client.send(outgoing(target="/first")))
        (target,) = client._targets
        # The loop runs this again before the task for which an answer has come in this round.
        while not target.kept:
            await asyncio.sleep(0)
        first.cancel()
        assert await ask(client, outgoing(target="/second")) == b"ok"
        assert first.cancelled()
        assert backend.connections == 1


async def test_who_leaves_takes_the_connection_along() -> None:
    """Before the answer, in the middle of it, and without reading it."""

    async def half(visit: Visit) -> None:
        await visit.body()
        if visit.request.first.startswith(b"GET /half"):
            await visit.send(CHUNKED + chunk(b"half"))
        await visit.gone()

    async with backend_with(half) as backend, upstream(backend.url) as client:
        waiting = asyncio.create_task(client.send(outgoing()))
        await backend.arrived.wait()
        waiting.cancel()
        await backend.left.wait()
        backend.left.clear()
        async with await client.send(outgoing(target="/half")) as answer:
            assert await answer.read() == b"half"
        await backend.left.wait()
        assert state(client) == (0, 0)


async def test_leaving_the_upstream_ends_what_is_under_way() -> None:
    """At a stop nothing of a backend's answer stays behind."""

    async def quiet(visit: Visit) -> None:
        await visit.send(CHUNKED)
        await visit.gone()

    async with backend_with(quiet) as backend:
        async with upstream(backend.url) as client:
            answer = await client.send(outgoing())
        with pytest.raises(UpstreamBroken):
            await answer.read()
        await backend.left.wait()


# Bodies.


async def test_a_small_body_leaves_with_its_head() -> None:
    """One write for both, as one segment arrives."""
    arrived: list[bytes] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.append(await reader.read(2**16))
        writer.write(OK)
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with upstream(f"http://127.0.0.1:{port}") as client:
        assert await ask(client, outgoing("POST", "/x?y", body=b"abc")) == b"ok"
    server.close()
    await server.wait_closed()
    assert arrived == [b"POST /x?y HTTP/1.1\r\nHost: app.example.com\r\nContent-Length: 3\r\n\r\nabc"]


async def pieces(*given: bytes) -> AsyncIterator[bytes]:
    for piece in given:
        await asyncio.sleep(0)
        yield piece


@pytest.mark.parametrize("length", [7, None])
async def test_a_streamed_body_arrives_whole(length: int | None) -> None:
    """With its length or in chunks, and the connection is used again."""
    async with backend_with(answering(OK)) as backend, upstream(backend.url) as client:
        for _ in range(2):
            assert await ask(client, outgoing("POST", body=pieces(b"abc", b"defg"), length=length)) == b"ok"
        assert [message.body for message in backend.requests] == [b"abcdefg"] * 2
        await until(lambda: state(client) == (0, 1))
        assert backend.connections == 1


@pytest.mark.parametrize("given", [(b"abc",), (b"abc", b"defgh")], ids=["short", "long"])
async def test_a_body_that_is_not_as_long_as_it_said_is_cut(given: tuple[bytes, ...]) -> None:
    """Not a byte more than the length is sent: it would be the next request (RFC 9112 §11.2)."""
    async with backend_with(answering(OK)) as backend, upstream(backend.url) as client:
        with pytest.raises(UpstreamBroken, match="than its length"):
            await client.send(outgoing("POST", body=pieces(*given), length=7))
        await backend.left.wait()
        assert state(client) == (0, 0)


async def test_what_a_body_raises_is_raised() -> None:
    """The client's fault stays the client's fault, and the backend sees its connection end."""

    class Mine(Exception):
        pass

    async def fails() -> AsyncIterator[bytes]:
        yield b"abc"
        raise Mine

    async with backend_with(answering(OK)) as backend, upstream(backend.url) as client:
        with pytest.raises(Mine):
            await client.send(outgoing("POST", body=fails(), length=7))
        await backend.left.wait()


async def test_an_upload_waits_for_a_slow_backend() -> None:
    """What the backend does not read is not read from the client either."""
    sent, enough = 0, asyncio.Event()

    async def plenty() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            yield b"x" * 2**16
            sent += 1

    async def lazy(visit: Visit) -> None:
        visit.reader._transport.pause_reading()  # type: ignore[attr-defined]
        await enough.wait()
        visit.reset()

    async with backend_with(lazy) as backend, upstream(backend.url) as client:
        task = asyncio.create_task(client.send(outgoing("POST", body=plenty())))
        await backend.arrived.wait()
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.1)
        assert sent < 200
        task.cancel()
        await asyncio.wait([task])
        enough.set()
        await until(lambda: not backend._open)


async def test_a_slow_client_is_not_the_backends_fault() -> None:
    """While a body is being delivered, the time for an answer does not run; afterwards it does."""

    async def slow() -> AsyncIterator[bytes]:
        for _ in range(2):
            await asyncio.sleep(0.3)
            yield b"abc"

    async with backend_with(answering(OK)) as backend, upstream(backend.url, response_timeout="500ms") as client:
        assert await ask(client, outgoing("POST", body=slow(), length=6)) == b"ok"
        backend.script = Visit.gone
        with pytest.raises(UpstreamTimeout, match="did not answer in time"):
            await client.send(outgoing("POST", body=slow(), length=6))


async def test_the_answer_to_half_a_request_is_an_answer() -> None:
    """A backend may answer before it has read everything; its connection is not used again."""
    never = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"abc"
        await never.wait()

    async def early(visit: Visit) -> None:
        await visit.send(OK)
        await visit.gone()

    async with backend_with(early) as backend, upstream(backend.url) as client:
        assert await ask(client, outgoing("POST", body=endless(), length=7)) == b"ok"
        await backend.left.wait()
        assert state(client) == (0, 0)


@pytest.mark.parametrize("how", ["answers", "breaks", "stops", "is left"])
async def test_afterwards_nobody_touches_the_body(how: str) -> None:
    """However an exchange ends while its body is on its way: the body is its client's again."""
    reading, never = False, asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        nonlocal reading
        yield b"abc"
        reading = True
        try:
            await never.wait()
        finally:
            reading = False

    async def early(visit: Visit) -> None:
        await visit.send(OK if how == "answers" else CHUNKED + chunk(b"half"))
        await until(lambda: reading)
        if how == "breaks":
            visit.reset()
        await visit.gone()

    async with backend_with(early) as backend, upstream(backend.url, idle_timeout="100ms") as client:
        with suppress(UpstreamBroken, UpstreamTimeout):
            async with await client.send(outgoing("POST", body=endless(), length=7)) as answer:
                await until(lambda: reading)
                while how != "is left" and await answer.read():
                    pass
        assert not reading
        assert state(client) == (0, 0)


async def test_an_empty_piece_is_not_the_end_of_a_body() -> None:
    """In chunks it would look like it."""
    async with backend_with(answering(OK)) as backend, upstream(backend.url) as client:
        assert await ask(client, outgoing("POST", body=pieces(b"abc", b"", b"def"))) == b"ok"
        assert backend.requests[0].body == b"abcdef"


# Time.


async def silent(visit: Visit) -> None:
    await visit.body()
    await visit.gone()


async def stops(visit: Visit) -> None:
    await visit.send(CHUNKED + chunk(b"half"))
    await visit.gone()


async def trickles(visit: Visit) -> None:
    await visit.send(CHUNKED)
    while True:
        await visit.send(chunk(b"x"))
        await asyncio.sleep(0.01)


async def trickles_head(visit: Visit) -> None:
    await visit.send(b"HTTP/1.1 200 OK\r\n")
    while True:
        await visit.send(b"X: a\r\n")
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("script", "limit", "message"),
    [
        (silent, {"response_timeout": "50ms"}, "did not answer in time"),
        (trickles_head, {"response_timeout": "100ms"}, "did not answer in time"),
        (stops, {"idle_timeout": "50ms"}, "fell silent in the middle"),
        (trickles, {"total_timeout": "100ms", "idle_timeout": "10s"}, "took too long"),
        (silent, {"total_timeout": "50ms"}, "took too long"),
    ],
)
async def test_a_backend_that_takes_too_long_is_given_up(script: Script, limit: dict[str, str], message: str) -> None:
    """Until the head is complete, between two pieces, and altogether; the connection ends and nothing is left."""
    async with backend_with(script) as backend, upstream(backend.url, **limit) as client:
        with pytest.raises(UpstreamTimeout, match=message):
            await ask(client)
        await backend.left.wait()
        assert state(client) == (0, 0)


async def test_a_slow_reader_is_not_the_backends_fault() -> None:
    """Nor does the time between two pieces run while nobody reads."""
    body = b"x" * 2**22

    async def plenty(visit: Visit) -> None:
        await visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    async with backend_with(plenty) as backend, upstream(backend.url, idle_timeout="400ms") as client:
        async with await client.send(outgoing()) as answer:
            received = len(await answer.read())
            await asyncio.sleep(0.5)
            while piece := await answer.read():
                received += len(piece)
        assert received == len(body)


async def test_times_of_one_exchange_are_not_those_of_the_next() -> None:
    """A timer that was set for an earlier exchange on the connection ends none."""

    async def in_time(visit: Visit) -> None:
        await asyncio.sleep(0.2)
        await visit.send(OK)

    async with backend_with(in_time) as backend, upstream(backend.url, response_timeout="550ms") as client:
        for _ in range(3):
            assert await ask(client) == b"ok"
        assert backend.connections == 1


# Reaching.


async def test_nobody_is_there() -> None:
    """Refused, not resolved, or silent: the message says where and why, and nothing was sent."""
    for url, reason in (
        ("http://127.0.0.1:9", "Connection refused"),
        ("http://no-such-host.invalid", "at http://no-such-host.invalid"),
        ("http://" + "a" * 70 + ".invalid", "no host name"),
    ):
        async with upstream(url) as client:
            with pytest.raises(UpstreamUnreachable, match=reason):
                await client.send(outgoing())
            assert state(client) == (0, 0)


async def test_a_connection_that_does_not_come_about_is_given_up() -> None:
    """After `connect_timeout`, a TLS handshake included."""

    left = asyncio.Event()

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.read()
        writer.close()
        left.set()

    server = await asyncio.start_server(deaf, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with upstream(url, connect_timeout="50ms") as client:
        with pytest.raises(UpstreamUnreachable, match=r"no connection within 0\.05 s"):
            await client.send(outgoing())
    await left.wait()
    server.close()
    await server.wait_closed()


async def test_a_line_end_in_a_header_is_never_sent() -> None:
    """It would be a request of somebody else's; no place is lost by it."""
    async with (
        backend_with(answering(OK)) as backend,
        upstream(backend.url, max_connections=1, max_waiting=0) as client,
    ):
        for bad in ("a\r\nX: b", "a\nX: b", "a\rX: b", "a\0"):
            request = outgoing()
            request.headers.append(("X-Bad", bad))
            with pytest.raises(ValueError, match="line end"):
                await client.send(request)
        assert await ask(client) == b"ok"
        assert len(backend.requests) == 1


async def test_nothing_is_said_to_the_loops_handler(caplog: pytest.LogCaptureFixture) -> None:
    """Broken, cut and abandoned exchanges are nobody's unhandled exception, and no warning of asyncio's."""
    async with backend_with(closing(b"")) as backend, upstream(backend.url, response_timeout="50ms") as client:
        for script in (closing(b""), closing(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"), silent):
            backend.script = script
            for body in (None, b"x" * 2**20, pieces(b"a" * 2**16, b"b" * 2**16)):
                with pytest.raises((UpstreamBroken, UpstreamTimeout)):
                    await ask(client, outgoing("POST", body=body))
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]

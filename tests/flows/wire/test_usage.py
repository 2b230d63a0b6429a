"""True costs over the wire: by headers, bytes and time, and of answers whose clients have left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest
import pytest_asyncio

from tests.flows.raw import EVENTS, Visit, answering, chunk, chunked, event, json_answer
from tests.flows.wire.wire import CHEAP, QUOTE, TOKEN, Wire, order, running_wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

SETTINGS = """
identity: {jwt: [{name: app, algorithms: [HS256], secret: "${JWT_SECRET}", user: userId}]}
upstreams: {raw: {url: "${BACKEND_URL}", response_timeout: 20s, idle_timeout: 20s}}
routes:
""" + "".join(
    f"""
  - id: {name}
    match: POST /{name}
    upstream: raw
    app: shop
    model: {{const: cheap}}
    units: {{tokens: {{const: 20, max: 20}}}}
    usage: {{tokens: {source}}}
    {more}
"""
    for name, source, more in (
        ("up", "{bytes: request}", ""),
        ("down", "{bytes: answer}", ""),
        ("header", "{header: X-Tokens, default: 12}", ""),
        ("sum", "{json: /n, sum: true}", ""),
        ("time", "{seconds: true}", ""),
        ("drain", "{json: /usage/tokens}", "on_abort: drain\n    drain: {time: 2s, size: 10kB}"),
    )
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lasting_wire(migrated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Wire]:
    async with running_wire(migrated_file, tmp_path_factory.mktemp("usage"), SETTINGS) as running:
        yield running
        await running.verify()


@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_bytes_are_counted_as_they_are_sent(wire: Wire, framing: str) -> None:
    """Of either body, without what frames it, streamed or not; and never below the base."""
    body = b"x" * 30
    if framing == "chunks":
        wire.backend.script = answering(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(body[:20], body[20:])
        )
        await wire.ask("POST /up", "Transfer-Encoding: chunked", body=chunked(body[:7], body[7:]), user="ann")
    else:
        wire.backend.script = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n" + body)
        await wire.ask("POST /up", body=body, user="ann")
    await wire.settled_at(30 * TOKEN)
    await wire.ask("POST /down", user="ann")
    await wire.settled_at(60 * TOKEN)
    await wire.ask("POST /up", user="ann")
    await wire.settled_at(60 * TOKEN + CHEAP)


@pytest.mark.parametrize(
    ("headers", "spent"),
    [
        ((b"X-Tokens: 15",), 15 * TOKEN),
        ((b"x-tokens: 15.5",), 15 * TOKEN + TOKEN // 2),
        ((), 12 * TOKEN),
        ((b"X-Tokens: -15",), QUOTE),
        ((b"X-Tokens: 1", b"X-Tokens: 15"), QUOTE),
        ((b"X-Tokens: 1e99",), QUOTE),
        ((b"X-Tokens: ",), QUOTE),
    ],
)
async def test_usage_in_a_header(wire: Wire, headers: tuple[bytes, ...], spent: int) -> None:
    """Its default where there is none, and the quote for what cannot be believed."""
    wire.backend.script = answering(json_answer(b"{}", *headers))
    await wire.ask("POST /header", user="ann")
    await wire.settled_at(spent)


async def test_usage_that_events_add_up(wire: Wire) -> None:
    events = b"".join(chunk(event({"n": number})) for number in (10, 20, 30)) + chunk(b"")
    wire.backend.script = answering(EVENTS + events)
    await wire.ask("POST /sum", user="ann")
    await wire.settled_at(60 * TOKEN)


async def test_time_is_used(wire: Wire) -> None:
    """From the reservation to the end of the answer; rounded to the millisecond."""
    await wire.ask("POST /time", user="ann")
    (row,) = await wire.usage()
    assert 0 <= Decimal(row["units"]["tokens"]) < 20
    assert row["estimated"] is False


# Draining.


async def _leaves(wire: Wire, *later: bytes, then: str = "end") -> None:
    """A client that leaves after the first event of a stream, which then goes on."""
    gone = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.body()
        await visit.send(EVENTS + chunk(event("first")))
        await gone.wait()
        for piece in later:
            await visit.send(chunk(piece))
            await asyncio.sleep(0.02)
        if then == "end":
            await visit.send(chunk(b""))
        elif then == "reset":
            visit.reset()
        else:
            await visit.gone()

    wire.backend.script = script
    client = await wire.start("POST /drain", body=order(), user="ann")
    await client.head()
    await client.chunk()
    client.leave()
    await asyncio.sleep(0.05)
    gone.set()


MORE = [event("more")] * 5
STATES = event({"usage": {"tokens": 33}})


async def test_the_true_usage_is_learned_after_the_client_has_left(wire: Wire) -> None:
    """The rest is read for its sake, and charged is what it states: more or less than was delivered, or quoted."""
    await _leaves(wire, *MORE, STATES)
    await wire.settled_at(33 * TOKEN)
    assert [row["estimated"] for row in await wire.usage()] == [False]


@pytest.mark.parametrize("then", ["end", "reset", "silence"])
async def test_a_rest_that_states_nothing_is_charged_by_the_quote(wire: Wire, then: str) -> None:
    """Whether it ends, breaks off, or says nothing for as long as it is drained."""
    await _leaves(wire, *MORE, then=then)
    await wire.settled_at(QUOTE)
    assert [row["estimated"] for row in await wire.usage()] == [True]


@pytest.mark.parametrize("then", ["reset", "silence"])
async def test_what_was_stated_before_it_broke_off_counts(wire: Wire, then: str) -> None:
    """As with `delivered`."""
    await _leaves(wire, *MORE, STATES, *MORE, then=then)
    await wire.settled_at(33 * TOKEN)


async def test_no_more_is_drained_than_the_settings_say(wire: Wire) -> None:
    """The backend is cut off behind the bound, and what it would have stated then is not known."""
    await _leaves(wire, *[event("x" * 2000)] * 10, STATES, then="silence")
    async with asyncio.timeout(1.5):
        await wire.backend.left.wait()
        await wire.settled_at(QUOTE)

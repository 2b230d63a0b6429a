"""Bodies that are read to decide and travel on as they came: compressed ones, and forms with large files."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import brotli
import pytest
import pytest_asyncio

from tests.flows.raw import OK, Visit, answering, chunk, chunked, json_answer
from tests.flows.wire.wire import CHEAP, SETTINGS, TOKEN, Wire, order, running_wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 2**20
ROUTES = """
  - id: upload
    match: POST /upload
    upstream: raw
    app: shop
    model: {multipart: model}
    units: {tokens: {multipart: tokens, max: 100, default: 20}}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lasting_wire(migrated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Wire]:
    async with running_wire(migrated_file, tmp_path_factory.mktemp("wire"), SETTINGS + ROUTES) as running:
        yield running
        await running.verify()


# Compressed bodies.

CODINGS = {"gzip": gzip.compress, "X-GZIP": gzip.compress, "deflate": zlib.compress, "br": brotli.compress}


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_a_compressed_body_is_read_and_arrives_compressed(wire: Wire, coding: str, framing: str) -> None:
    """The model and the units are those within; the backend gets the bytes that the client sent."""
    body = CODINGS[coding](order("cheap", max_tokens=50))
    headers = [f"Content-Encoding: {coding}", "Content-Type: application/json"]
    wire.backend.script = answering(json_answer(b"{}"))
    if framing == "chunks":
        answer = await wire.ask("POST /buy", *headers, "Transfer-Encoding: chunked", body=chunked(body), user="ann")
    else:
        answer = await wire.ask("POST /buy", *headers, body=body, user="ann")
    (arrived,) = wire.backend.requests
    assert (answer.status, arrived.body) == (200, body)
    assert arrived.values(b"content-encoding") == [coding.encode()]
    assert await wire.spent() == 50 * TOKEN


ODD_BODIES: dict[str, tuple[str, bytes, int]] = {
    "another coding": ("zstd", b"(\xb5/\xfd" + order(), 400),
    "two codings": ("gzip, gzip", gzip.compress(gzip.compress(order())), 400),
    "a lie": ("gzip", order(), 400),
    "cut short": ("gzip", gzip.compress(order())[:-3], 400),
    "a second member": ("gzip", gzip.compress(order("cheap")) + gzip.compress(order("dear")), 400),
    "raw deflate": ("deflate", zlib.compress(order(), wbits=-15), 400),
    "a bomb": ("gzip", gzip.compress(b" " * 50 * MIB), 413),
    "a bomb of brotli": ("br", brotli.compress(b" " * 50 * MIB), 413),
    "two models within": ("gzip", gzip.compress(b'{"model": "cheap", "model": "dear"}'), 400),
    "nothing within": ("gzip", gzip.compress(b""), 400),
}


@pytest.mark.parametrize("name", ODD_BODIES)
async def test_a_body_that_backends_decode_differently_is_refused(wire: Wire, name: str) -> None:
    """M07: 400 or 413, in little memory; nothing arrives and nothing is charged."""
    coding, body, status = ODD_BODIES[name]
    headers = [f"Content-Encoding: {coding}", "Content-Type: application/json"]
    await wire.ask("POST /buy", body=order(), user="warm-up")
    wire.backend.reset()
    tracemalloc.start()
    answer = await wire.ask("POST /buy", *headers, body=body, user="ann")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (answer.status, wire.backend.requests, await wire.spent()) == (status, [], 0)
    assert peak < 2 * MIB


# Forms in parts.

BOUNDARY = "Content-Type: multipart/form-data; boundary=xyz"
END = b"--xyz--\r\n"


def field(name: str, value: str, more: str = "") -> bytes:
    return f'--xyz\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n{value}\r\n'.encode()


FILE = b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\nContent-Type: video/mp4\r\n\r\n'


@pytest.mark.parametrize(
    ("body", "spent"),
    [
        (field("model", "cheap") + END, 20 * TOKEN),
        (field("tokens", "50") + field("model", "cheap") + FILE + b"movie\r\n" + END, 50 * TOKEN),
        (field("title", "hi") + field("model", "shop:dear") + FILE + b"movie\r\n" + END, 10 * CHEAP),
    ],
)
@pytest.mark.parametrize("framing", ["length", "chunks", "bytes"])
async def test_a_form_decides_by_its_fields(wire: Wire, body: bytes, spent: int, framing: str) -> None:
    """In any framing and in any pieces; the backend gets the form as it was sent."""
    pieces = {"length": [body], "chunks": chunked(*(body[at : at + 7] for at in range(0, len(body), 7)))}
    if framing == "chunks":
        client = await wire.start("POST /upload", BOUNDARY, "Transfer-Encoding: chunked", user="ann")
        await client.send(pieces["chunks"])  # type: ignore[arg-type]
    else:
        client = await wire.start("POST /upload", BOUNDARY, f"Content-Length: {len(body)}", user="ann")
        for at in range(0, len(body), len(body) if framing == "length" else 3):
            await client.send(body[at : at + (len(body) if framing == "length" else 3)])
            await asyncio.sleep(0)
    assert (await client.answer("POST")).status == 200
    assert wire.backend.requests[0].body == body
    assert await wire.spent() == spent


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (FILE + b"movie\r\n" + field("model", "cheap") + END, b"comes after a file; send it before"),
        (FILE + b"movie\r\n" + END, b"multipart model"),
        (field("title", "x") + END, b"multipart model"),
        (field("model", "cheap") + field("model", "dear") + END, b"multipart model"),
        (field("model", "cheap") + field("tokens", "101") + END, b"multipart tokens"),
        (field("model", "cheap") + field("Model", "dear") + END, b"body"),
        (field("model", "cheap") + b"--xyz--\r\n--xyz\r\n", b"body"),
        (b"preamble\r\n" + field("model", "cheap") + END, b"body"),
    ],
)
async def test_a_form_that_decides_in_two_ways_is_refused(wire: Wire, body: bytes, place: bytes) -> None:
    """400 with its place, before the backend hears of it; free."""
    answer = await wire.ask("POST /upload", BOUNDARY, body=body, user="ann")
    assert (answer.status, wire.backend.requests) == (400, [])
    assert place in answer.body
    assert await wire.spent() == 0


@pytest.mark.parametrize(
    "rest",
    [
        field("model", "dear") + END,
        field("MODEL", "dear") + END,
        field("tokens", "1") + END,
        END + b"--xyz\r\n",
        b"",
        b"--xyz--\n",
    ],
)
@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_a_form_that_changes_its_mind_is_cut(wire: Wire, rest: bytes, framing: str) -> None:
    """What comes behind a file cannot change what was judged: the backend never gets a whole form, and it is free."""
    over = asyncio.Event()
    seen = b""
    head = field("model", "cheap") + FILE + b"x" * 100_000
    tail = b"y" * 100_000 + b"\r\n" + rest

    async def collect(visit: Visit) -> None:
        nonlocal seen
        with suppress(ConnectionError):
            while piece := await visit.reader.read(2**20):
                seen += piece
        over.set()

    wire.backend.script = collect
    length = f"Content-Length: {len(head) + len(tail)}" if framing == "length" else "Transfer-Encoding: chunked"
    client = await wire.start("POST /upload", BOUNDARY, length, user="ann")
    await client.send(head if framing == "length" else chunk(head))
    await wire.backend.arrived.wait()
    assert await wire.spent() == 20 * TOKEN, "admitted"
    await client.send(tail if framing == "length" else chunk(tail) + chunk(b""))
    answer = await client.answer("POST")
    assert (answer.status, b"invalid_request" in answer.body) == (400, True)
    await wire.settled_at(0)
    await over.wait()
    assert b"dear" not in seen
    assert len(seen) < len(head) + len(tail)
    assert not seen.endswith(chunk(b""))


async def test_a_large_form_takes_little_memory(wire: Wire) -> None:
    """Thirty-two mebibytes of file behind a field, and the backend gets them all."""
    piece, count, received = b"z" * 2**16, 512, 0
    head, tail = field("model", "cheap") + FILE, b"\r\n" + END

    async def counting(visit: Visit) -> None:
        nonlocal received
        left = visit.request.length or 0
        while received < left:
            received += len(await visit.reader.read(2**16))
        await visit.send(OK)

    wire.backend.script = counting
    total = len(head) + count * len(piece) + len(tail)
    await wire.ask("POST /flat", user="ann")
    client = await wire.start("POST /upload", BOUNDARY, f"Content-Length: {total}", user="ann")
    received = 0
    tracemalloc.start()
    await client.send(head)
    for _ in range(count):
        await client.send(piece)
    await client.send(tail)
    assert (await client.answer("POST")).body == b"ok"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert received == total
    assert peak < 6 * MIB


async def test_a_form_is_admitted_before_its_files(wire: Wire) -> None:
    """Who cannot pay is refused as soon as the fields are there, and is told to go on before that only."""
    for _ in range(10):
        assert (await wire.ask("POST /by-header", "X-Model: dear", user="ann")).status == 200
    wire.backend.reset()
    sent = field("model", "cheap") + FILE
    client = await wire.start("POST /upload", BOUNDARY, "Expect: 100-continue", "Content-Length: 500000000", user="ann")
    assert (await client.head()).status == 100
    await client.send(sent)
    answer = await client.answer("POST")
    assert (answer.status, answer.values(b"connection")) == (402, [b"close"])
    assert not wire.backend.requests


async def test_a_client_is_told_to_go_on_once(wire: Wire) -> None:
    """`Expect: 100-continue` is answered when the fields are wanted, and not again for the file."""
    body = field("model", "cheap") + FILE + b"movie\r\n" + END
    client = await wire.start(
        "POST /upload", BOUNDARY, "Expect: 100-continue", f"Content-Length: {len(body)}", user="ann"
    )
    assert (await client.head()).status == 100
    await client.send(body[:-10])
    await wire.backend.arrived.wait()
    await client.send(body[-10:])
    assert (await client.head()).status == 200


async def test_fields_beyond_the_bound_are_refused(wire: Wire) -> None:
    """413 when the first file has not begun within `limits.peek`."""
    body = field("title", "x" * 70_000) + field("model", "cheap") + END
    assert (await wire.ask("POST /upload", BOUNDARY, body=body, user="ann")).status == 413
    other = await wire.ask("POST /upload", BOUNDARY, "Content-Encoding: gzip", body=gzip.compress(body), user="ann")
    assert (other.status, wire.backend.requests) == (400, [])

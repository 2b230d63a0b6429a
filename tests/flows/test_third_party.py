"""The same requests directly and through Farebox: status, headers and body are the same, byte for byte.

The application is not ours and neither is its server; the client is a socket. What differs is what docs say: the id of
the request, and the headers that are about one connection.
"""

from __future__ import annotations

import asyncio
import gzip
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from tests.flows.raw import Message, RawClient, chunked, request
from tests.flows.third_party import FRAMING, METHODS, application, served
from tests.flows.wire.wire import CHEAP, SETTINGS, Wire, running_wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

ACCESS = {
    "open": '  - {id: everything, match: "* /**", upstream: raw, access: open}',
    "metered": '  - {id: everything, match: "* /**", upstream: raw, app: shop, model: {const: cheap}}',
}
HOP_BY_HOP = {b"connection", b"keep-alive"}


@dataclass
class Two:
    """The application itself, and Farebox before it: once for anybody, and once for a price."""

    direct: int
    wires: dict[str, Wire]

    async def both(self, access: str, *requests: bytes) -> tuple[list[Message], list[Message]]:
        """The answers to these requests, one after the other on one connection each. Each asks on its own account."""
        method = requests[0].partition(b" ")[0].decode()
        wire = self.wires[access]
        wire.begin()
        credential = b"\r\n%b\r\n" % wire.bearer().encode()
        sent = [data.replace(b"\r\n", credential, 1) for data in requests]
        answers = []
        for port in (self.direct, wire.address.port):
            client = await RawClient.connect("127.0.0.1", port)
            found = []
            for data in sent:
                await client.send(data)
                found.append(await client.answer(method))
            answers.append(found)
            await client.close()
        return answers[0], answers[1]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def two(migrated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Two]:
    folder = tmp_path_factory.mktemp("static")
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
        os.utime(folder / name, (10**9, 10**9))
    async with served(application(folder)) as port:
        text = SETTINGS.replace("${BACKEND_URL}", f"http://127.0.0.1:{port}")
        text = text.replace(', headers: {X-Backend-Key: "${BACKEND_KEY}"}', "")
        async with AsyncExitStack() as stack:
            wires = {}
            for access, route in ACCESS.items():
                running = running_wire(migrated_file, tmp_path_factory.mktemp("wire"), text + route)
                wires[access] = await stack.enter_async_context(running)
            yield Two(port, wires)
            await wires["metered"].verify()


FILES = {"page.html": b"<p>hello</p>" * 200, "data.bin": bytes(range(256)) * 1000, "empty": b"", "a b.txt": b"odd name"}

MULTIPART = "Content-Type: multipart/form-data; boundary=xyz"
PARTS = (
    b'--xyz\r\nContent-Disposition: form-data; name="title"\r\n\r\nhello\r\n'
    b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\n" + bytes(range(256)) * 4000 + b"\r\n--xyz--\r\n"
)
FORM = "Content-Type: application/x-www-form-urlencoded"
RANGE = "GET /static/data.bin"
CONDITION = "If-Modified-Since: Sun, 09 Sep 2001 01:46:40 GMT"

REQUESTS: dict[str, bytes] = {
    **{
        f"{method} echo": request(f"{method} /echo?a=1", body=b"xy" if method != "OPTIONS" else b"")
        for method in METHODS
    },
    "odd path": request("GET /echo/a%20b;c=1/~d//"[:-1] + "?q=%zz&&=&+"),
    "odd headers": request(
        "GET /echo", "X-A: 1", "x-a: 2", "User-Agent: me", "Accept: */*;q=0.1", "X-Empty:", "Cookie: a=1"
    ),
    "no length": request("POST /echo"),
    "empty": request("POST /echo", "Content-Length: 0"),
    "chunks": request("POST /echo", "Transfer-Encoding: chunked", body=chunked(b"abc", b"d" * 70_000, b"e")),
    "trailers": request("POST /echo", "Transfer-Encoding: chunked", body=b"3\r\nabc\r\n0\r\nX-Trailer: 1\r\n\r\n"),
    "large upload": request("PUT /echo", body=os.urandom(3_000_000)),
    "compressed upload": request("POST /echo", "Content-Encoding: gzip", body=gzip.compress(b"x" * 9999, mtime=0)),
    "form": request("POST /form", FORM, body=b"a=1&a=2&b=%C3%A4+x&c="),
    "multipart": request("POST /form", MULTIPART, body=PARTS),
    "multipart in chunks": request("POST /form", MULTIPART, "Transfer-Encoding: chunked", body=chunked(PARTS)),
    **{f"redirect {code}": request(f"GET /redirect/{code}") for code in (301, 302, 303, 307, 308)},
    "cookies": request("GET /cookies", "Cookie: plain=2; other=x"),
    **{f"status {code}": request(f"GET /status/{code}") for code in (200, 201, 204, 205, 304, 400, 404, 409, 500, 503)},
    **{f"HEAD status {code}": request(f"HEAD /status/{code}") for code in (200, 204, 304, 404)},
    "not there": request("GET /nowhere"),
    "not that way": request("POST /cookies"),
    "static": request("GET /static/page.html"),
    "static compressed": request("GET /static/page.html", "Accept-Encoding: gzip, br"),
    "static HEAD": request("HEAD /static/page.html"),
    "static empty": request("GET /static/empty"),
    "static odd name": request("GET /static/a%20b.txt"),
    "not modified": request("GET /static/page.html", CONDITION),
    "range": request(RANGE, "Range: bytes=10-19"),
    "range to the end": request(RANGE, "Range: bytes=255990-"),
    "range from the end": request(RANGE, "Range: bytes=-5"),
    "ranges": request(RANGE, "Range: bytes=0-1,5-6"),
    "range beyond": request(RANGE, "Range: bytes=999999-"),
    "range of nonsense": request(RANGE, "Range: lines=1-2"),
    "range if": request(RANGE, "Range: bytes=0-9", 'If-Range: "other"'),
    "range HEAD": request("HEAD /static/data.bin", "Range: bytes=0-9"),
    "stream": request("GET /stream/50"),
    "stream HEAD": request("HEAD /stream/50"),
    "stream compressed": request("GET /stream/50", "Accept-Encoding: gzip"),
    "large": request("GET /large/5000000"),
    "large HEAD": request("HEAD /large/5000000"),
    "long poll": request("GET /wait"),
    "refused unread": request("POST /refuse", body=b"x" * 1000),
    "utf-8 target": request("GET /echo/%E2%82%AC?%E2%82%AC=%E2%82%AC"),
}


def comparable(answer: Message) -> tuple[object, ...]:
    """An answer without what may differ. Boundaries of several ranges are drawn by lot."""
    headers = [(name.lower(), value) for name, value in answer.headers if name.lower() not in HOP_BY_HOP]
    headers = [header for header in headers if not header[0].startswith((b"x-request-id", b"x-farebox-"))]
    if not answer.body:
        # What an answer to HEAD would have been framed by is about the connection.
        headers = [header for header in headers if header[0] != b"transfer-encoding"]
    framing = {name.encode() for name in FRAMING}
    ordered = sorted(headers, key=lambda header: header[0] in framing)
    body = answer.body
    for name, value in ordered:
        if name == b"content-type" and b"boundary=" in value:
            boundary = value.partition(b"boundary=")[2]
            body = body.replace(boundary, b"-")
            ordered = [(name, value.replace(boundary, b"-")) for name, value in ordered]
    return answer.first, ordered, body


@pytest.mark.parametrize("access", ACCESS)
@pytest.mark.parametrize("name", REQUESTS)
async def test_an_answer_is_the_same(two: Two, name: str, access: str) -> None:
    """Directly and through Farebox; and where it has a price, only a success is charged."""
    (direct,), (through,) = await two.both(access, REQUESTS[name])
    assert comparable(through) == comparable(direct)
    if access == "metered":
        await two.wires[access].settled_at(CHEAP if 200 <= through.status < 300 else 0)


@pytest.mark.parametrize("access", ACCESS)
async def test_many_requests_on_one_connection(two: Two, access: str) -> None:
    """One after the other, with bodies and without, none of them eats a byte of the next."""
    names = ["POST echo", "PUT echo", "empty", "chunks", "no length", "form", "POST echo"]
    direct, through = await two.both(access, *(REQUESTS[name] for name in names))
    assert [comparable(answer) for answer in through] == [comparable(answer) for answer in direct]


async def test_a_session_is_its_owners(two: Two) -> None:
    """Cookies come and go untouched: each visitor counts alone."""
    visits = []
    for port in (two.direct, two.wires["open"].address.port, two.wires["open"].address.port):
        client = await RawClient.connect("127.0.0.1", port)
        cookie: list[str] = []
        for _ in range(3):
            await client.send(request("GET /cookies", *cookie))
            answer = await client.answer()
            visits_cookie = next(value for value in answer.values(b"set-cookie") if value.startswith(b"visits="))
            cookie = [f"Cookie: {visits_cookie.partition(b';')[0].decode()}"]
        visits.append(answer.body.rpartition(b'"visits":')[2])
        await client.close()
    assert visits == [b"3}"] * 3


async def test_a_client_that_waits_with_its_body(two: Two) -> None:
    """`Expect: 100-continue`: told to go on, and answered the same."""
    answers = []
    for port in (two.direct, two.wires["open"].address.port):
        client = await RawClient.connect("127.0.0.1", port)
        await client.send(request("POST /form", FORM, "Expect: 100-continue", "Content-Length: 3"))
        assert (await client.head()).first == b"HTTP/1.1 100 Continue" or port == two.direct
        await client.send(b"a=b")
        answers.append(comparable(await client.answer("POST")))
        await client.close()
    assert answers[0] == answers[1]


async def test_events_come_one_by_one(two: Two) -> None:
    """A stream begins before it ends, and what it says is what the application wrote."""
    client = await RawClient.connect("127.0.0.1", two.wires["open"].address.port)
    await client.send(request("GET /stream/3"))
    assert (await client.head()).chunked
    async with asyncio.timeout(5):
        events = b""
        while piece := await client.chunk():
            events += piece
    assert events == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"
    await client.close()

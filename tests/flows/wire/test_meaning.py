"""Paths, queries and bodies that could mean two things, on the wire: the backend sees nothing of them, and nothing is
taken; or what it sees is what was judged and paid for.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.flows.raw import Message, request
from tests.flows.wire.wire import CHEAP, QUOTE, SETTINGS, Wire, order, running_wire
from tests.proxy.pipeline.test_multipart import BAD, BOUNDARY, END
from tests.proxy.pipeline.test_multipart import named as part_named

pytestmark = pytest.mark.asyncio(loop_scope="module")

MORE = """
  - {id: by-query, match: POST /by-query, upstream: raw, app: shop, model: {query: model}}
  - {id: by-form, match: POST /by-form, upstream: raw, app: shop, model: {form: model}}
  - {id: by-part, match: POST /by-part, upstream: raw, app: shop, model: {multipart: model}}
  - {id: deep, match: POST /v1/chat, upstream: raw, app: shop, model: {const: cheap}}
  - {id: site, match: "* /v1/**", upstream: raw, access: open}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lasting_wire(migrated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Wire]:
    """With models in every place, and an open route around a paid one."""
    async with running_wire(migrated_file, tmp_path_factory.mktemp("wire"), SETTINGS + MORE) as running:
        yield running
        await running.verify()


async def refused(wire: Wire, answer: Message, *statuses: int) -> None:
    """With one of these statuses; the backend has seen nothing, and nothing was taken."""
    assert answer.status in (statuses or (400,)), answer
    assert json.loads(answer.body)["code"]
    assert not wire.backend.requests
    assert await wire.spent() == 0


PATHS = {
    "P01": ["/v1/x/../chat", "/v1/%2e%2e/chat", "/v1/.%2e/chat", "/v1/./chat", "/v1/chat/.", "/v1/chat/..", "/.."],
    "P02": ["//v1/chat", "/v1//chat", "/v1/chat/", "/V1/Chat", "/v1/Chat", "/v1/chat;jsessionid=1", "/v1;a/chat"],
    "P03": [
        "/v1%2fchat",
        "/v1%2Fchat",
        "/v1%5cchat",
        "/v1\\chat",
        "/v1/%c0%ae/chat",
        "/v1/chat%00",
        "/v1/chat%0d%0aX:",
    ],
    "P03 more": ["/v1/%zzchat", "/v1/%u002fchat", "/v1/\u00e9", "/v1/chat%20", "/v1/%2563hat", "/v1/chat%2e%2e%2f"],
    "P04": ["/v1/chat#frag", "/v1/chat?#", "/v1/chat?a#?model=b", "/v1/chat#?model=b"],
    "P05": [
        "http://app.example.com/v1/chat",
        "http:/v1/chat",
        "http:///v1/chat",
        "///v1/chat",
        "*",
        "app:443",
        "v1/chat",
    ],
}


@pytest.mark.parametrize("name", PATHS)
async def test_a_path_with_two_readings_is_refused(wire: Wire, name: str) -> None:
    """P01 to P05: though an open route would take it, and though its caller could pay; the connection is of no more
    harm: it is closed, or the next request on it is one of its own.
    """
    for path in PATHS[name]:
        client = await wire.connect()
        await client.send(request(f"POST {path}", wire.bearer("ann")))
        answer = await client.answer()
        await refused(wire, answer, 400, 404)
        if answer.first.startswith(b"HTTP/1.0") or answer.values(b"connection"):
            assert await client.rest() == b""
            continue
        await client.send(request("GET /open/next"))
        assert (await client.answer()).body == b"ok"
        assert [arrived.first for arrived in wire.backend.requests] == [b"GET /open/next HTTP/1.1"]
        wire.backend.requests.clear()


@pytest.mark.parametrize("path", ["/v1/chat?", "/v1/%63hat", "/v1/chat?a=/../x", "/v1/chat?a=%2e%2e"])
async def test_a_path_with_one_reading_arrives_as_it_came(wire: Wire, path: str) -> None:
    """P01, P04: and is paid for as what it is."""
    assert (await wire.ask(f"POST {path}", user="ann")).values(b"x-farebox-charged") == [b"1"]
    assert wire.backend.requests[0].first == f"POST {path} HTTP/1.1".encode()


@pytest.mark.parametrize(
    ("line", "headers", "status"),
    [
        ("post /v1/chat", [], 400),
        ("Post /v1/chat", [], 400),
        ("POSTT /v1/chat", [], 400),
        ("MKCOL /v1/chat", [], 405),
        ("TRACE /v1/chat", [], 405),
        ("GET /v1/nothing?_method=POST", [], 200),
        ("GET /v1/nothing", ["X-HTTP-Method-Override: POST", "X_Method_Override: POST"], 200),
        ("HEAD /flat", [], 401),
        ("DELETE /flat", [], 404),
    ],
)
async def test_p06_a_method_is_what_it_says(wire: Wire, line: str, headers: list[str], status: int) -> None:
    """In its one spelling; nothing in the request makes it another one."""
    data = request(line, *headers, "Connection: close")
    assert (await wire.raw(data)).split(b" ")[1] == b"%d" % status
    assert len(wire.backend.requests) == (status == 200)
    for arrived in wire.backend.requests:
        assert arrived.first == f"{line} HTTP/1.1".encode()
        assert not [name for name, _ in arrived.headers if b"override" in name.lower()]


async def test_p07_what_matches_no_route_is_refused(wire: Wire) -> None:
    """With a credential too, and however close it is."""
    for line in ("POST /flatt", "POST /fla", "POST /flat/x", "PATCH /flat", "GET /", "POST /buy-", "GET /jobs/a/b"):
        await refused(wire, await wire.ask(line, user="ann"), 404)


QUERIES = [
    "model=cheap&model=dear",
    "model=cheap&model[]=dear",
    "Model=cheap",
    "model=cheap&Model=dear",
    "model=cheap;model=dear",
]
QUERIES += [
    "model=cheap&%6dodel=dear",
    "model=cheap&+model=dear",
    "model=%ff",
    "",
    "model",
    "model[]=cheap",
    "mo%00del=cheap",
]


@pytest.mark.parametrize("query", QUERIES)
async def test_p08_m05_a_field_with_two_readings_is_refused(wire: Wire, query: str) -> None:
    """In the query and in a form alike."""
    await refused(wire, await wire.ask(f"POST /by-query?{query}", user="ann"))
    form = "Content-Type: application/x-www-form-urlencoded"
    await refused(wire, await wire.ask("POST /by-form", form, body=query.encode(), user="ann"))


async def test_p08_m05_many_fields_are_looked_through_or_refused(wire: Wire) -> None:
    """Also behind fifteen hundred others: a second one is never missed."""
    many = "&".join(f"x{number}=1" for number in range(1500))
    form = "Content-Type: application/x-www-form-urlencoded"
    for end in ("&model=cheap&model=dear", "&Model=cheap"):
        await refused(wire, await wire.ask("POST /by-form", form, body=(many + end).encode(), user="ann"))
        await refused(wire, await wire.ask(f"POST /by-query?{many[:9000]}{end}", user="ann"))
    assert (await wire.ask("POST /by-query?model=che%61p", user="ann")).values(b"x-farebox-charged") == [b"1"]


BODIES = {
    "M02 a byte order mark": b'\xef\xbb\xbf{"model": "cheap"}',
    "M02 UTF-16": '{"model": "cheap"}'.encode("utf-16"),
    "M02 UTF-32": '{"model": "cheap"}'.encode("utf-32"),
    "M02 no UTF-8": b'{"model": "cheap", "x": "\xff"}',
    "M02 a lone surrogate": b'{"model": "cheap\\ud800"}',
    "M02 NaN": b'{"model": "cheap", "x": NaN}',
    "M02 infinity": b'{"model": "cheap", "x": -Infinity}',
    "M02 a comment": b'{"model": "cheap" /* dear */}',
    "M02 a comma": b'{"model": "cheap",}',
    "M02 two documents": b'{"model": "cheap"} {"model": "dear"}',
    "M02 more behind": b'{"model": "cheap"}x',
    "M02 depth": b'{"model": "cheap", "x": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    "M02 a long number": b'{"model": "cheap", "max_tokens": ' + b"1" * 5000 + b"}",
    "M01 an array": b'{"model": ["cheap"]}',
    "M01 a number": b'{"model": 1}',
    "M01 nothing": b'{"model": null}',
    "M01 an empty text": b'{"model": ""}',
    "M01 a NUL": b'{"model": "cheap\\u0000"}',
    "M01 another form of a letter": '{"model": "che\u0301ap"}'.encode(),
    "M01 a long text": b'{"model": "%b"}' % (b"c" * 50_000),
    "M01 deeper": b'{"x": {"model": "cheap"}}',
}


@pytest.mark.parametrize("name", BODIES)
async def test_a_body_with_two_readings_is_refused(wire: Wire, name: str) -> None:
    """M01, M02: 400 (403 for a model that nobody has), always the same code, whole or in chunks."""
    data = BODIES[name]
    await refused(wire, await wire.ask("POST /buy", "Content-Type: application/json", body=data, user="ann"), 400, 403)


TYPES = [
    "",
    "text/plain",
    "application/x-www-form-urlencoded",
    "application/json;charset=utf-16",
    "application/json;charset=utf-7",
]
TYPES += [
    "application/vnd.x+json",
    "application/jsonx",
    "application/json, text/plain",
    "multipart/form-data; boundary=x",
]


@pytest.mark.parametrize("content_type", TYPES)
async def test_m03_a_body_is_of_the_type_that_it_says(wire: Wire, content_type: str) -> None:
    """JSON under another name, in another charset, or under two names, is refused."""
    await refused(wire, await wire.ask("POST /buy", f"Content-Type: {content_type}", body=order(), user="ann"))
    twice = ["Content-Type: application/json", f"Content-Type: {content_type or 'text/html'}"]
    await refused(wire, await wire.ask("POST /buy", *twice, body=order(), user="ann"))
    await refused(wire, await wire.ask("POST /buy", twice[0], "Content_Type: text/plain", body=order(), user="ann"))


async def test_m03_the_type_that_fits_may_be_spelled_freely(wire: Wire) -> None:
    """In any case, and with parameters that change nothing."""
    for content_type in ("Application/JSON", "application/json; charset=UTF-8", "application/json;foo=bar"):
        assert (await wire.ask("POST /buy", f"Content-Type: {content_type}", body=order(), user="ann")).status == 200
    assert await wire.spent() == 3 * QUOTE


@pytest.mark.parametrize("name", BAD)
async def test_m04_a_form_in_parts_with_two_readings_never_arrives_whole(wire: Wire, name: str) -> None:
    """What stands before its first file is refused before the backend sees a byte; what comes later cuts it off."""
    form = f"Content-Type: multipart/form-data; boundary={BOUNDARY.decode()}"
    answer = await wire.ask("POST /by-part", form, body=BAD[name], user="ann")
    assert answer.status in (400, 413)
    assert all(arrived.body != BAD[name] for arrived in wire.backend.requests)
    await wire.settled_at(0)


async def test_m03_m04_a_form_needs_its_one_boundary(wire: Wire) -> None:
    """Without one, with two, or of another type it is refused; the good one passes and is paid for."""
    good = part_named("model", b"cheap") + END
    for content_type in (
        "multipart/form-data",
        "multipart/form-data; boundary=a; boundary=b",
        "multipart/mixed; boundary=x",
    ):
        await refused(wire, await wire.ask("POST /by-part", f"Content-Type: {content_type}", body=good, user="ann"))
    form = f"Content-Type: multipart/form-data; boundary={BOUNDARY.decode()}"
    assert (await wire.ask("POST /by-part", form, body=good, user="ann")).status == 200
    assert wire.backend.requests[0].body == good
    assert await wire.spent() == CHEAP

"""M08 on the wire: a GraphQL endpoint is charged for each call, and what has not one meaning never arrives."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
import pytest_asyncio

from tests.flows.raw import OK, answering
from tests.flows.wire.wire import CHEAP, SETTINGS, TOKEN, Wire, running_wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROUTES = """
  - id: by-field
    match: [POST /graphql, GET /graphql]
    upstream: raw
    app: shop
    model: {graphql: field}
  - id: by-argument
    match: POST /models
    upstream: raw
    app: shop
    model: {graphql: /model}
    units: {calls: {graphql: calls, max: 9}, tokens: {graphql: /tokens, max: 100, default: 20}}
"""
HASH = hashlib.sha256(b"{ cheap }").hexdigest()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lasting_wire(migrated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Wire]:
    async with running_wire(migrated_file, tmp_path_factory.mktemp("graphql"), SETTINGS + ROUTES) as running:
        yield running
        await running.verify()


async def sent(wire: Wire, body: bytes, line: str = "POST /graphql", kind: str = "application/json") -> int:
    wire.backend.script = answering(OK)
    answer = await wire.ask(line, *([f"Content-Type: {kind}"] if body else []), body=body, user="ann")
    if answer.status == 200:
        assert wire.backend.requests[-1].first == f"{line} HTTP/1.1".encode()
        assert wire.backend.requests[-1].body == body
    return answer.status


SINGLE = {
    "JSON": ("POST /graphql", json.dumps({"query": "mutation { cheap { id } }"}).encode(), "application/json"),
    "a document": ("POST /graphql", b"{ a: cheap { b: dear } }", "application/graphql"),
    "GET": ("GET /graphql?" + urlencode({"query": "{ cheap }"}), b"", ""),
    "a batch of one": ("POST /graphql", b'[{"query": "{ cheap }"}]', "application/json"),
    "the one that is chosen": (
        "POST /graphql",
        b'{"query": "query A { dear } query B { ...F } fragment F on Q { cheap }", "operationName": "B"}',
        "application/json",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SINGLE)
async def test_one_call_is_charged_as_its_model(wire: Wire, name: str) -> None:
    """M08: in every form, byte for byte as it was sent."""
    line, body, kind = SINGLE[name]
    assert await sent(wire, body, line, kind) == 200
    await wire.settled_at(CHEAP)
    assert [row["model_key"] for row in await wire.usage()] == ["shop:cheap"]


REFUSED = {
    "two calls": b'{"query": "{ a: cheap b: cheap }"}',
    "two models": b'{"query": "{ cheap dear }"}',
    "a batch": b'[{"query": "{ cheap }"}, {"query": "{ dear }"}]',
    "no choice": b'{"query": "query A { cheap } query B { dear }"}',
    "another key": b'{"query": "{ cheap }", "query": "{ dear }"}',
    "a hash alone": json.dumps({"extensions": {"persistedQuery": {"version": 1, "sha256Hash": HASH}}}).encode(),
    "a wrong hash": json.dumps({"query": "{cheap}", "extensions": {"persistedQuery": {"sha256Hash": HASH}}}).encode(),
    "introspection": b'{"query": "{ __schema { types { name } } }"}',
    "a subscription": b'{"query": "subscription { cheap }"}',
    "no GraphQL": b'{"query": "cheap"}',
    "far too much": json.dumps({"query": "{ cheap " + "a " * 5000 + "}"}).encode(),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
async def test_what_has_not_one_meaning_never_arrives(wire: Wire, name: str) -> None:
    """M08: 400, the backend untouched, and nothing charged."""
    assert await sent(wire, REFUSED[name]) == 400
    assert (wire.backend.requests, await wire.spent()) == ([], 0)


async def test_an_unknown_field_is_an_unknown_model(wire: Wire) -> None:
    """What is not for sale is not forwarded either: there is no free field beside those that have a price."""
    assert await sent(wire, b'{"query": "{ me { name } }"}') == 403
    assert wire.backend.requests == []


async def test_every_alias_is_paid(wire: Wire) -> None:
    """Inline and by variable, in one request and in a batch: the units of all calls add up."""
    text = 'query($m: String = "cheap", $n: Int) { a: go(model: $m, tokens: 15) b: go(model: "cheap", tokens: $n) }'
    one = {"query": text, "variables": {"n": 30}}
    assert await sent(wire, json.dumps(one).encode(), "POST /models") == 200
    await wire.settled_at(45 * TOKEN)
    assert await sent(wire, json.dumps([one, {"query": text}]).encode(), "POST /models") == 200
    await wire.settled_at((45 + 45 + 15 + 20) * TOKEN)
    assert await sent(wire, json.dumps({**one, "variables": {"m": "dear"}}).encode(), "POST /models") == 400
    assert [row["units"]["calls"] for row in await wire.usage()] == ["4", "2"]

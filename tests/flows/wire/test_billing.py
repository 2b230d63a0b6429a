"""Backends that bill on their own: told that they need not, and what they say of it put right. Off by default."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.flows.raw import Message, answering, chunked, json_answer
from tests.flows.wire.wire import CHEAP, Wire, running_wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

SETTINGS = """
identity: {jwt: [{name: app, algorithms: [HS256], secret: "${JWT_SECRET}", user: userId}]}
upstreams:
  raw: {url: "${BACKEND_URL}", paid: {header: X-Charged-By, value: the-secret-of-both}}
  plain: {url: "${BACKEND_URL}"}
routes:
  - {id: open, match: "* /open", upstream: raw, access: open}
  - {id: mine, match: "* /mine", upstream: raw, access: account}
  - {id: plain, match: "POST /plain", upstream: plain, app: shop, model: {const: cheap}}
  - {id: free, match: "* /free", upstream: plain, access: open}
  - id: used
    match: POST /used
    upstream: raw
    app: shop
    model: {const: cheap}
    rewrite: {json: /credit/used, to: charged}
  - id: left
    match: "* /left"
    upstream: raw
    app: shop
    model: {const: cheap}
    rewrite: {json: /balance, to: remaining}
  - id: start
    match: POST /jobs
    upstream: raw
    app: shop
    model: {const: dear}
    job: {id: {json: /id}, deadline: 1h}
    rewrite: {json: /credits, to: charged}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lasting_wire(migrated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Wire]:
    async with running_wire(migrated_file, tmp_path_factory.mktemp("billing"), SETTINGS) as running:
        yield running
        await running.verify()


def signals(wire: Wire) -> list[bytes]:
    """What the backend was told with the latest request, under any spelling of the name."""
    headers = wire.backend.requests[-1].headers
    return [value for name, value in headers if name.lower().replace(b"_", b"-") == b"x-charged-by"]


async def test_only_what_is_paid_for_says_so(wire: Wire) -> None:
    """The signal is on metered requests to the backend that wants it, and on no others."""
    for line in ("POST /used", "POST /left", "POST /jobs"):
        wire.backend.script = answering(json_answer(json.dumps({"id": f"{line}{wire.number}"}).encode()))
        await wire.ask(line, user="ann")
        assert signals(wire) == [b"the-secret-of-both"]
    for line in ("POST /open", "POST /mine", "POST /plain", "POST /free"):
        await wire.ask(line, user="ann")
        assert signals(wire) == []
    wire.may_stay_open = 1


@pytest.mark.parametrize("name", ["X-Charged-By", "x-charged-by", "X_Charged_By", "x-charged_BY"])
async def test_nobody_else_can_say_so(wire: Wire, name: str) -> None:
    """A client that knows the signal, and even its secret, is not believed."""
    for line in ("POST /open", "POST /mine"):
        await wire.ask(line, f"{name}: the-secret-of-both", user="ann")
        assert signals(wire) == []
    await wire.ask("POST /used", f"{name}: 0", user="ann")
    assert signals(wire) == [b"the-secret-of-both"]


async def test_without_the_setting_the_header_is_the_clients(wire: Wire) -> None:
    await wire.ask("POST /plain", "X-Charged-By: me", user="ann")
    assert signals(wire) == [b"me"]


BODY = b'{ "credit" : {"used": 400, "note":"\\u00fc"},\n "balance":-7.50, "big": 12345678901234567890.10 }'


async def asked(wire: Wire, line: str, *headers: bytes, body: bytes = BODY) -> Message:
    wire.backend.script = answering(json_answer(body, *headers))
    return await wire.ask(line, user="ann")


async def test_one_field_says_what_was_charged(wire: Wire) -> None:
    """And nothing else of the answer changes, but what is only true of its old bytes."""
    answer = await asked(wire, "POST /used", b'ETag: "a"', b"Content-MD5: x", b"X-Other: kept")
    assert answer.body == BODY.replace(b"400", b"1")
    assert answer.length == len(answer.body)
    assert answer.values(b"x-farebox-charged") == [b"1"]
    assert (answer.values(b"etag"), answer.values(b"content-md5"), answer.values(b"x-other")) == ([], [], [b"kept"])
    assert wire.backend.requests[-1].values(b"accept-encoding") == [b"identity"]
    await wire.settled_at(CHEAP)


async def test_one_field_says_what_is_left(wire: Wire) -> None:
    answer = await asked(wire, "POST /left")
    assert answer.body == BODY.replace(b"-7.50", b"99")
    assert answer.values(b"x-farebox-credits-remaining") == [b"99"]


async def test_one_field_says_what_is_reserved_for_a_job(wire: Wire) -> None:
    body = json.dumps({"id": f"j{wire.number}", "credits": 2500}).encode()
    answer = await asked(wire, "POST /jobs", body=body)
    assert json.loads(answer.body) == {"id": f"j{wire.number}", "credits": 10}
    wire.may_stay_open = 1


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"credit": 5}',
        b'{"credit": {"used": null}}',
        b'{"credit": {"used": [400]}}',
        b'{"credit": {"used": 1, "used": 2}}',
        b'{"credit": {"used": 1}',
        b"[]",
        b"",
        b"\xff",
    ],
)
async def test_an_answer_without_the_field_passes_as_it_is(wire: Wire, body: bytes) -> None:
    """Also one that is ambiguous, or no JSON at all."""
    assert (await asked(wire, "POST /used", b'ETag: "a"', body=body)).body == body


async def test_what_cannot_be_changed_passes_as_it_is(wire: Wire) -> None:
    """Compressed against what was asked for, of another type, without a length, to HEAD, or an error."""
    zipped = gzip.compress(BODY)
    assert (await asked(wire, "POST /used", b"Content-Encoding: gzip", body=zipped)).body == zipped
    wire.backend.script = answering(json_answer(BODY).replace(b"application/json", b"text/plain"))
    assert (await wire.ask("POST /used", user="ann")).body == BODY
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    wire.backend.script = answering(head + chunked(BODY))
    assert (await wire.ask("POST /used", user="ann")).body == BODY
    wire.backend.script = answering(json_answer(BODY))
    assert (await wire.ask("HEAD /left", user="ann")).length == len(BODY)
    wire.backend.script = answering(json_answer(BODY, status=b"400 Bad"))
    assert (await wire.ask("POST /used", user="ann")).body == BODY


async def test_by_default_answers_pass_as_they_are(wire: Wire) -> None:
    assert (await asked(wire, "POST /plain", b'ETag: "a"')).body == BODY


async def test_what_was_changed_is_not_repeated_unchanged(wire: Wire) -> None:
    """An answer that would tell of the backend's own billing is not kept for an idempotency key."""
    wire.backend.script = answering(json_answer(BODY))
    key = "Idempotency-Key: k"
    assert (await wire.ask("POST /used", key, user="ann")).status == 200
    again = await wire.ask("POST /used", key, user="ann")
    assert (again.status, json.loads(again.body)["code"]) == (409, "idempotency_answered")
    assert len(wire.backend.requests) == 1

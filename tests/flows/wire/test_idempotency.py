"""`Idempotency-Key`: a request that is sent again is forwarded once and charged once, and gets the same answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import sqlalchemy as sa
from sqlalchemy import Connection

from proxy.errors import STATUS
from store.tables import users
from tests.flows.raw import EVENTS, Message, Visit, answering, chunk, chunked, event, json_answer
from tests.flows.wire.wire import CHEAP, SETTINGS, TOKEN, Wire, order, running_wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY = "Idempotency-Key: 4f3c0f0e-7a9d-4b0e-9d7c-6a4d6f7f2b11"
MORE = """
  - id: sized
    match: POST /sized
    upstream: raw
    app: shop
    model: {const: cheap}
    units: {tokens: {header: X-Tokens, max: 100}}
idempotency: {answer: 1KiB}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lasting_wire(migrated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Wire]:
    async with running_wire(migrated_file, tmp_path_factory.mktemp("once"), SETTINGS + MORE) as running:
        yield running
        await running.verify()


async def bought(wire: Wire, line: str = "POST /flat", *headers: str, body: bytes = b"", key: str = KEY) -> Message:
    return await wire.ask(line, key, *headers, body=body, user="ann")


def code(answer: Message) -> str:
    assert answer.status in STATUS.values()
    return str(json.loads(answer.body)["code"])


async def test_the_same_request_gets_the_same_answer(wire: Wire) -> None:
    """Status, reason, headers and body, once forwarded and once charged; and it says that it is a repetition."""
    headers = (b"X-Made-By: backend", b"Set-Cookie: a=1", b"Set-Cookie: b=2", b"ETag: W/x")
    wire.backend.script = answering(json_answer(b'{"id": 1}', *headers, status=b"201 Created"))
    one = await bought(wire)
    wire.backend.script = answering(json_answer(b'{"id": 2}'))
    again = await bought(wire)
    assert (again.status, again.body) == (201, b'{"id": 1}')
    ours = (b"x-request-id", b"idempotent-replayed", b"x-farebox-first-request")

    def theirs(answer: Message) -> list[tuple[bytes, bytes]]:
        return [(n, v) for n, v in answer.headers if n.lower() not in ours and not n.startswith(b"X-Farebox")]

    assert sorted(theirs(again)) == sorted(theirs(one))
    assert again.values(b"idempotent-replayed") == [b"true"]
    assert again.values(b"x-farebox-first-request") == one.values(b"x-request-id")
    assert again.values(b"x-farebox-charged") == [b"0"]
    assert again.values(b"x-request-id") != one.values(b"x-request-id")
    assert one.values(b"idempotent-replayed") == []
    assert len(wire.backend.requests) == 1
    await wire.settled_at(CHEAP)
    assert len(await wire.usage()) == 1


async def test_the_backend_gets_the_key_too(wire: Wire) -> None:
    """It may know what to do with it."""
    await bought(wire)
    assert wire.backend.requests[0].values(b"idempotency-key") == [KEY.partition(": ")[2].encode()]


async def test_ten_at_once_are_one(wire: Wire) -> None:
    """One is forwarded and charged; the others wait for it, and then get its answer."""
    go = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.body()
        await go.wait()
        await visit.send(json_answer(b'{"id": 1}'))

    wire.backend.script = script
    clients = [await wire.start("POST /buy", KEY, body=order(), user="ann") for _ in range(10)]
    answers = {asyncio.create_task(client.answer()) for client in clients}
    while len(answers) > 1:
        done, answers = await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
        for answer in done:
            assert code(answer.result()) == "idempotency_in_progress"
            assert answer.result().values(b"retry-after") == [b"1"]
    go.set()
    (one,) = answers
    assert (await one).body == b'{"id": 1}'
    again = await asyncio.gather(*(bought(wire, "POST /buy", body=order()) for _ in range(10)))
    assert {answer.body for answer in again} == {b'{"id": 1}'}
    assert len(wire.backend.requests) == 1
    assert len(await wire.usage()) == 1


@pytest.mark.parametrize(
    ("line", "headers", "body"),
    [
        ("POST /buy", (), order(max_tokens=6)),
        ("POST /buy", (), order("dear", max_tokens=5)),
        ("POST /buy", (), order(max_tokens=5) + b" "),
        ("POST /buy", ("Content-Type: application/json; charset=utf-8",), order(max_tokens=5)),
        ("POST /buy?x=1", (), order(max_tokens=5)),
        ("POST /buy-strictly", (), order(max_tokens=5)),
        ("POST /flat", (), order(max_tokens=5)),
    ],
)
async def test_another_request_with_the_same_key_is_refused(
    wire: Wire, line: str, headers: tuple[str, ...], body: bytes
) -> None:
    """Whatever differs of what the backend decides by; and nothing is forwarded, taken or forgotten."""
    await bought(wire, "POST /buy", body=order(max_tokens=5))
    spent = await wire.spent()
    other = await bought(wire, line, *headers, body=body)
    assert (other.status, code(other)) == (409, "idempotency_conflict")
    assert (await bought(wire, "POST /buy", body=order(max_tokens=5))).values(b"idempotent-replayed") == [b"true"]
    assert len(wire.backend.requests) == 1
    assert await wire.spent() == spent


async def test_a_key_counts_within_its_account(wire: Wire) -> None:
    """Two customers with one key are two requests; and other keys are other requests."""
    await bought(wire)
    assert (await wire.ask("POST /flat", KEY, user="bob")).values(b"idempotent-replayed") == []
    assert (await bought(wire, key=KEY + "x")).values(b"idempotent-replayed") == []
    assert (await wire.ask("POST /flat", user="ann")).values(b"idempotent-replayed") == []
    assert len(wire.backend.requests) == 4


@pytest.mark.parametrize(("line", "name"), [("POST /by-header", "X-Model"), ("POST /sized", "X-Tokens")])
async def test_what_a_header_asks_for_is_a_part_of_the_request(wire: Wire, line: str, name: str) -> None:
    """Another model or another amount is another request, though every byte of its body is the same."""
    one, other = ("cheap", "dear") if name == "X-Model" else ("5", "50")
    await bought(wire, line, f"{name}: {one}")
    answer = await bought(wire, line, f"{name}: {other}")
    assert (answer.status, code(answer)) == (409, "idempotency_conflict")
    assert (await bought(wire, line, f"{name}: {one}")).values(b"idempotent-replayed") == [b"true"]


async def test_another_user_of_the_account_does_not_get_the_answer(wire: Wire) -> None:
    """Who shares a balance does not share answers; nor is another method the same request."""
    await bought(wire)
    account, name = await wire.account(), wire.name("bob")

    def join(connection: Connection) -> None:
        connection.execute(sa.insert(users).values(id=name, account_id=account, created_at=wire.services.now()))

    await wire.services.store.database.write(join)
    for other in (await wire.ask("POST /flat", KEY, user="bob"), await bought(wire, "PUT /flat")):
        assert (other.status, code(other)) == (409, "idempotency_conflict")
    assert len(wire.backend.requests) == 1
    await wire.settled_at(CHEAP)


@pytest.mark.parametrize("key", ["", "a b", "ü", "x" * 256, "a\x7f"])
async def test_a_key_that_cannot_be_used_is_refused(wire: Wire, key: str) -> None:
    """And so are two keys."""
    for headers in ([f"Idempotency-Key: {key}"], [KEY, KEY]):
        answer = await wire.ask("POST /flat", *headers, user="ann")
        assert answer.status == 400
    assert wire.backend.requests == []
    assert await wire.spent() == 0


# What came to nothing runs again.


@pytest.mark.parametrize("fault", ["500", "404", "302", "reset", "silence", "cut"])
async def test_after_a_failure_the_key_is_free(wire: Wire, fault: str) -> None:
    """Nothing was charged, so the next try runs, and may be another request too."""

    async def script(visit: Visit) -> None:
        await visit.body()
        if fault == "reset":
            visit.reset()
        elif fault == "silence":
            await visit.gone()
        elif fault == "cut":
            await visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
            visit.reset()
        else:
            await visit.send(json_answer(b"{}", status=fault.encode() + b" Oops"))

    wire.backend.script = script
    assert (await bought(wire, "POST /quick-flat")).status in (500, 404, 302, 502, 504)
    await wire.settled_at(0)
    wire.backend.script = answering(json_answer(b'{"id": 2}'))
    assert (await bought(wire, "POST /quick-flat", body=b"x")).body == b'{"id": 2}'
    assert (await bought(wire, "POST /quick-flat", body=b"x")).values(b"idempotent-replayed") == [b"true"]
    await wire.settled_at(CHEAP)


async def test_after_a_refusal_the_key_is_free(wire: Wire) -> None:
    """No credits, no backend: neither has reserved anything in the end."""
    for number in range(10):
        await bought(wire, "POST /buy", body=order("dear"), key=f"Idempotency-Key: {number}")
    refused = [await bought(wire, "POST /buy", body=order("dear")) for _ in range(3)]
    assert [code(answer) for answer in refused] == ["insufficient_credits"] * 3
    await wire.ask("POST /flat", user="bob")
    assert [(await wire.ask("POST /paid-down", KEY, user="bob")).status for _ in range(3)] == [502] * 3
    assert (await wire.ask("POST /flat", KEY, user="bob")).status == 200


# What is lost on the way.


@pytest.mark.parametrize("moment", ["before the head", "within the body"])
async def test_who_lost_the_connection_finds_the_answer(wire: Wire, moment: str) -> None:
    """The call goes on without its client, who asks again: one call, one charge, and the answer."""
    go, over = asyncio.Event(), asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.body()
        if moment == "within the body":
            await visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        await go.wait()
        await visit.send(b"cd" if moment == "within the body" else b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd")
        over.set()

    wire.backend.script = script
    client = await wire.start("POST /flat", KEY, user="ann")
    await wire.backend.arrived.wait()
    client.leave()
    await asyncio.sleep(0.05)
    assert code(await bought(wire)) == "idempotency_in_progress"
    go.set()
    await over.wait()
    await wire.until(lambda: wire.open_count(0))

    async def found() -> bool:
        return (await bought(wire)).body == b"abcd"

    await wire.until(found)
    assert len(wire.backend.requests) == 1
    await wire.settled_at(CHEAP)


async def test_a_stream_that_was_cut_is_not_run_again(wire: Wire) -> None:
    """It was charged by what was delivered; who asks again is told so."""
    gone = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.body()
        await visit.send(EVENTS + chunk(event({"usage": {"tokens": 30}})))
        for _ in range(1000):
            if gone.is_set():
                await visit.send(chunk(event("more")))
            await asyncio.sleep(0.01)

    wire.backend.script = script
    client = await wire.start("POST /buy", KEY, body=order(max_tokens=40), user="ann")
    await client.head()
    await client.chunk()
    client.leave()
    gone.set()
    await wire.settled_at(30 * TOKEN)
    answer = await bought(wire, "POST /buy", body=order(max_tokens=40))
    assert (answer.status, code(answer)) == (409, "idempotency_answered")
    told = json.loads(answer.body)
    assert (told["outcome"], told["funding"], told["charged"], told["jobId"]) == ("settled", "credits", 3, None)
    assert len(wire.backend.requests) == 1


# What is kept.


@pytest.mark.parametrize("size", [1024, 1025, 100_000])
@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_an_answer_is_kept_up_to_a_bound(wire: Wire, size: int, framing: str) -> None:
    """One byte more, and who asks again is told what became of the call, which does not run again."""
    body = b"x" * size
    if framing == "length":
        wire.backend.script = answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + body)
    else:
        wire.backend.script = answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(body))
    assert (await bought(wire)).body == body
    again = await bought(wire)
    if size <= 1024:
        assert (again.status, again.body, again.length) == (200, body, size)
    else:
        assert (again.status, code(again)) == (409, "idempotency_answered")
    assert len(wire.backend.requests) == 1
    await wire.settled_at(CHEAP)


async def test_answers_without_a_body(wire: Wire) -> None:
    """204 is repeated as 204. The head alone that HEAD gets is not kept, and HEAD is not run again either."""
    wire.backend.script = answering(b"HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n")
    for _ in range(2):
        answer = await bought(wire)
        assert (answer.status, answer.values(b"x-a"), answer.values(b"content-length")) == (204, [b"b"], [])
    wire.backend.script = answering(json_answer(b"{}"))
    head = "Idempotency-Key: head"
    assert (await wire.ask("HEAD /flat", head, user="ann")).status == 200
    assert (await wire.ask("HEAD /flat", head, user="ann")).status == 409
    assert len(wire.backend.requests) == 2


@pytest.mark.parametrize("line", ["POST /flat", "POST /jobs"])
async def test_headers_of_any_bytes_are_kept(wire: Wire, line: str) -> None:
    """Backends name files in Latin-1: the bytes are repeated as they came, and nobody's purchase fails over them."""
    wire.backend.script = answering(json_answer(b'{"id": "latin"}', b"Content-Disposition: inline; filename=\xfc"))
    for replayed in ([], [b"true"]):
        answer = await bought(wire, line)
        assert (answer.status, answer.values(b"idempotent-replayed")) == (200, replayed)
        assert answer.values(b"content-disposition") == [b"inline; filename=\xfc"]
    assert await wire.spent() == CHEAP
    wire.may_stay_open = line.endswith("jobs")


async def test_the_acceptance_of_a_job_is_repeated_whatever_becomes_of_the_job(wire: Wire) -> None:
    """Who asks again gets the id of the job that there is, and no second job."""
    accepted = json.dumps({"id": f"job-{wire.number}"}).encode()
    wire.backend.script = answering(json_answer(accepted, status=b"202 Accepted"))
    for _ in range(2):
        assert (await bought(wire, "POST /jobs")).body == accepted
    wire.backend.script = answering(json_answer(b'{"status": "failed"}'))
    await wire.ask(f"GET /jobs/job-{wire.number}", user="ann")
    await wire.settled_at(0)
    assert (await bought(wire, "POST /jobs")).status == 202
    assert [visit.first.split()[0] for visit in wire.backend.requests] == [b"POST", b"GET"]


async def test_a_body_that_is_longer_than_what_is_read_ahead_cannot_have_a_key(wire: Wire) -> None:
    """Nobody could tell whether it is the same again. Without a key it streams through."""
    wire.backend.script = answering(json_answer(b"{}"))
    body = b"x" * (64 * 2**10 + 1)
    assert code(await bought(wire, body=body)) == "request_too_large"
    in_chunks = ("Transfer-Encoding: chunked",)
    assert (await bought(wire, "POST /flat", *in_chunks, body=chunked(body))).status == 413
    assert (await bought(wire, body=body[:-1])).status == 200
    assert (await wire.ask("POST /flat", body=body, user="ann")).status == 200


async def test_a_compressed_body_may_have_a_key(wire: Wire) -> None:
    """Where nothing is read from it, its bytes are compared as they are."""
    gzipped = ("Content-Encoding: gzip",)
    assert (await bought(wire, "POST /flat", *gzipped, body=b"\x1f\x8bone")).status == 200
    assert (await bought(wire, "POST /flat", *gzipped, body=b"\x1f\x8bone")).values(b"idempotent-replayed") == [b"true"]
    assert (await bought(wire, "POST /flat", *gzipped, body=b"\x1f\x8btwo")).status == 409


async def test_routes_that_cost_nothing_leave_the_key_to_the_backend(wire: Wire) -> None:
    """It is none of Farebox's business there."""
    for path in ("/open/x", "/mine/x"):
        for _ in range(2):
            assert (await wire.ask(f"POST {path}", KEY, user="ann")).status == 200
    assert len(wire.backend.requests) == 4


async def test_nobody_learns_by_a_key(wire: Wire) -> None:
    """Who is not identified is refused before the key is looked at."""
    await bought(wire)
    answer = await wire.ask("POST /flat", KEY)
    assert answer.status == 401

"""Jobs that end later, for clients that went away: the backend calls, Farebox asks, and whoever is first ends a job."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
import pytest_asyncio

from config.clock import utc_now
from jobs.turns import Turn
from jobs.watch_jobs import watch_jobs
from proxy.asking import asking
from store.opening import open_store
from tests.flows.house import SECRET
from tests.flows.raw import Message, Script, Visit, answering, json_answer
from tests.flows.wire.wire import CHEAP, Wire, running_wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

SETTINGS = """
identity: {jwt: [{name: app, algorithms: [HS256], secret: "${JWT_SECRET}", user: userId, issuer: shop, audience: app}]}
upstreams: {raw: {url: "${BACKEND_URL}", response_timeout: 2s, idle_timeout: 2s}}
callbacks: {url: "http://farebox.internal:1234/", secret: "${JWT_SECRET}"}
routes:
  - id: start
    match: POST /jobs
    upstream: raw
    app: shop
    model: {const: dear}
    job:
      id: {json: /id}
      deadline: 1h
      watch: {route: job, first: 10s, longest: 1m, headers: {X-Service: farebox}, issuer: app}
      callback: {id: {json: /id}, status: {json: /status}, completed: done, failed: failed}
  - id: job
    match: "GET /jobs/{id}"
    upstream: raw
    access: account
    poll: {of: start, id: {path: id}, status: {json: /status}, completed: done, failed: failed}
  - id: start-listed
    match: "POST /projects/{project}/jobs"
    upstream: raw
    app: shop
    model: {const: dear}
    job:
      id: {json: /job/id}
      deadline: 1h
      watch: {route: listed, parameters: {project: {json: /job/project}}, headers: {Authorization: Basic c2VydmljZQ==}}
  - id: listed
    match: "GET /projects/{project}/jobs"
    upstream: raw
    access: account
    poll:
      of: start-listed
      items: {json: /jobs}
      id: {json: /id}
      status: {json: /status}
      completed: [done, some]
      failed: failed
      part: {done: {json: /good}, of: {json: /all}}
  - id: start-batch
    match: POST /batches
    upstream: raw
    app: shop
    model: {const: dear}
    job: {id: {json: /id}, deadline: 1h, callback: {status: {json: /status}, completed: done, failed: failed}}
  - id: batch
    match: "GET /batches/{id}"
    upstream: raw
    access: account
    poll:
      of: start-batch
      id: {path: id}
      status: {json: /status}
      completed: [done, partial]
      failed: failed
      part: {items: {json: /items}, status: {json: /state}, completed: [ok, fine]}
"""

DEAR = 10 * CHEAP


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lasting_wire(migrated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Wire]:
    async with running_wire(migrated_file, tmp_path_factory.mktemp("later"), SETTINGS) as running:
        running.claims.update(iss="shop", aud="app")
        yield running
        await running.verify()


def saying(document: Any, status: bytes = b"200 OK") -> Script:
    return answering(json_answer(json.dumps(document).encode(), status=status))


def named(wire: Wire, job: str = "j") -> str:
    """An id that no other test uses."""
    return f"{job}-{wire.number}"


async def started(wire: Wire, path: str = "/jobs", job: str = "j") -> None:
    await accepted(wire, path, {"id": named(wire, job)})


async def started_in(wire: Wire, project: object) -> None:
    await accepted(wire, "/projects/p/jobs", {"job": {"id": named(wire), "project": project}})


async def accepted(wire: Wire, path: str, document: object) -> None:
    wire.backend.script = saying(document)
    answer = await wire.ask(f"POST {path}", user="ann")
    assert answer.values(b"x-farebox-reserved") == [b"10"]


async def given_up(wire: Wire) -> None:
    """Nobody asks for this test's jobs any more."""
    for hold in await wire.open_holds():
        await wire.services.store.ledger.release(hold["id"], hold["account_id"], "given up")


def address(wire: Wire, at: int = -1) -> str:
    """Where the backend was told to call about a request, as a path."""
    (value,) = wire.backend.requests[at].values(b"x-farebox-callback")
    assert value.startswith(b"http://farebox.internal:1234/callbacks/")
    return value.decode().removeprefix("http://farebox.internal:1234")


async def called(wire: Wire, path: str, document: Any, *headers: str) -> Message:
    return await wire.ask(
        f"POST {path}", "Content-Type: application/json", *headers, body=json.dumps(document).encode()
    )


async def asked(wire: Wire, after: timedelta = timedelta(minutes=2)) -> Mapping[str, int]:
    """A turn of the scheduler, so much later."""

    def later() -> Any:
        return utc_now() + after

    settings = wire.services.settings
    async with open_store(settings.database_url, later) as store, asking(settings, store, utc_now) as ask:
        turn = Turn(store, later, asyncio.Event(), "watch_jobs", "the test")
        assert await turn.begin()
        counts = await watch_jobs(store, turn, ask)
        await turn.end(True)
    return counts


# The backend calls.


@pytest.mark.parametrize(("state", "spent"), [("done", DEAR), ("failed", 0)])
async def test_a_callback_ends_its_job_once(wire: Wire, state: str, spent: int) -> None:
    """The first end that is told is the end; what is repeated or contradicted later changes nothing."""
    await started(wire)
    path = address(wire)
    assert (await called(wire, path, {"status": "running"})).body == b'{"job": "open"}'
    assert await wire.spent() == DEAR
    for told in (state, state, "done", "failed"):
        assert (await called(wire, path, {"status": told})).status == 200
        await wire.settled_at(spent)
    assert len(await wire.usage()) == (1 if spent else 0)


async def test_a_callback_that_is_faster_than_the_acceptance_counts(wire: Wire) -> None:
    """The address is good from the moment the backend has it, and the acceptance then tells what became of it."""

    async def script(visit: Visit) -> None:
        await visit.body()
        assert (await called(wire, address(wire), {"status": "failed"})).status == 200
        await visit.send(json_answer(json.dumps({"id": named(wire)}).encode()))

    wire.backend.script = script
    answer = await wire.ask("POST /jobs", user="ann")
    assert (answer.status, answer.values(b"x-farebox-charged")) == (200, [b"0"])
    await wire.settled_at(0)


async def test_a_job_that_ended_before_its_acceptance_is_its_accounts(wire: Wire) -> None:
    """Others get 404 for it, and its owner the acceptance again, by the key of the request that was sent again."""

    async def script(visit: Visit) -> None:
        await visit.body()
        assert (await called(wire, address(wire), {"status": "done"})).status == 200
        await visit.send(json_answer(json.dumps({"id": named(wire)}).encode()))

    wire.backend.script = script
    for replayed in ([], [b"true"]):
        answer = await wire.ask("POST /jobs", "Idempotency-Key: once", user="ann")
        assert (answer.status, answer.values(b"idempotent-replayed")) == (200, replayed)
    wire.backend.script = saying({"status": "done", "result": "private"})
    assert (await wire.ask(f"GET /jobs/{named(wire)}", user="bob")).status == 404
    assert (await wire.ask(f"GET /jobs/{named(wire)}", user="ann")).status == 200
    await wire.settled_at(DEAR)
    assert len(await wire.usage()) == 1


async def test_an_address_is_for_one_job(wire: Wire) -> None:
    """Another job's, another route's, a changed, cut or lengthened one: there is no such address."""
    await started(wire)
    path = address(wire)
    await started(wire, "/batches")
    batch = address(wire)
    token, other = path.rpartition("/")[2], batch.rpartition("/")[2]
    tokens = [other, token[:-1], token + "0", token.upper(), token.swapcase(), token.partition(".")[0], "." + token]
    tokens += [token.partition(".")[0] + "." + other.partition(".")[2], "x", "%00", "a.b.c", token + "%0a"]
    for wrong in tokens:
        answer = await called(wire, f"/callbacks/start/{wrong}", {"status": "failed"})
        assert answer.status in (400, 404), wrong
    for wrong in (f"/callbacks/start-batch/{token}", f"/callbacks/nothing/{token}", f"{path}/x", path + "/"):
        assert (await called(wire, wrong, {"status": "failed"})).status in (400, 404)
    assert (await wire.ask(f"GET {path}")).status == 404
    assert await wire.spent() == 2 * DEAR
    await given_up(wire)


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"status": "failed", "status": "done"}', b"[]", b"null", b'{"status": ["failed"]}', b"\xff"]
)
async def test_a_callback_that_cannot_be_read_ends_nothing(wire: Wire, body: bytes) -> None:
    """Broken, ambiguous and odd bodies, and one that says that it is no JSON."""
    await started(wire)
    path = address(wire)
    answer = await wire.ask(f"POST {path}", "Content-Type: application/json", f"Content-Length: {len(body)}", body=body)
    assert answer.status in (200, 400)
    assert (await wire.ask(f"POST {path}", "Content-Type: text/plain", body=b'{"status": "failed"}')).status == 400
    assert await wire.spent() == DEAR
    await given_up(wire)


async def test_one_address_for_all_jobs_needs_the_secret(wire: Wire) -> None:
    """Without it nothing is told about jobs; with it the body names the job. A route without `id` has none."""
    await started(wire)
    document = {"id": named(wire), "status": "failed"}
    for headers in ([], ["Authorization: Bearer x"], ["Authorization: Basic x"], [wire.bearer()]):
        assert (await called(wire, "/callbacks/start", document, *headers)).status == 401
    proof = f"Authorization: Bearer {SECRET}"
    assert (await called(wire, "/callbacks/start", document, proof, proof)).status == 401
    assert (await called(wire, "/callbacks/start", {**document, "id": "another"}, proof)).status == 404
    assert (await called(wire, "/callbacks/start-batch", document, proof)).status == 404
    assert await wire.spent() == DEAR
    assert (await called(wire, "/callbacks/start", document, proof)).status == 200
    await wire.settled_at(0)


async def test_a_client_cannot_name_the_address(wire: Wire) -> None:
    """What a client sends under that name is not what the backend gets; other routes send none."""
    wire.backend.script = saying({"id": named(wire)})
    await wire.ask("POST /jobs", "X-Farebox-Callback: http://evil.example", user="ann")
    assert b"evil" not in b"".join(wire.backend.requests[-1].values(b"x-farebox-callback"))
    await wire.ask(f"GET /jobs/{named(wire)}", "X_Farebox_Callback: http://evil.example", user="ann")
    assert not any(b"allback" in name for name, _ in wire.backend.requests[-1].headers)
    await given_up(wire)


# Farebox asks.


async def test_farebox_asks_for_a_job_that_nobody_polls(wire: Wire) -> None:
    """With the path of the poll route, a token for the user who started the job, and the headers of the settings."""
    await started(wire)
    wire.backend.script = saying({"status": "done"})
    assert await asked(wire) == {"asked": 1, "unanswered": 0}
    await wire.settled_at(DEAR)
    question = wire.backend.requests[-1]
    assert question.first == f"GET /jobs/{named(wire)} HTTP/1.1".encode()
    assert question.values(b"x-service") == [b"farebox"]
    assert question.values(b"x-farebox-user") == [wire.name("ann").encode()]
    (credential,) = question.values(b"authorization")
    claims = jwt.decode(credential.removeprefix(b"Bearer "), SECRET, ["HS256"], audience="app", issuer="shop")
    assert claims["userId"] == wire.name("ann")
    assert await asked(wire) == {"asked": 0, "unanswered": 0}


async def test_questions_come_less_and_less_often(wire: Wire) -> None:
    """Each wait is twice the one before, up to `longest`; nobody is asked before a wait is over."""
    await started(wire)
    wire.backend.script = saying({"status": "running"})
    asked_at = [second for second in range(10, 300, 10) if (await asked(wire, timedelta(seconds=second)))["asked"]]
    waits = [later - earlier for earlier, later in zip([0, *asked_at], asked_at, strict=False)]
    assert waits[0] in (10, 20)
    assert waits == sorted(waits)
    assert waits[-1] in (60, 70)
    assert len(waits) <= 8
    await given_up(wire)


async def test_a_last_question_comes_before_the_deadline(wire: Wire) -> None:
    """However long the wait is by then; after the deadline nobody is asked any more."""
    await started_in(wire, "p")
    wire.backend.script = saying({"jobs": []})
    for minutes in (1, 3, 7, 15, 25, 35, 45, 55):
        assert (await asked(wire, timedelta(minutes=minutes)))["asked"] == 1
    assert (await asked(wire, timedelta(minutes=58)))["asked"] == 0
    wire.backend.script = saying({"jobs": [{"id": named(wire), "status": "failed"}]})
    assert (await asked(wire, timedelta(minutes=59, seconds=45)))["asked"] == 1
    await wire.settled_at(0)


@pytest.mark.parametrize("fault", ["500", "404", "reset", "silence", "text", "long"])
async def test_a_question_without_an_answer_is_asked_again(wire: Wire, fault: str) -> None:
    """Whatever goes wrong says nothing of the job, and other jobs are asked for all the same."""
    await started(wire, job="good")
    await started(wire, job="bad")

    async def script(visit: Visit) -> None:
        await visit.body()
        if b"/bad" not in visit.request.first:
            await visit.send(json_answer(b'{"status": "done"}'))
        elif fault in ("500", "404"):
            await visit.send(json_answer(b'{"status": "failed"}', status=fault.encode() + b" Oops"))
        elif fault == "reset":
            visit.reset()
        elif fault == "silence":
            await visit.gone()
        elif fault == "text":
            await visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n" + b'{"status": "done"}')
        else:
            await visit.send(json_answer(b'{"status": "failed", "x": "' + b"x" * 2**20 + b'"}'))

    wire.backend.script = script
    assert await asked(wire) == {"asked": 2, "unanswered": 1}
    assert [hold["job_id"] for hold in await wire.open_holds()] == [named(wire, "bad")]
    wire.backend.script = saying({"status": "failed"})
    assert await asked(wire, timedelta(minutes=10)) == {"asked": 1, "unanswered": 0}
    await wire.settled_at(DEAR)


@pytest.mark.parametrize(("project", "path"), [("p 1", "p%201"), ("a/b", "a%2Fb"), ("ü", "%C3%BC"), (7, "7")])
async def test_the_path_of_a_question_has_what_the_acceptance_named(wire: Wire, project: object, path: str) -> None:
    """Encoded to one segment, whatever it is."""
    await started_in(wire, project)
    wire.backend.script = saying({"jobs": [{"id": "other", "status": "done"}, {"id": named(wire), "status": "failed"}]})
    assert (await asked(wire))["asked"] == 1
    assert wire.backend.requests[-1].first == f"GET /projects/{path}/jobs HTTP/1.1".encode()
    await wire.settled_at(0)


@pytest.mark.parametrize("project", [None, "..", ".", "", True, ["p"], "x" * 201])
async def test_a_job_that_cannot_be_asked_for_has_its_other_ends(wire: Wire, project: object) -> None:
    """Where the acceptance does not name what the path needs, the client's poll still ends the job."""
    await started_in(wire, project)
    assert (await asked(wire))["asked"] == 0
    wire.backend.script = saying({"jobs": [{"id": named(wire), "status": "failed"}]})
    await wire.ask("GET /projects/p/jobs", user="ann")
    await wire.settled_at(0)


# Parts.


@pytest.mark.parametrize(
    ("item", "spent"),
    [
        ({"status": "some", "good": 3, "all": 4}, 7_500_000),
        ({"status": "done", "good": 4, "all": 4}, DEAR),
        ({"status": "done", "good": 1, "all": 3}, 3_333_334),
        ({"status": "some", "good": 0, "all": 3}, 0),
        ({"status": "failed", "good": 3, "all": 3}, 0),
        ({"status": "done", "good": 5, "all": 4}, DEAR),
        ({"status": "done", "good": -1, "all": 4}, DEAR),
        ({"status": "done", "good": 0, "all": 0}, DEAR),
        ({"status": "done", "good": "3", "all": 4}, DEAR),
        ({"status": "done", "good": True, "all": 4}, DEAR),
        ({"status": "done", "good": 1.5, "all": 4}, DEAR),
        ({"status": "done", "good": 10**400, "all": 10**401}, DEAR),
        ({"status": "done"}, DEAR),
    ],
)
async def test_a_part_of_a_job_costs_its_share(wire: Wire, item: Any, spent: int) -> None:
    """Rounded up; none is free; what is no share is charged in full and said to be an estimate."""
    await started_in(wire, "p")
    wire.backend.script = saying({"jobs": [{"id": named(wire), **item}]})
    await wire.ask("GET /projects/p/jobs", user="ann")
    await wire.settled_at(spent)
    estimated = [row["estimated"] for row in await wire.usage()]
    is_share = type(item.get("good")) is int and item["good"] in (1, 3, 4)
    assert estimated == ([] if spent == 0 else [not is_share])


@pytest.mark.parametrize(
    ("items", "spent"),
    [
        ([{"state": "ok"}, {"state": "fine"}, {"state": "failed"}, {"state": "ok"}], 7_500_000),
        ([{"state": "ok"}], DEAR),
        ([{"state": "failed"}, {}, None, 5, []], 0),
        ([], DEAR),
        ({}, DEAR),
        (None, DEAR),
    ],
)
async def test_the_items_of_a_job_are_counted(wire: Wire, items: Any, spent: int) -> None:
    """Where a status lists its items, those that were done are charged."""
    await started(wire, "/batches")
    wire.backend.script = saying({"status": "partial", "items": items})
    await wire.ask(f"GET /batches/{named(wire)}", user="ann")
    await wire.settled_at(spent)


# All at once.


async def test_whoever_sees_the_end_first_ends_it(wire: Wire) -> None:
    """Polls, callbacks of both kinds, questions, the deadline: at the same moment, and one of them charges, once."""
    await started(wire)
    path, proof = address(wire), f"Authorization: Bearer {SECRET}"
    wire.backend.script = saying({"status": "done"})
    ledger = wire.services.store.ledger
    await asyncio.gather(
        *(wire.ask(f"GET /jobs/{named(wire)}", user="ann") for _ in range(5)),
        *(called(wire, path, {"status": "done"}) for _ in range(5)),
        *(called(wire, "/callbacks/start", {"id": named(wire), "status": "done"}, proof) for _ in range(5)),
        asked(wire),
        *(ledger.expire_overdue(utc_now() + timedelta(hours=2)) for _ in range(3)),
    )
    await wire.settled_at(DEAR)
    assert [row["charged"] for row in await wire.usage()] == [DEAR]


async def test_ends_that_disagree_are_one_end(wire: Wire) -> None:
    """Some say done, some say failed: charged once or not at all, and it stays."""
    await started(wire)
    path = address(wire)
    wire.backend.script = saying({"status": "failed"})
    await asyncio.gather(
        *(wire.ask(f"GET /jobs/{named(wire)}", user="ann") for _ in range(5)),
        *(called(wire, path, {"status": "done"}) for _ in range(5)),
        asked(wire),
    )
    await wire.until(lambda: wire.open_count(0))
    spent = await wire.spent()
    assert spent in (0, DEAR)
    assert sum(row["charged"] for row in await wire.usage()) == spent

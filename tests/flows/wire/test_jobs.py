"""Jobs that end later: paid once, by whoever started them, whatever polls say and whoever asks."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import pytest

from tests.flows.raw import Message, Script, Visit, answering, chunk, json_answer
from tests.flows.wire.frames import ASKING
from tests.flows.wire.wire import CHEAP, Wire

pytestmark = pytest.mark.asyncio(loop_scope="module")


def saying(document: Any, *headers: bytes, status: bytes = b"200 OK") -> Script:
    return answering(json_answer(json.dumps(document).encode(), *headers, status=status))


async def started(wire: Wire, job: Any = "j1", user: str = "ann") -> Message:
    """A job of the user, with an id that no other test uses."""
    wire.backend.script = saying({"id": named(wire, job)})
    return await wire.ask("POST /jobs", user=user)


def named(wire: Wire, job: Any) -> Any:
    return f"{job}-{wire.number}" if isinstance(job, str) else job


async def polled(wire: Wire, script: Script, job: str = "j1", user: str = "ann", method: str = "GET") -> Message:
    wire.backend.script = script
    return await wire.ask(f"{method} /jobs/{named(wire, job)}", user=user)


async def test_a_job_is_held_until_its_end_is_seen(wire: Wire) -> None:
    """Reserved by its acceptance, untouched by polls that say it runs, charged by the one that says it is done."""
    accepted = await started(wire)
    assert accepted.values(b"x-farebox-reserved") == [b"1"]
    for state in ("queued", "running", "DONE", "", "failed?", None, 5, True, ["done"], {"done": 1}):
        assert (await polled(wire, saying({"status": state}))).status == 200
    assert [hold["job_id"] for hold in await wire.open_holds()] == [named(wire, "j1")]
    await polled(wire, saying({"status": "done"}))
    await wire.settled_at(CHEAP)
    await polled(wire, saying({"status": "failed"}))
    await wire.settled_at(CHEAP)
    assert len(await wire.usage()) == 1


async def test_a_failed_job_is_free_and_stays_free(wire: Wire) -> None:
    """The first end that is seen is the end."""
    await started(wire)
    await polled(wire, saying({"status": "failed"}))
    await wire.settled_at(0)
    await polled(wire, saying({"status": "done"}))
    await wire.settled_at(0)


async def test_an_end_that_many_see_at_once_is_one_end(wire: Wire) -> None:
    """Twenty polls at the same moment charge once."""
    await started(wire)
    wire.backend.script = saying({"status": "done"})
    await asyncio.gather(*(wire.ask(f"GET /jobs/{named(wire, 'j1')}", user="ann") for _ in range(20)))
    await wire.settled_at(CHEAP)
    assert len(await wire.usage()) == 1


@pytest.mark.parametrize("status", [b"206 Partial", b"304 Not", b"400 Bad", b"404 Gone", b"500 Oops", b"503 Busy"])
async def test_a_poll_that_failed_says_nothing_of_the_job(wire: Wire, status: bytes) -> None:
    """An error that calls itself failed, and a part that the client has cut out, end no job."""
    await started(wire)
    await polled(wire, saying({"status": "failed"}, status=status))
    assert len(await wire.open_holds()) == 1
    await polled(wire, saying({"status": "done"}))
    await wire.settled_at(CHEAP)


async def test_polls_in_every_framing(wire: Wire) -> None:
    """An end is seen in chunks and in gzip as well, and before its poll is answered where it is short."""
    body = json.dumps({"status": "done"}).encode()
    in_chunks = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    in_chunks += b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    zipped = json_answer(gzip.compress(body), b"Content-Encoding: gzip")
    for number, answer in enumerate((in_chunks, zipped, json_answer(body)), start=1):
        await started(wire, f"j{number}")
        await polled(wire, answering(answer), f"j{number}")
        await wire.settled_at(number * CHEAP)


async def test_what_is_no_answer_about_a_job_ends_none(wire: Wire) -> None:
    """HEAD, another content type, broken JSON, ambiguous JSON, and far too much of it."""
    await started(wire)
    done = b'{"status": "done"}'
    await polled(wire, saying({"status": "done"}), method="HEAD")
    for answer in (
        json_answer(done).replace(b"application/json", b"text/plain"),
        json_answer(done[:-1]),
        json_answer(b'{"status": "done", "status": "failed"}'),
        json_answer(b'{"status": "failed", "Status": "done"}'),
        json_answer(b'{"status": "failed", "x": "' + b"x" * 2**20 + b'"}'),
        json_answer(b"[" * 50_000),
        json_answer(gzip.compress(done), b"Content-Encoding: br"),
    ):
        await polled(wire, answering(answer))
    assert len(await wire.open_holds()) == 1
    wire.may_stay_open = 1


# Whose job it is.


async def test_another_accounts_job_does_not_exist(wire: Wire) -> None:
    """404 for others, in any encoding of its id, and the backend is not asked."""
    await started(wire)
    before = len(wire.backend.requests)
    for path in (f"/jobs/{named(wire, 'j1')}", f"/jobs/%6A1-{wire.number}", f"/jobs/{named(wire, 'j1')}?x=1"):
        assert (await wire.ask(f"GET {path}", user="bob")).status == 404
    assert len(wire.backend.requests) == before
    assert (await wire.ask(f"GET /jobs/%6A1-{wire.number}", user="ann")).status == 200
    wire.may_stay_open = 1


async def test_who_leaves_before_the_end_of_an_answer_has_seen_the_job_end(wire: Wire) -> None:
    """A long answer goes out as it comes in: all but its last bytes would be the result of a job for nothing."""
    await started(wire)
    left = asyncio.Event()

    async def long(visit: Visit) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        await visit.send(head + chunk(b'{"status": "done", "result": "' + b"x" * 100_000))
        await left.wait()
        await visit.send(chunk(b'"}') + chunk(b""))

    wire.backend.script = long
    others = len(wire.clients)
    client = await wire.start(f"GET /jobs/{named(wire, 'j1')}", user="ann")
    assert (await client.head()).status == 200
    assert b"x" in await client.chunk()
    client.leave()
    await wire.until(lambda: len(wire.clients) == others)
    left.set()
    await wire.settled_at(CHEAP)


async def test_to_ask_for_a_websocket_is_no_way_to_a_job(wire: Wire) -> None:
    """A backend that knows none there answers as ever: others would see the job, and its owner its end for nothing."""
    await started(wire)
    asked = f"GET /jobs/{named(wire, 'j1')}"
    wire.backend.reset()
    wire.backend.script = saying({"status": "done"})
    assert (await wire.ask(asked, *ASKING, user="bob")).status == 404
    assert wire.backend.requests == []
    assert (await wire.ask(asked, *ASKING, user="ann")).status == 200
    assert wire.backend.requests[-1].values(b"upgrade") == []
    await wire.settled_at(CHEAP)


UUID = "7b0e4f3c-0000-4000-8000-00000000{number:04}"
BARE = UUID.replace("-", "")


@pytest.mark.parametrize(
    ("job", "spelling"),
    [
        (UUID, UUID.upper().replace("NUMBER", "number")),
        (UUID, BARE),
        (UUID, "%7B" + UUID + "%7D"),
        (UUID, "urn:uuid:" + UUID),
        (BARE, UUID),
        ("job-{number}", "JOB-{number}"),
        ("job-{number}", "job-{number};x=1"),
        ("job-{number}", "job-{number}%20"),
        ("job-{number}", "%20job-{number}"),
        ("job-{number}", "job-{number}."),
        ("job-{number}", "%256Aob-{number}"),
        ("70{number}", "070{number}"),
        ("70{number}", "%2B70{number}"),
        ("70{number}", "70{number}.0"),
        ("70{number}", "7_0{number}"),
        ("70{number}", "70{number}abc"),
        ("70{number}", "70{number}0e-1"),
        ("70{number}", "%EF%BC%970{number}"),
        ("70{number}", "%D9%A70{number}"),
        ("{number}", "{number:#x}"),
        ("job-{number}", "j%C3%B3b-{number}"),
        ("job-{number}", "job-{number}.json"),
        ("job.{number}", "job.{number}.json"),
        ("job-{number}", "job-{number}:result"),
        (UUID, UUID + ".json"),
    ],
)
async def test_another_spelling_of_a_job_is_no_way_to_it(wire: Wire, job: str, spelling: str) -> None:
    """Backends parse, trim and fold ids: others would see the job, and its owner its end, which then nobody paid."""
    job, spelling = job.format(number=wire.number), spelling.format(number=wire.number)
    wire.backend.script = saying({"id": job})
    await wire.ask("POST /jobs", user="ann")
    wire.backend.reset()
    wire.backend.script = saying({"status": "done"})
    for user in ("bob", "ann"):
        assert (await wire.ask(f"GET /jobs/{spelling}", user=user)).status == 404
    assert wire.backend.requests == []
    assert (await wire.ask(f"GET /jobs/{job}", user="ann")).status == 200
    await wire.settled_at(CHEAP)


async def test_jobs_whose_ids_are_alike_are_jobs_of_their_own(wire: Wire) -> None:
    """Where a backend has both, each is its account's; an id that is like none is the backend's to know."""
    await started(wire, "twin", "ann")
    await started(wire, "TWIN", "bob")
    for job, user, status in (("twin", "ann", 200), ("TWIN", "bob", 200), ("TWIN", "ann", 404), ("twin", "bob", 404)):
        assert (await polled(wire, saying({"status": "running"}), job, user)).status == status
    assert (await polled(wire, saying({"status": "running"}), "older", "bob")).status == 200
    wire.may_stay_open = 2


async def test_another_accounts_poll_ends_no_job(wire: Wire) -> None:
    """Also where a list names it: each account ends its own jobs only."""
    await started(wire, "j1", "ann")
    await started(wire, "j2", "bob")
    both = {"jobs": [{"id": named(wire, "j1"), "status": "failed"}, {"id": named(wire, "j2"), "status": "done"}]}
    wire.backend.script = saying(both)
    await wire.ask("GET /jobs", user="bob")
    assert (await wire.spent("ann"), await wire.spent("bob")) == (CHEAP, CHEAP)
    assert [hold["user_id"] for hold in await wire.open_holds()] == [wire.name("ann")]
    await wire.ask("GET /jobs", user="cid")
    await wire.ask("GET /jobs", user="ann")
    assert (await wire.spent("ann"), await wire.spent("bob")) == (0, CHEAP)


@pytest.mark.parametrize(
    "jobs",
    [
        None,
        5,
        {},
        [],
        ["{job}"],
        [None, 5, [], {}],
        [{"id": "{job}"}],
        [{"status": "done"}],
        [{"id": "other", "status": "done"}],
        [{"id": ["{job}"], "status": "done"}],
        [{"id": "{job}", "ID": "x", "status": "done"}],
        [{"id": "x" * 10_000, "status": "done"}] * 5,
        [{"id": str(number), "status": "done"} for number in range(5000)] + [{"id": "{job}", "status": "done"}],
    ],
)
async def test_odd_lists_end_no_job(wire: Wire, jobs: Any) -> None:
    """Whatever a list looks like, it is passed on; beyond a bound it is not read."""
    await started(wire)
    document = json.dumps({"jobs": jobs}).replace("{job}", named(wire, "j1")).encode()
    wire.backend.script = answering(json_answer(document))
    answer = await wire.ask("GET /jobs", user="ann")
    assert (answer.status, answer.body) == (200, document)
    assert len(await wire.open_holds()) == 1
    wire.may_stay_open = 1


@pytest.mark.parametrize("states", [["failed", "done"], ["done", "failed"], ["failed", "done", "failed", "running"]])
async def test_a_job_that_is_listed_with_each_attempt_is_paid(wire: Wire, states: list[str]) -> None:
    """Whichever attempt comes last in the list, the one that was done is what the client has got."""
    await started(wire)
    wire.backend.script = saying({"jobs": [{"id": named(wire, "j1"), "status": state} for state in states]})
    await wire.ask("GET /jobs", user="ann")
    await wire.settled_at(CHEAP)


# What was accepted.


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        "j",
        None,
        {"id": None},
        {"id": ""},
        {"id": True},
        {"id": 1.5},
        {"id": ["j"]},
        {"id": {"j": 1}},
        {"id": "x" * 201},
        {"id": "a\x00b"},
        {"id": "\ud800"},
        {"job": {"id": "j"}},
    ],
)
async def test_an_acceptance_without_an_id_is_charged(wire: Wire, document: Any) -> None:
    """There is nothing to wait for, so the quote is the price; and nothing fails over an odd id."""
    wire.backend.script = saying(document)
    answer = await wire.ask("POST /jobs", user="ann")
    assert (answer.status, answer.values(b"x-farebox-charged")) == (200, [b"1"])
    await wire.settled_at(CHEAP)


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", json_answer(b'{"id": "j", "id": "k"}'), json_answer(b"{")],
)
async def test_an_acceptance_that_cannot_be_read_is_charged(wire: Wire, answer: bytes) -> None:
    wire.backend.script = answering(answer)
    await wire.ask("POST /jobs", user="ann")
    await wire.settled_at(CHEAP)


async def test_a_number_is_an_id(wire: Wire) -> None:
    """Backends count as well; the path has the same digits."""
    number = 900_000 + wire.number
    await started(wire, number)
    wire.backend.script = saying({"status": "failed"})
    await wire.ask(f"GET /jobs/{number}", user="ann")
    await wire.settled_at(0)


@pytest.mark.parametrize("status", [b"400 Bad", b"409 Conflict", b"500 Oops", b"303 See Other"])
async def test_a_job_that_was_not_accepted_is_free(wire: Wire, status: bytes) -> None:
    """An error with an id in it starts nothing."""
    wire.backend.script = saying({"id": named(wire, "j1")}, status=status)
    await wire.ask("POST /jobs", user="ann")
    await wire.settled_at(0)


async def test_a_job_is_paid_once(wire: Wire) -> None:
    """A backend that answers a retry with the job that it has already has started nothing new."""
    await started(wire)
    again = await started(wire)
    assert again.values(b"x-farebox-charged") == [b"0"]
    assert await wire.spent() == CHEAP
    await polled(wire, saying({"status": "done"}))
    assert (await started(wire)).values(b"x-farebox-charged") == [b"0"]
    await wire.settled_at(CHEAP)


async def test_the_id_of_a_job_that_ended_unpaid_is_not_a_free_ride(wire: Wire) -> None:
    """Where a job runs anew under its old id, as where clients name their jobs, each run after a failed one is paid."""
    await started(wire)
    await polled(wire, saying({"status": "failed"}))
    await wire.settled_at(0)
    for runs in (1, 2):
        assert (await started(wire)).values(b"x-farebox-charged") == [b"1"]
        await wire.settled_at(runs * CHEAP)
    await polled(wire, saying({"status": "done"}))
    await wire.settled_at(2 * CHEAP)


async def test_retries_at_the_same_moment_are_paid_once(wire: Wire) -> None:
    """Ten requests that all get the same job leave one hold."""
    wire.backend.script = saying({"id": named(wire, "j1")})
    await asyncio.gather(*(wire.ask("POST /jobs", user="ann") for _ in range(10)))
    assert await wire.spent() == CHEAP
    assert len(await wire.open_holds()) == 1
    wire.may_stay_open = 1


async def test_the_id_of_anothers_job_is_not_a_free_ride(wire: Wire) -> None:
    """A backend that counts from the start again, or is talked into an id, still makes every caller pay."""
    await started(wire, user="ann")
    assert (await started(wire, user="bob")).values(b"x-farebox-charged") == [b"1"]
    assert (await wire.spent("ann"), await wire.spent("bob")) == (CHEAP, CHEAP)
    wire.may_stay_open = 1


# Clients that leave.


@pytest.mark.parametrize("moment", ["before the answer", "after the head", "in the middle"])
@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_who_starts_a_job_and_leaves_has_started_it(wire: Wire, moment: str, framing: str) -> None:
    """The acceptance is heard to its end, so the job can still be charged, or refunded when it fails."""
    go, heard = asyncio.Event(), asyncio.Event()
    body = json.dumps({"pad": "x" * 100_000, "id": named(wire, "j1")}).encode()

    async def accepts(visit: Visit) -> None:
        await visit.body()
        head = b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\n"
        head += (
            b"Transfer-Encoding: chunked\r\n\r\n" if framing == "chunks" else b"Content-Length: %d\r\n\r\n" % len(body)
        )
        if moment != "before the answer":
            await visit.send(head)
        if moment == "in the middle":
            await visit.send(piece(body[:20]))
        await go.wait()
        rest = (head if moment == "before the answer" else b"") + piece(body[20:] if "middle" in moment else body)
        await visit.send(rest + (b"0\r\n\r\n" if framing == "chunks" else b""))
        heard.set()

    def piece(data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if framing == "chunks" else data

    wire.backend.script = accepts
    client = await wire.start("POST /jobs", user="ann")
    await wire.backend.arrived.wait()
    if moment != "before the answer":
        await client.head()
    client.leave()
    await asyncio.sleep(0.05)
    go.set()
    await heard.wait()
    wire.backend.reset()

    async def bound() -> bool:
        return [hold["job_id"] for hold in await wire.open_holds()] == [named(wire, "j1")]

    await wire.until(bound)
    await polled(wire, saying({"status": "failed"}))
    await wire.settled_at(0)


async def test_a_job_whose_acceptance_broke_off_is_settled(wire: Wire) -> None:
    """Nobody knows whether it runs: by the route's rule for answers that were cut."""

    async def breaks(visit: Visit) -> None:
        await visit.send(b"HTTP/1.1 202 Accepted\r\nContent-Length: 100000\r\n\r\n{")
        visit.reset()

    wire.backend.script = breaks
    client = await wire.start("POST /jobs", user="ann")
    await client.rest()
    await wire.settled_at(CHEAP)

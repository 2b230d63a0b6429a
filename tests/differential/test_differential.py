"""Whatever passes through Farebox is read in one way by everybody's parsers; the short form of `make differential`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest
import pytest_asyncio

from tests.differential.answers import CLIENT_READERS, Answers, Read
from tests.differential.drafts import KINDS, cases
from tests.differential.field import Field, running_field
from tests.differential.readers import PART, REFUSED, WHOLE, Reading, readers
from tests.differential.recorder import end_of_request
from tests.differential.report import as_json, report_of, table
from tests.differential.requests import Requests

pytestmark = pytest.mark.asyncio(loop_scope="module")

SEED = 2026
"""The suite tries the same every time; `make differential` looks for more."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def field(migrated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Field]:
    async with running_field(migrated_file, tmp_path_factory.mktemp("field")) as running:
        yield running


async def test_a_forwarded_request_has_one_meaning(field: Field) -> None:
    """Method, target, headers, body, and how many there are: four parsers agree on every byte that reached a backend,
    each request was what its client had sent, was answered once, and was paid for once if it had a price.
    """
    outcomes = await Requests(field, readers()).run(SEED, 400)
    assert [(outcome.case.number, outcome.problems) for outcome in outcomes if outcome.problems] == []
    # Else it would say nothing: neither that what passes is read alike, nor that what is refused does not pass.
    assert sum(outcome.forwarded > 0 for outcome in outcomes) > 50
    assert sum(outcome.forwarded == 0 for outcome in outcomes) > 100


async def test_an_answer_that_passes_has_one_meaning(field: Field, caplog: pytest.LogCaptureFixture) -> None:
    """Status, reason, headers and body, and that nothing follows; or all three parsers see that it is cut."""
    caplog.set_level(logging.CRITICAL)
    outcomes = await Answers(field).run(SEED, 250)
    assert [(outcome.odd.number, outcome.problems) for outcome in outcomes if outcome.problems] == []
    assert sum(outcome.passed for outcome in outcomes) > 50
    assert sum(not outcome.passed for outcome in outcomes) > 50


GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
LENGTH = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "count", "rest"),
    [
        (GET * 3, 3, WHOLE),
        (GET + LENGTH + b"abc" + GET, 3, WHOLE),
        (CHUNKED + b"3\r\nabc\r\n0\r\n\r\n" + GET, 2, WHOLE),
        (LENGTH + b"ab", 0, PART),
        (CHUNKED + b"3\r\nab", 0, PART),
        (CHUNKED + b"3\r\nabc\r\n0\r\n", 0, PART),
        (GET + GET[:-3], 1, PART),
        (GET + b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 1, REFUSED),
    ],
)
async def test_the_readers_agree_on_what_is_plain(data: bytes, count: int, rest: str) -> None:
    """They say the same of requests in a row, of one that is cut, and of one that is none."""
    for reader in readers():
        reading = reader.read(data)
        assert (reader.name, len(reading.requests), reading.rest) == (reader.name, count, rest)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    ],
)
async def test_the_readers_are_different(data: bytes) -> None:
    """Each of these is read in more than one way, so that agreement means something; none of them may pass."""
    readings: set[object] = {reader.read(data).comparable(underscores=True) for reader in readers()}
    assert len(readings) > 1


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Read(200, "OK", (), b"ok")),
        (b"HTTP/1.1 103 x\r\n\r\nHTTP/1.1 200 OK\r\nX: a\r\nContent-Length: 0\r\n\r\n", Read(200, "OK", (("x", "a"),))),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", Read(200, "OK", (), b"ok")),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", Read(rest=PART)),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", Read(rest=PART)),
        (b"", Read(rest=PART)),
    ],
)
async def test_the_clients_agree_on_what_is_plain(data: bytes, said: Read) -> None:
    """They say the same of a whole answer, and of one that is cut."""
    for name, read in CLIENT_READERS.items():
        assert (name, read("GET", data)) == (name, said)


async def test_the_same_seed_asks_the_same() -> None:
    """So that a disagreement is found again; every kind of oddity is among some hundreds of them."""
    first, again = (list(cases(7, 600, lambda _: b"/w", lambda _: b"A: b")) for _ in range(2))
    assert first == again
    assert first != list(cases(8, 600, lambda _: b"/w", lambda _: b"A: b"))
    assert {kind for case in first for kind in case.kinds} >= set(KINDS)


async def test_the_backend_knows_where_a_request_ends() -> None:
    """However it is cut, whole requests are found and half ones are not."""
    for data in (GET, LENGTH + b"abc", CHUNKED + b"3\r\nabc\r\n0\r\n\r\n"):
        assert end_of_request(data) == end_of_request(data + GET) == len(data)
        cut = Random(1).randrange(1, len(data))
        assert end_of_request(data[:cut]) is None


async def test_a_report_tells_what_was_wrong(field: Field) -> None:
    """In its row, in the row of all, and by its bytes, so that it can be tried alone."""
    requests, answers = await asyncio.gather(Requests(field, readers()).run(1, 8), Answers(field).run(1, 8))
    requests[0].problems.append("read in two ways")
    report = report_of(1, requests, answers, ["a", "b"])
    assert report.requests[-1].wrong == 1
    assert "read in two ways" in report.problems[0]
    assert repr(requests[0].case.data) in report.problems[0]
    assert table(report).count("| all |") == 2
    assert as_json(report)["seed"] == 1


async def test_a_reading_compares_all_of_it() -> None:
    """A header, a body or a rest that differs is a difference; a name with an underscore only where it is kept."""
    one, other = (readers()[0].read(GET.replace(b"\r\n\r\n", b"\r\nX_A: %d\r\n\r\n" % at)) for at in range(2))
    assert one.comparable(underscores=True) != other.comparable(underscores=True)
    assert one.comparable(underscores=False) == other.comparable(underscores=False)
    assert one.comparable(underscores=True) != Reading(one.requests, PART).comparable(underscores=True)

"""Odd answers of a backend, through Farebox, and what clients' parsers make of what comes out: all the same, or 502.

h11 and llhttp read as clients do, and so does `http.client`, on which requests and urllib3 stand. That one takes any
interim answer but 100 for the answer itself, so it is shown answers without them.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from typing import Any, cast

import h11
import httptools

from tests.differential.field import CLIENTS, Field
from tests.differential.odd_answers import OddAnswer, odd_answers
from tests.differential.readers import PART, REFUSED, WHOLE, Headers, found
from tests.differential.recorder import Answerer

CLOSED_S = 5
"""Within this every answer has ended: its client has asked for that."""


@dataclass(frozen=True, slots=True)
class Read:
    """What a client makes of the answer: of one that is cut, only that it is."""

    status: int = 0
    reason: str = ""
    headers: Headers = ()
    body: bytes = b""
    rest: str = WHOLE


def by_h11(method: str, data: bytes) -> Read:
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=2**20)
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    connection.receive_data(b"")
    head, body = h11.Response(status_code=500, headers=[]), b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                rest = connection.trailing_data[0]
                names = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in head.headers]
                reason = bytes(head.reason).decode("latin-1").strip()
                return _read(head.status_code, reason, names, body, REFUSED if rest else WHOLE)
            elif not isinstance(event, h11.InformationalResponse):
                return Read(rest=PART)
    except h11.RemoteProtocolError as error:
        cut = ("peer closed", "without sending", "ConnectionClosed")
        return Read(rest=PART if any(words in str(error) for words in cut) else REFUSED)


class _Llhttp:
    """Callbacks of httptools."""

    def __init__(self, method: str) -> None:
        self.method, self.complete, self.surplus = method, False, False
        self.parser = httptools.HttpResponseParser(self)

    def on_message_begin(self) -> None:
        self.surplus = self.complete
        self.reason, self.body, self.names = b"", b"", list[tuple[str, str]]()

    def on_status(self, reason: bytes) -> None:
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self.names.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        self.status = self.parser.get_status_code()
        self.head_complete = self.status >= 200

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = self.parser.get_status_code() >= 200


def by_llhttp(method: str, data: bytes) -> Read:
    reader = _Llhttp(method)
    if method == "HEAD":
        # llhttp has to be told by its user that there is no body; httptools has no way to, so its head is all.
        head, separator, rest = data.rpartition(b"\r\n\r\n")
        if rest or not separator:
            return Read(rest=REFUSED if separator else PART)
        lines = [
            line
            for line in head.split(b"\r\n")
            if not line.lower().startswith((b"content-length:", b"transfer-encoding:"))
        ]
        data = b"\r\n".join([*lines, b"Content-Length: 0", b"", b""])
    try:
        reader.parser.feed_data(data)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return Read(rest=REFUSED)
    if reader.surplus or not reader.complete:
        return Read(rest=REFUSED if reader.surplus else PART)
    return _read(reader.status, reader.reason.decode("latin-1").strip(), reader.names, reader.body, WHOLE)


class _Kept(io.BytesIO):
    """What http.client reads from: it closes that at the end of an answer, and what is left is to be seen."""

    def makefile(self, mode: str) -> _Kept:
        return self

    def close(self) -> None:
        pass


def by_http_client(method: str, data: bytes) -> Read:
    while data.startswith(b"HTTP/1.1 1"):
        data = data.partition(b"\r\n\r\n")[2]
    source = _Kept(data)
    response = HTTPResponse(cast(Any, source), method=method)
    try:
        response.begin()
        body = response.read()
    except HTTPException:
        return Read(rest=PART)
    rest = REFUSED if source.read() else WHOLE
    return _read(response.status, response.reason, response.getheaders(), body, rest)


def _read(status: int, reason: str, names: list[tuple[str, str]], body: bytes, rest: str) -> Read:
    one = found("", "", names, body)
    return Read(status, reason, one.headers, body, rest)


CLIENT_READERS: dict[str, Callable[[str, bytes], Read]] = {
    "h11": by_h11,
    "httptools": by_llhttp,
    "http.client": by_http_client,
}


@dataclass
class AnswerOutcome:
    """What came of an odd answer: it was passed on, cut, or refused with 502 or 504."""

    odd: OddAnswer
    passed: bool = False
    cut: bool = False
    problems: list[str] = field(default_factory=list)


@dataclass
class Answers:
    """The run over answers."""

    field: Field

    async def run(self, seed: int, count: int, progress: Callable[[int], None] = lambda _: None) -> list[AnswerOutcome]:
        """Every answer, in the order of its number."""
        queue, outcomes = list(odd_answers(seed, count)), list[AnswerOutcome]()

        async def client(at: int) -> None:
            for odd in queue[at::CLIENTS]:
                outcomes.append(await self._try(odd, self.field.answerers[at], at))
                progress(len(outcomes))

        async with asyncio.TaskGroup() as group:
            for at in range(CLIENTS):
                group.create_task(client(at))
        return sorted(outcomes, key=lambda outcome: outcome.odd.number)

    async def _try(self, odd: OddAnswer, answerer: Answerer, client: int) -> AnswerOutcome:
        outcome = AnswerOutcome(odd)
        answerer.answer, answerer.closes = odd.data, odd.closes
        asked = f"{odd.method} /a{client}/{odd.number}/open/x HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n"
        data, closed = await self.field.say([asked.encode()], CLOSED_S)
        if not closed:
            outcome.problems.append("the connection was left open")
        readings = {name: read(odd.method, data) for name, read in CLIENT_READERS.items()}
        said = set(readings.values())
        if len(said) > 1 or any(reading.rest == REFUSED for reading in said):
            outcome.problems.append(
                "; ".join(f"{name}: {reading}" for name, reading in readings.items()) + f"; of {data!r}"
            )
            return outcome
        (reading,) = said
        outcome.cut = reading.rest == PART
        own = reading.status in (502, 504) and b"upstream_" in data
        outcome.passed = not outcome.cut and not own and (odd.method != "HEAD" or reading.status not in (502, 504))
        return outcome

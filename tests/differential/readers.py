"""Servers' own parsers, each by other people: what each of them reads in the bytes that a backend was sent.

A `Reader` is given all the bytes of a connection and says which requests it found, and how the rest stands: nothing is
left, something is incomplete, or it was refused. What readers say is put into one form (`Found`): servers spell names
in capitals and join repeated ones, and some leave out names with an underscore, as CGI could not tell those from names
with a dash; so those are compared among the others only.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import h11
import httptools
from gunicorn.config import Config
from gunicorn.http.errors import ChunkMissingTerminator, NoMoreData, ParseException
from gunicorn.http.parser import RequestParser
from waitress.adjustments import Adjustments
from waitress.parser import HTTPRequestParser

WHOLE, PART, REFUSED = "nothing left", "incomplete", "refused"

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Found:
    """One request. `headers` are by name in small letters, repeated ones joined; without those about its framing."""

    method: str
    target: str
    headers: Headers
    body: bytes

    def without_underscores(self) -> Found:
        kept = tuple(header for header in self.headers if "_" not in header[0])
        return Found(self.method, self.target, kept, self.body)


@dataclass(slots=True)
class Reading:
    """What a reader made of a connection."""

    requests: list[Found] = field(default_factory=list)
    rest: str = WHOLE

    def comparable(self, underscores: bool) -> tuple[object, ...]:
        return (*(found if underscores else found.without_underscores() for found in self.requests), self.rest)


class Reader(Protocol):
    name: str
    underscores: bool
    """Whether it keeps names with an underscore."""

    def read(self, data: bytes) -> Reading: ...


def found(method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes) -> Found:
    """In the one form."""
    joined: dict[str, str] = {}
    for name, value in headers:
        key, text = name.lower(), value.strip(" \t")
        joined[key] = f"{joined[key]}, {text}" if key in joined else text
    for framing in ("content-length", "transfer-encoding"):
        joined.pop(framing, None)
    # Who joins them first, and then strips, sees no empty one at the end.
    return Found(method, target, tuple(sorted((key, text.rstrip(", ")) for key, text in joined.items())), body)


class H11:
    """https://github.com/python-hyper/h11, which uvicorn and hypercorn read with."""

    name, underscores = "h11", True

    def read(self, data: bytes) -> Reading:
        reading, connection = Reading(), h11.Connection(h11.SERVER, max_incomplete_event_size=2**20)
        connection.receive_data(data)
        head, body = h11.Request(method="GET", target="/", headers=[("Host", "none")]), b""
        try:
            while True:
                event = connection.next_event()
                if isinstance(event, h11.Request):
                    head, body = event, b""
                elif isinstance(event, h11.Data):
                    body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    both = [*head.headers, *event.headers]
                    names = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in both]
                    reading.requests.append(found(head.method.decode(), head.target.decode("latin-1"), names, body))
                    connection.send(h11.Response(status_code=404, headers=[("Content-Length", "0")]))
                    connection.send(h11.EndOfMessage())
                    if connection.our_state is h11.MUST_CLOSE:
                        reading.rest = PART if connection.trailing_data[0] else WHOLE
                        return reading
                    connection.start_next_cycle()
                else:
                    is_between = connection.their_state is h11.IDLE and not connection.trailing_data[0]
                    reading.rest = WHOLE if is_between else PART
                    return reading
        except h11.RemoteProtocolError:
            reading.rest = REFUSED
            return reading


class Llhttp:
    """https://github.com/nodejs/llhttp by way of httptools, with uvicorn and Sanic behind it."""

    name, underscores = "httptools", True

    def read(self, data: bytes) -> Reading:
        self._reading, self._open = Reading(), False
        parser = self._parser = httptools.HttpRequestParser(self)
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade as switch:
            # What follows is another protocol's.
            self._reading.rest = WHOLE if switch.args[0] == len(data) else REFUSED
        except httptools.HttpParserError:
            self._reading.rest = REFUSED
        else:
            self._reading.rest = PART if self._open else WHOLE
        return self._reading

    def on_message_begin(self) -> None:
        self._open, self._target, self._headers, self._body = True, b"", list[tuple[str, str]](), b""

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        method, target = self._parser.get_method().decode(), self._target.decode("latin-1")
        self._reading.requests.append(found(method, target, self._headers, self._body))
        self._open = False


class Gunicorn:
    """https://gunicorn.org, in Python."""

    name, underscores = "gunicorn", False

    def __init__(self) -> None:
        self._config = Config()
        limits = {"limit_request_line": 0, "limit_request_fields": 32768, "limit_request_field_size": 2**20}
        for setting, value in (limits | {"http_parser": "python"}).items():
            self._config.set(setting, value)

    def read(self, data: bytes) -> Reading:
        reading, left = Reading(), [data]
        parser = RequestParser(self._config, iter(left), ("192.0.2.1", 1))
        try:
            for message in parser:
                body = message.body.read()
                lengths = [int(value) for name, value in message.headers if name == "CONTENT-LENGTH"]
                if lengths and len(body) < lengths[0]:
                    # It leaves to the application to see that a body was cut.
                    reading.rest = PART
                    break
                reading.requests.append(found(message.method, message.uri, message.headers, body))
        except NoMoreData:
            reading.rest = PART
        except ChunkMissingTerminator as error:
            reading.rest = REFUSED if error.term else PART
        except ParseException:
            reading.rest = REFUSED
        return reading


class Waitress:
    """https://github.com/Pylons/waitress, of the Zope lineage."""

    name, underscores = "waitress", False

    def __init__(self) -> None:
        self._settings = Adjustments(max_request_header_size=2**20)

    def read(self, data: bytes) -> Reading:
        reading = Reading()
        while data:
            parser = HTTPRequestParser(self._settings)
            while data and not parser.completed:
                data = data[parser.received(data) :]
            if parser.error is not None:
                reading.rest = REFUSED
                return reading
            if not parser.completed:
                reading.rest = PART
                return reading
            body = b"" if parser.body_rcv is None else parser.get_body_stream().read()
            names = [(name.replace("_", "-"), value) for name, value in parser.headers.items()]
            reading.requests.append(found(parser.command, parser.request_uri, names, body))
        return reading


class Node:
    """Node's server as a process of its own: the long form asks it where it is installed."""

    name, underscores = "node", True

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._asking = asyncio.Lock()

    @classmethod
    async def start(cls) -> Node | None:
        """None where there is no Node."""
        program = shutil.which("node")
        if program is None:
            return None
        script = str(Path(__file__).with_name("node_reader.js"))
        pipe = asyncio.subprocess.PIPE
        return cls(await asyncio.create_subprocess_exec(program, script, stdin=pipe, stdout=pipe, limit=2**24))

    async def ask(self, data: bytes) -> Reading:
        assert self._process.stdin is not None, "started with pipes"
        assert self._process.stdout is not None, "started with pipes"
        async with self._asking:
            self._process.stdin.write(data.hex().encode() + b"\n")
            said = json.loads(await self._process.stdout.readline())
        return Reading(
            [
                found(one["method"], one["url"], _pairs(one["headers"]), bytes.fromhex(one["body"]))
                for one in said["requests"]
            ],
            said["rest"],
        )

    async def stop(self) -> None:
        assert self._process.stdin is not None, "started with pipes"
        self._process.stdin.close()
        await self._process.wait()


def _pairs(flat: Sequence[str]) -> list[tuple[str, str]]:
    return list(zip(flat[::2], flat[1::2], strict=True))


def readers() -> list[Reader]:
    """The parsers that are there everywhere."""
    return [H11(), Llhttp(), Gunicorn(), Waitress()]

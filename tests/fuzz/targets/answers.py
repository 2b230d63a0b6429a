"""Answers of backends: the same in any pieces, and the same as h11 reads where both take them for answers."""

from __future__ import annotations

from typing import NamedTuple

import h11

from proxy.upstream.parsing import AnswerParser, MalformedAnswer
from tests.fuzz.inputs import Bytes, singly

WORDS = [
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.0 200 OK\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"Content-Length: 2\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"\r\n\r\n",
    b"\r\n",
    b"\n",
    b"\r",
    b"2\r\nok\r\n",
    b"0\r\n\r\n",
    b"0\r\nX: y\r\n\r\n",
    b"2;a=b\r\n",
    b"ok",
    b" \t",
    b": ",
    b"\0",
    b"\xff",
]
SEEDS = [
    b"\0\0\2\x20\x80HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: y \r\n\r\nok",
    b"\0\0\1\xa0HTTP/1.1 103 A\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    b"\1\0\0HTTP/1.0 404 No\r\nContent-Length: 9\r\n\r\n",
    b"\0\1\0HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n..",
]


class Answer(NamedTuple):
    """What came of the bytes. Before an end is known there is no verdict on the rest: `body` is then its beginning."""

    complete: bool
    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    reusable: bool


def check(data: bytes) -> None:
    source = Bytes(data)
    is_head, may_switch = bool(source.choice(2)), bool(source.choice(2))
    pieces = source.cut_up()
    whole = b"".join(pieces)
    ours = _read(pieces, is_head, may_switch)
    for others in ([whole] if whole else [], singly(whole)):
        other = _read(others, is_head, may_switch)
        assert (ours is None) == (other is None), "however it is cut"
        # Surplus bytes that come later are seen later: until then the connection looks reusable.
        assert ours is None or other is None or ours[:4] == other[:4], (ours, other)
    if ours is None or not ours.complete or ours.status < 200:
        return
    theirs = _h11(whole, is_head)
    assert theirs is None or theirs[:4] == ours[:4], (ours, theirs)


def _read(pieces: list[bytes], is_head: bool, may_switch: bool) -> Answer | None:
    parser, body = AnswerParser(is_head=is_head, may_switch=may_switch), b""
    try:
        for piece in pieces:
            if parser.switched:
                return None
            parser.feed(piece)
            body += b"".join(parser.pieces)
            parser.pieces.clear()
        if parser.switched:
            return None
        complete = parser.end()
    except MalformedAnswer:
        return None
    headers = tuple((name.lower().encode(), value.encode("utf-8", "surrogateescape")) for name, value in parser.headers)
    assert not complete or parser.status >= 200
    return Answer(complete, parser.status, headers, body, parser.reusable and not parser.surplus)


def _h11(whole: bytes, is_head: bool) -> Answer | None:
    """None where h11 takes it for no answer, or not for a whole one."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=2**17)
    connection.send(h11.Request(method="HEAD" if is_head else "GET", target="/", headers=[("Host", "h")]))
    connection.send(h11.EndOfMessage())
    found: h11.Response | None = None
    body = b""
    try:
        connection.receive_data(whole)
        connection.receive_data(b"")
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                found = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif not isinstance(event, h11.InformationalResponse):
                return None
    except h11.RemoteProtocolError:
        return None
    assert found is not None, "an answer that is over has begun"
    return Answer(True, found.status_code, tuple((bytes(n), bytes(v)) for n, v in found.headers), body, False)

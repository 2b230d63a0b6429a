"""One answer from bytes: the same however they are cut, strict where two readers could disagree, and never a crash."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.headers import HeaderList
from proxy.upstream.parsing import MAX_HEAD, AnswerParser, MalformedAnswer
from tests.proxy.upstream.odd_answers import BROKEN, CHUNKED, LENGTH, ODD, OK


@dataclass(frozen=True)
class Read:
    """What was read: all of it, or `broken` with the body that had come until then."""

    broken: bool
    status: int = 0
    reason: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


def read(pieces: Sequence[bytes], method: str = "GET") -> tuple[Read, AnswerParser]:
    """The answer in these pieces, after which the connection ends."""
    parser = AnswerParser(is_head=method == "HEAD")
    body = b""
    try:
        for piece in pieces:
            parser.feed(piece)
            body += b"".join(parser.pieces)
            parser.pieces.clear()
        broken = not parser.end()
    except MalformedAnswer:
        broken = True
    if not parser.headers_complete:
        return Read(broken), parser
    headers: HeaderList = parser.headers
    body += b"".join(parser.pieces)
    return Read(broken, parser.status, parser.reason, tuple(headers), body), parser


def feed(parser: AnswerParser, data: bytes, times: int) -> None:
    for _ in range(times):
        parser.feed(data)


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    ends = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(ends)]


@pytest.mark.parametrize("name", ODD)
def test_an_odd_answer_is_read_as_the_table_says(name: str) -> None:
    """Each row of the table, at once and byte by byte."""
    odd = ODD[name]
    found, parser = read([odd.data] if odd.data else [], odd.method)
    if odd.body is BROKEN:
        assert found.broken
    else:
        assert (found.broken, found.status, found.body) == (False, odd.status, odd.body)
        assert (parser.reusable and not parser.surplus) == odd.reused
    if len(odd.data) < 2**12:
        assert read([odd.data[at : at + 1] for at in range(len(odd.data))], odd.method)[0] == found


def test_headers_are_as_they_came() -> None:
    """Order, spelling and repetition, and bytes that are not UTF-8; without the space around a value."""
    data = b"HTTP/1.1 299 Quite \xff\r\nsErver:  me \t\r\nX-a: caf\xe9\r\nx-A: caf\xc3\xa9\r\nEmpty:\r\n" + LENGTH
    found, _ = read([data + b"\r\nok"])
    assert (found.status, found.reason) == (299, "Quite \udcff")
    assert found.headers == (
        ("sErver", "me"),
        ("X-a", "caf\udce9"),
        ("x-A", "café"),
        ("Empty", ""),
        ("Content-Length", "2"),
    )


def test_what_stays_on_a_connection_is_not_in_the_answer() -> None:
    """Headers of interim answers, chunk extensions and trailers."""
    interim = b"HTTP/1.1 103 Early\r\nX-Interim: 1\r\n\r\n"
    found, _ = read([interim + CHUNKED + b"2;x=y\r\nok\r\n0\r\nX-Trailer: 1\r\n\r\n"])
    assert found == Read(False, 200, "OK", (("Transfer-Encoding", "chunked"),), b"ok")


@pytest.mark.parametrize(
    "endless",
    [OK + b"X: ", OK + b"X", b"HTTP/1.1 200 ", CHUNKED + b"2;", CHUNKED + b"2\r\nok\r\n0\r\nX: "],
    ids=["value", "name", "reason", "extension", "trailer"],
)
def test_what_brings_no_body_is_bounded(endless: bytes) -> None:
    """A head, an extension or a trailer without an end is given up after 64 KiB, and not kept in memory."""
    parser = AnswerParser(is_head=False)
    parser.feed(endless)
    for _ in range(MAX_HEAD // 1024 - 1):
        parser.feed(b"a" * 1024)
    with pytest.raises(MalformedAnswer, match="bytes without any body"):
        feed(parser, b"a" * 1024, 2)


def test_a_long_body_has_no_such_bound() -> None:
    """Chunks of one byte carry more framing than body, and are an answer all the same."""
    found, parser = read([CHUNKED, *[b"1\r\na\r\n"] * 50_000, b"0\r\n\r\n"])
    assert (len(found.body), parser.reusable) == (50_000, True)


def test_an_error_repeats_nothing_of_what_was_received() -> None:
    """Messages go to the log, and answers hold secrets."""
    for odd in ODD.values():
        parser = AnswerParser(is_head=False)
        data = odd.data.replace(b"X", b"SECRET")
        with pytest.raises(MalformedAnswer) as caught:  # noqa: PT012 - which of them raises is not the point
            if data:
                parser.feed(data)
            raise MalformedAnswer("the connection ended")
        assert "SECRET" not in str(caught.value)


def test_a_parser_is_gone_when_its_answer_is() -> None:
    """It waits for no garbage collector: that would look at everything else as well."""
    gc.collect()
    gc.disable()
    try:
        before = sum(isinstance(found, AnswerParser) for found in gc.get_objects())
        for _ in range(10):
            read([OK + LENGTH + b"\r\nok"])
        assert sum(isinstance(found, AnswerParser) for found in gc.get_objects()) == before
    finally:
        gc.enable()


# Anything at all.

PARTS = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.0 200 OK\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 204 No\r\n",
        b"HTTP/1.1 101 X\r\n",
        b"Content-Length: 2\r\n",
        b"Content-Length: 70000\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
        b"Connection: upgrade\r\nUpgrade: x\r\n",
        b"X: \xff\r\n",
        b"\r\n",
        b"2\r\nok\r\n",
        b"a;b=c\r\n0123456789\r\n",
        b"0\r\n",
        b"ok",
        b"\r",
        b"\n",
        b" ",
        b"\0",
        b"X",
        b":",
    ]
)
WIRE = st.one_of(
    st.lists(PARTS, max_size=12).map(b"".join),
    st.builds(lambda tail: OK + tail, st.lists(PARTS, max_size=8).map(b"".join)),
    st.sampled_from([odd.data for odd in ODD.values() if len(odd.data) < 2**12]),
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Plausible bytes, with a few replaced, dropped or doubled."""
    data = bytearray(draw(WIRE))
    for _ in range(draw(st.integers(0, 3))):
        if data:
            at = draw(st.integers(0, len(data) - 1))
            data[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=2) | PARTS)
    return bytes(data)


@settings(max_examples=400, deadline=None)
@given(damaged(), st.lists(st.integers(0, 4096), max_size=12), st.sampled_from(["GET", "HEAD"]))
def test_however_it_is_cut_it_is_the_same_answer(data: bytes, places: list[int], method: str) -> None:
    """The same status, headers, body and verdict for any splitting, and no exception but MalformedAnswer."""
    whole, _ = read([data] if data else [], method)
    assert read(cut(data, places), method)[0] == whole


@settings(max_examples=300, deadline=None)
@given(damaged(), st.sampled_from(["GET", "HEAD"]))
def test_a_connection_that_is_used_again_is_at_the_beginning_of_an_answer(data: bytes, method: str) -> None:
    """What is called reusable leaves nothing behind: the next answer on it is read as on a new connection."""
    parser = AnswerParser(is_head=method == "HEAD")
    try:
        if data:
            parser.feed(data)
    except MalformedAnswer:
        return
    if parser.complete and parser.reusable:
        # llhttp skips empty lines in front of an answer; nothing else can have been left.
        end = next(at for at in range(1, len(data) + 1) if is_complete(data[:at], method))
        assert data[end:].strip(b"\r\n") == b""


def is_complete(data: bytes, method: str) -> bool:
    parser = AnswerParser(is_head=method == "HEAD")
    parser.feed(data)
    return parser.complete


SWITCH = b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\nA: b\r\n\r\n"


@pytest.mark.parametrize("size", [1, 5, 500])
def test_a_switch_that_was_asked_for(size: int) -> None:
    """However it is cut: the head, also behind an interim answer, and what has come of the other protocol."""
    data = b"HTTP/1.1 103 Early\r\nX: 1\r\n\r\n" + SWITCH
    parser = AnswerParser(is_head=False, may_switch=True)
    for piece in (data[at : at + size] for at in range(0, len(data), size)):
        assert not parser.switched
        parser.feed(piece)
    assert (parser.switched, parser.status, parser.reason, parser.pieces) == (True, 101, "Switching", [])
    assert parser.headers == [("Connection", "upgrade"), ("Upgrade", "x"), ("A", "b")]
    parser = AnswerParser(is_head=False, may_switch=True)
    parser.feed(SWITCH + b"HTTP/1.1 is not what this is")
    assert (parser.switched, parser.pieces) == (True, [b"HTTP/1.1 is not what this is"])


@pytest.mark.parametrize("data", [SWITCH, SWITCH.replace(b"Upgrade: x\r\n", b"")])
def test_a_switch_needs_to_be_asked_for_and_to_say_to_what(data: bytes) -> None:
    """Otherwise nobody could know what follows."""
    with pytest.raises(MalformedAnswer):
        AnswerParser(is_head=False, may_switch=data is not SWITCH).feed(data)

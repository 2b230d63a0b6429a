"""Reading usage from an answer while it streams by, in whatever pieces it arrives."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.extractors import UsageSource
from proxy.headers import HeaderList
from proxy.pipeline.metering import EventStreamReader, JsonReader, Reader, reader_for
from proxy.pipeline.usage import Passed, usage_in, wanted_of

LIMIT = 1000
SOURCES = {name: UsageSource.model_validate({"json": f"/usage/{name}"}) for name in ("in", "out")}
WANTED = wanted_of(SOURCES)
POINTERS = [unit.pointer for unit in WANTED if unit.pointer is not None]
PASSED = Passed([], 0, 0, Decimal(0))


def event(document: object) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def usage(**units: object) -> dict[str, object]:
    return {"usage": units}


def read(reader: Reader, pieces: Iterable[bytes]) -> dict[str, Decimal] | None:
    for piece in pieces:
        reader.feed(piece)
    found = usage_in(reader.documents(), WANTED, PASSED)
    return dict(found) if found is not None else None


def splits(data: bytes) -> Iterator[list[bytes]]:
    """Whole, in every two and byte by byte, with empty pieces in between."""
    yield [data]
    yield [part for byte in data for part in (bytes([byte]), b"")]
    for at in range(len(data) + 1):
        yield [data[:at], b"", data[at:]]


def in_every_split(data: bytes, headers: HeaderList) -> list[dict[str, Decimal] | None]:
    """The distinct results."""
    results: list[dict[str, Decimal] | None] = []
    for pieces in splits(data):
        found = read(reader_for(200, headers, LIMIT, POINTERS), pieces)
        if found not in results:
            results.append(found)
    return results


JSON = [("Content-Type", "application/json")]
EVENTS = [("Content-Type", "text/event-stream; charset=utf-8")]
STATED = {"in": Decimal(3), "out": Decimal(5)}


# A JSON body.


def test_a_json_body_in_every_split() -> None:
    """The same usage, wherever the body is cut."""
    assert in_every_split(b' {"x": "\xc3\xa9", "usage": {"in": 3, "out": 5}} ', JSON) == [STATED]


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"usage": {"in": 3}', b"[]", b'"x"', b'{"usage": 5}', b"\xff", b"[" * 900, b'{"usage": {}}']
)
def test_a_body_that_states_nothing(body: bytes) -> None:
    """Cut, malformed or of another shape: no usage, and no exception."""
    assert in_every_split(body, JSON) == [None]


def test_a_body_beyond_the_limit_is_not_kept() -> None:
    """A body may have the limit's bytes and not one more; beyond it nothing is held in memory."""
    body = json.dumps(usage(**{"in": 3, "out": 5})).encode()
    exact, beyond = JsonReader(len(body)), JsonReader(len(body) - 1)
    assert read(exact, [body]) == STATED
    assert read(beyond, [body[:10], body[10:]]) is None
    assert read(beyond, [b"x" * 10]) is None


# An event stream.

STREAM = (
    b": a comment\n\n"
    b'event: start\ndata: {"choices": [{"delta": "hi"}]}\n\n'
    b'id: 7\nretry: 10\ndata: {"choices": [], "usage": null}\n\n'
    b'data: {"usage": {"in": 3,\ndata:  "out": 5}}\n\n'
    b"data: [DONE]\n\n"
)


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_an_event_stream_in_every_split(end: bytes) -> None:
    """Lines may end in three ways and be cut anywhere, also between CR and LF."""
    assert in_every_split(STREAM.replace(b"\n", end), EVENTS) == [STATED]


def test_line_ends_may_be_mixed() -> None:
    """Each line ends on its own terms; CR LF is one end and not two."""
    mixed = b'data: {"usage":\r\ndata: {"in": 3,\rdata: "out": 5}}\n\r\ndata: [DONE]\r\r'
    assert in_every_split(mixed, EVENTS) == [STATED]


def test_the_last_event_that_states_a_unit_counts() -> None:
    """Running totals are overtaken, each unit by its own last event, in whatever order they come."""
    stream = event(usage(out=1)) + event(usage(**{"in": 3, "out": 2})) + event(usage(**{"in": 3})) + event(usage(out=5))
    assert read(EventStreamReader(LIMIT, POINTERS), [stream]) == STATED


@pytest.mark.parametrize(
    ("pointer", "data"),
    [
        ("/a~1b", b'{"a\\/b": 5}'),
        ("/geb\u00fchr", b'{"geb\\u00fchr": 5}'),
        ("/geb\u00fchr", '{"geb\u00fchr": 5}'.encode()),
        ("/r&d", b'{"r\\u0026d": 5}'),
        ('/"', b'{"\\"": 5}'),
        ("/\u00fc", b'{"\\u00fc": 5}'),
    ],
)
def test_keys_may_be_escaped(pointer: str, data: bytes) -> None:
    """Encoders escape slashes, quotes, `&` and what is not ASCII, each as it likes."""
    wanted = wanted_of({"n": UsageSource.model_validate({"json": pointer})})
    reader = EventStreamReader(LIMIT, [unit.pointer for unit in wanted if unit.pointer is not None])
    reader.feed(b"data: " + data + b"\n\n")
    assert usage_in(reader.documents(), wanted, PASSED) == {"n": 5}


def test_units_from_different_events() -> None:
    """What the input was is stated at the start, what the output was at the end."""
    stream = event(usage(**{"in": 3})) + event({"text": "x"}) * 50 + event(usage(out=5))
    assert read(EventStreamReader(LIMIT, POINTERS), [stream]) == STATED


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        b'data: {"usage": {"in": 3, "out": 5}}\n',
        b'data: {"usage": {"in": 3, "out": 5}',
        b': {"usage": {"in": 3, "out": 5}}\n\n',
        b'usage: {"usage": {"in": 3, "out": 5}}\n\n',
        b'Data: {"usage": {"in": 3, "out": 5}}\n\n',
        b' data: {"usage": {"in": 3, "out": 5}}\n\n',
        b'data: {"usage": {"in": 3}}\n\n',
        b'data: {"usage": {"in": 3, "out": 5}}x\n\n',
        b'data: "usage"\n\ndata: 5\n\ndata: [1]\n\ndata:\n\ndata\n\n',
        b'data: {"usage": {"in": 3, "out": 5}, "usage": {"in": 0, "out": 0}}\n\n',
    ],
)
def test_a_stream_that_states_nothing(stream: bytes) -> None:
    """An event that has not ended, a comment, another field, broken or ambiguous JSON."""
    assert in_every_split(stream, EVENTS) == [None]


def test_an_event_beyond_the_limit_is_skipped_as_a_whole() -> None:
    """Not even its last line is taken for an event of its own; the next event is read."""
    huge = b"data: " + b"x" * LIMIT + b"\ndata: " + json.dumps(usage(**{"in": 0, "out": 0})).encode() + b"\n\n"
    for piece in (1, 7, 64, 10**6):
        reader = EventStreamReader(LIMIT, POINTERS)
        data = event(usage(**{"in": 1, "out": 1})) + huge
        assert read(reader, (data[at : at + piece] for at in range(0, len(data), piece))) == {"in": 1, "out": 1}
        assert read(reader, [event(usage(**{"in": 3, "out": 5}))]) == STATED


def test_an_endless_event_takes_no_memory() -> None:
    """Lines without an end, and events without an end, are counted and not kept."""
    reader = EventStreamReader(LIMIT, POINTERS)
    for _ in range(1000):
        reader.feed(b"data: " + b"x" * 500)
    for _ in range(1000):
        reader.feed(b"\ndata: more")
    assert len(reader._line) + sum(map(len, reader._data)) <= LIMIT


def test_white_space_before_the_json() -> None:
    """One space after `data:` is part of the field, more are white space of JSON."""
    assert read(EventStreamReader(LIMIT, POINTERS), [b'data:   {"usage": {"in": 3, "out": 5}}\n\n']) == STATED
    assert read(EventStreamReader(LIMIT, POINTERS), [b'data:{"usage": {"in": 3, "out": 5}}\n\n']) == STATED


LINES = st.sampled_from([b"data: {}", b'data: {"usage": {"in": 3, "out": 5}}', b"", b": c", b"data: [DONE]", b"id: 1"])


@settings(deadline=None)
@given(
    st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\r", b"\r\n"])), max_size=12).map(
        lambda lines: b"".join(line + end for line, end in lines)
    ),
    st.lists(st.integers(0, 300), max_size=8),
)
def test_splits_make_no_difference(stream: bytes, cuts: list[int]) -> None:
    """However a stream is cut, it is read as if it came in one piece."""
    edges = sorted(min(cut, len(stream)) for cut in cuts)
    pieces = [stream[a:b] for a, b in zip([0, *edges], [*edges, len(stream)], strict=True)]
    assert read(EventStreamReader(LIMIT, POINTERS), pieces) == read(EventStreamReader(LIMIT, POINTERS), [stream])


# Content codings.


def raw_deflate(data: bytes) -> bytes:
    coder = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return coder.compress(data) + coder.flush()


def flushed(*parts: bytes) -> bytes:
    """gzip with a flush after each part, as servers send event streams."""
    coder = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    return b"".join(coder.compress(part) + coder.flush(zlib.Z_SYNC_FLUSH) for part in parts) + coder.flush()


BODY = json.dumps({"x": "y" * 100} | usage(**{"in": 3, "out": 5})).encode()


@pytest.mark.parametrize(
    ("coding", "data"),
    [
        ("gzip", gzip.compress(BODY, mtime=0)),
        ("GZip", gzip.compress(BODY, mtime=0)),
        ("x-gzip", gzip.compress(BODY, mtime=0)),
        ("deflate", zlib.compress(BODY)),
        ("identity", BODY),
        ("gzip", gzip.compress(BODY[:40], mtime=0) + gzip.compress(BODY[40:], mtime=0)),
    ],
)
def test_compressed_bodies_in_every_split(coding: str, data: bytes) -> None:
    """gzip, also in several members, and deflate are decoded aside."""
    assert in_every_split(data, [*JSON, ("Content-Encoding", coding)]) == [STATED]


def test_compressed_streams_in_every_split() -> None:
    """Events that arrive in a compressed stream, with line ends that the decoder cuts apart."""
    data = flushed(STREAM[:60], *(STREAM[60:].replace(b"\n", b"\r\n").partition(b"\r")))
    assert in_every_split(data, [*EVENTS, ("Content-Encoding", "gzip")]) == [STATED]


@pytest.mark.parametrize(
    ("codings", "data"),
    [
        (["br"], BODY),
        (["zstd"], BODY),
        (["gzip, gzip"], gzip.compress(gzip.compress(BODY, mtime=0), mtime=0)),
        (["gzip", "gzip"], gzip.compress(BODY, mtime=0)),
        (["gzip"], BODY),
        (["gzip"], gzip.compress(BODY, mtime=0)[:-20]),
        (["gzip"], gzip.compress(BODY, mtime=0)[:30] + b"\0" * 30),
        (["gzip"], gzip.compress(BODY, mtime=0) + b"trailing"),
        (["deflate"], raw_deflate(BODY)),
        (["identity", "gzip"], BODY),
        ([""], BODY),
    ],
)
def test_a_coding_that_cannot_be_read_states_nothing(codings: Sequence[str], data: bytes) -> None:
    """Unknown, doubled, lying, cut or broken: no usage, and no exception."""
    headers = [*JSON, *(("Content-Encoding", coding) for coding in codings)]
    assert in_every_split(data, headers) == [None]


@pytest.mark.parametrize("kind", [JSON, EVENTS])
def test_a_bomb_is_given_up(kind: HeaderList) -> None:
    """Ten megabytes in ten kilobytes are not decoded to the end, and what they state is not believed."""
    filler = b": " + b"x" * 10**7 + b"\n\n" if kind is EVENTS else b" " * 10**7
    data = gzip.compress(filler + (event(usage(**{"in": 0, "out": 0})) if kind is EVENTS else BODY))
    reader = reader_for(200, [*kind, ("Content-Encoding", "gzip")], 10**5, POINTERS)
    assert read(reader, [data]) is None
    assert reader._out < 4 * 10**6  # type: ignore[attr-defined]


def test_a_dense_stream_is_no_bomb() -> None:
    """One piece may decode to more than the limit, as long as its events are small."""
    data = flushed(event({"text": "x" * 50}) * 200 + event(usage(**{"in": 3, "out": 5})))
    assert read(reader_for(200, [*EVENTS, ("Content-Encoding", "gzip")], 500, POINTERS), [data]) == STATED


# Which answers are read at all.


@pytest.mark.parametrize("status", [200, 201, 202, 203, 299])
def test_successful_answers_are_read(status: int) -> None:
    assert read(reader_for(status, JSON, LIMIT, POINTERS), [BODY]) == STATED


@pytest.mark.parametrize("status", [206, 301, 304, 400, 404, 500, 503])
def test_errors_and_parts_state_nothing(status: int) -> None:
    """What an error says is about the error; a part is what the client has cut out, and may say anything."""
    assert read(reader_for(status, JSON, LIMIT, POINTERS), [BODY]) is None


@pytest.mark.parametrize("content_type", ["text/plain", "application/octet-stream", "text/json", "", "image/png"])
def test_other_content_types_state_nothing(content_type: str) -> None:
    assert read(reader_for(200, [("Content-Type", content_type)], LIMIT, POINTERS), [BODY]) is None
    assert read(reader_for(200, [], LIMIT, POINTERS), [BODY]) is None


# What is believed.


@pytest.mark.parametrize(
    "value",
    [
        "-1",
        "-0.5",
        '"5"',
        "true",
        "false",
        "[]",
        "{}",
        "1e13",
        "10000000000001",
        "9" * 400,
        "1e-1000000",
        "0." + "1" * 40,
        "1e-99999999999999999999",
        "NaN",
        "-Infinity",
    ],
)
def test_a_hostile_value_is_no_usage(value: str) -> None:
    """M11: negative, absurd, endless or of another type; it must never lower what is charged, nor cost time."""
    body = f'{{"usage": {{"in": 3, "out": {value}}}}}'.encode()
    assert read(JsonReader(LIMIT), [body]) is None


@pytest.mark.parametrize("value", ["0", "0.5", "1e3", "1000000000000", "0e5"])
def test_a_believable_value(value: str) -> None:
    body = f'{{"usage": {{"in": 3, "out": {value}}}}}'.encode()
    assert read(JsonReader(LIMIT), [body]) == {"in": 3, "out": Decimal(value)}


def test_half_of_the_usage_is_none() -> None:
    """One unit without the other is not a usage: the charge would leave out what is missing."""
    assert usage_in([usage(**{"in": 3})], WANTED, PASSED) is None
    assert usage_in([usage(**{"in": 3, "out": None})], WANTED, PASSED) is None
    assert usage_in([], WANTED, PASSED) is None


@settings(deadline=None)
@given(st.binary(max_size=200), st.sampled_from([JSON, EVENTS]), st.sampled_from([None, "gzip", "deflate", "br"]))
def test_no_bytes_raise(data: bytes, kind: HeaderList, coding: str | None) -> None:
    """Whatever a backend sends, reading it aside never disturbs the answer."""
    headers = [*kind, *([("Content-Encoding", coding)] if coding else [])]
    documents: Sequence[Any] = ()
    reader = reader_for(200, headers, LIMIT, POINTERS)
    for piece in (data, data[::-1]):
        reader.feed(piece)
        documents = reader.documents()
    usage_in(documents, WANTED, PASSED)

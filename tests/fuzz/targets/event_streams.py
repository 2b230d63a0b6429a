"""Server-sent events: read in pieces as the standard reads the whole; compressed as plain."""

from __future__ import annotations

import gzip
import re
import zlib
from typing import Any

from proxy import strict_json
from proxy.pipeline.metering import Reader, is_believable, reader_for
from proxy.strict_json import Unreadable
from tests.fuzz.inputs import Bytes, cut, singly

_LIMIT = 200
_WANTED = (("usage", "tokens"), ("id",))
_ADDED = frozenset({("usage", "tokens")})
_TYPE = ("Content-Type", "text/event-stream")
_WORDS = rb"""data: data data:{"usage":{"tokens":3}} {"id":"a"} event: id: retry: : {"usage":{"tokens":-1}} [DONE]
{"usage": "tokens" "\u0075sage" 1e99 NaN 1e999999999 "x": null"""
WORDS = [*_WORDS.split(), b"\n", b"\r", b"\r\n", b"\n\n", b"\r\r", b"\r\n\r\n", b"\xef\xbb\xbf", b"x" * 60]
SEEDS = [
    b'\0\0\3@\x80\xc0data: {"id": "a"}\r\n\r\ndata: {"usage":\r\ndata: {"tokens": 4}}\r\n\r\n:\n\n',
    b'\1\1\2\x20\xf0event: x\rdata:{"usage": {"tokens": 3}}\r\rdata: {"usage": {"tokens": 1.5}}\r\r\n',
]


def check(data: bytes) -> None:
    source = Bytes(data)
    coded, added = source.choice(3), _ADDED if source.choice(2) else frozenset()
    pieces = source.cut_up()
    whole = b"".join(pieces)
    expected = _expected(whole, bool(added))
    assert _read(pieces, added) == expected
    assert _read([whole], added) == expected
    assert _read(singly(whole), added) == expected
    if coded:
        packed = gzip.compress(whole, mtime=0) if coded == 1 else zlib.compress(whole)
        places = [len(piece) for piece in pieces]
        assert _read(cut(packed, [place % len(packed) for place in places]), added, coded) == expected
        # And what never was compressed.
        _read(pieces, added, coded)


def _read(pieces: list[bytes], added: frozenset[tuple[str, ...]], coded: int = 0) -> list[str]:
    headers = [_TYPE, *([("Content-Encoding", ("gzip", "deflate")[coded - 1])] if coded else [])]
    reader: Reader = reader_for(200, headers, _LIMIT, _WANTED, added)
    for piece in pieces:
        reader.feed(piece)
    return [repr(document) for document in reader.documents()]


def _expected(whole: bytes, added: bool) -> list[str]:
    """Read at once, as WHATWG HTML 9.2.6 puts it, and bounded as we bound it."""
    latest: dict[tuple[str, ...], Any] = {}
    total: Any = None
    for data in _events(whole):
        try:
            document = strict_json.parse(data)
            for pointer in _WANTED:
                value = strict_json.find(document, pointer)
                if value is None:
                    continue
                if added and pointer in _ADDED:
                    total = _sum(total, value)
                else:
                    latest.pop(pointer, None)
                    latest[pointer] = document
        except Unreadable:
            continue
    sums = [] if total is None else [{"usage": {"tokens": total}}]
    return [repr(document) for document in (*latest.values(), *sums)]


def _sum(total: Any, value: Any) -> Any:
    readable = is_believable(value) and is_believable(0 if total is None else total)
    return strict_json.Decimal(total or 0) + strict_json.Decimal(value) if readable else False


def _events(whole: bytes) -> list[bytes]:
    """The data of each event that is complete and not too long."""
    lines = re.split(rb"\r\n|\r|\n", whole.removeprefix(b"\xef\xbb\xbf"))[:-1]
    events, data, size = list[bytes](), list[bytes](), 0
    for line in lines:
        size += len(line)
        if line:
            name, _, value = line.partition(b":")
            if name == b"data":
                data.append(value.removeprefix(b" "))
            continue
        if data and size <= _LIMIT:
            events.append(b"\n".join(data))
        data, size = [], 0
    return events

"""Step 6: reading what an answer says about its usage, while it streams by. Sans-I/O: bytes in, documents out.

A reader never holds an answer up and never changes it: it is fed copies of the pieces, in whatever sizes they arrive,
and asked at the end. It keeps a bounded amount; an answer that is longer cannot be read and settles by its quote.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Protocol

from proxy import strict_json
from proxy.headers import HeaderList
from proxy.strict_json import Unreadable

MAX_RATIO = 200
"""Decoded bytes for each compressed one: JSON compresses by 20, a bomb by 1000."""

MAX_UNITS = Decimal(10**12)
"""Of anything in one answer. A backend that states more is broken or hostile."""


class Reader(Protocol):
    """Gathers documents from the pieces of an answer."""

    def feed(self, piece: bytes) -> None: ...

    def documents(self) -> Sequence[Any]:
        """What could be read so far: one document for a JSON body, one for each event of a stream that has one."""


class JsonReader:
    """A JSON body, read when it is complete."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._body: bytearray | None = bytearray()

    def feed(self, piece: bytes) -> None:
        if self._body is not None:
            self._body += piece
            if len(self._body) > self._limit:
                self._body = None

    def documents(self) -> Sequence[Any]:
        if not self._body:
            return ()
        try:
            return (strict_json.parse(bytes(self._body)),)
        except Unreadable:
            return ()


class EventStreamReader:
    """Server-sent events (WHATWG HTML, 9.2.6): the JSON in the `data` of each event.

    Lines end with CR LF, LF or CR, and may be cut anywhere between pieces; an event ends with an empty line. Only the
    events that hold one of `wanted` are kept, and of those the last of each, so a stream may be as long as it likes.
    """

    def __init__(self, limit: int, wanted: Sequence[tuple[str, ...]]) -> None:
        self._limit = limit
        self._wanted = wanted
        # A cheap look before the expensive one: most events of a stream hold none of what is wanted.
        self._marks = tuple(pointer[0].encode() for pointer in wanted if pointer)
        self._line = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._after_cr = False
        self._skipping = False
        self._latest: dict[tuple[str, ...], Any] = {}

    def feed(self, piece: bytes) -> None:
        if self._after_cr and piece.startswith(b"\n"):
            piece = piece[1:]
        self._after_cr = piece.endswith(b"\r")
        lines = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        for line in lines[:-1]:
            self._append(line)
            self._end_line()
        self._append(lines[-1])

    def _append(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._limit:
            # An event larger than the bound cannot be read; the next one can.
            self._skipping = True
            self._line.clear()
            self._data.clear()
        elif not self._skipping:
            self._line += part

    def _end_line(self) -> None:
        line = bytes(self._line)
        self._line.clear()
        if line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
        elif not line:
            if not self._skipping:
                self._end_event()
            self._skipping, self._size = False, 0
            self._data.clear()

    def _end_event(self) -> None:
        data = b"\n".join(self._data)
        if not data.startswith(b"{") or not any(mark in data for mark in self._marks):
            return
        try:
            document = strict_json.parse(data)
            for pointer in self._wanted:
                if strict_json.find(document, pointer) is not None:
                    self._latest[pointer] = document
        except Unreadable:
            return

    def documents(self) -> Sequence[Any]:
        return tuple(self._latest.values())


class _Inflating:
    """Decodes gzip or deflate aside, within a bound, for another reader (RFC 9110 §8.4.1)."""

    def __init__(self, inner: Reader, limit: int) -> None:
        self._inner = inner
        self._limit = limit
        self._decoder = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
        self._in = self._out = 0
        self._broken = False

    def feed(self, piece: bytes) -> None:
        if self._broken:
            return
        self._in += len(piece)
        try:
            decoded = self._decoder.decompress(piece, self._limit + 1)
        except zlib.error:
            self._broken = True
            return
        self._out += len(decoded)
        # What is left undecoded is beyond the bound of one piece; a stream's sum is bounded by its ratio.
        self._broken = bool(self._decoder.unconsumed_tail) or self._out > self._in * MAX_RATIO + self._limit
        self._inner.feed(decoded)

    def documents(self) -> Sequence[Any]:
        return () if self._broken else self._inner.documents()


class _Unreadable:
    """Stands for an answer that Farebox cannot read, such as one in an unknown coding."""

    def feed(self, piece: bytes) -> None:
        """Nothing can be learned from it."""

    def documents(self) -> Sequence[Any]:
        return ()


def reader_for(headers: HeaderList, limit: int, wanted: Sequence[tuple[str, ...]]) -> Reader:
    """The reader that fits the content type and coding of an answer."""
    content_type = next((value for name, value in headers if name.lower() == "content-type"), "")
    media_type = content_type.partition(";")[0].strip().lower()
    reader: Reader
    if media_type == "text/event-stream":
        reader = EventStreamReader(limit, wanted)
    elif media_type == "application/json" or media_type.endswith("+json"):
        reader = JsonReader(limit)
    else:
        return _Unreadable()
    codings = [value.strip().lower() for name, value in headers if name.lower() == "content-encoding"]
    if codings in ([], ["identity"]):
        return reader
    return _Inflating(reader, limit) if codings in (["gzip"], ["x-gzip"], ["deflate"]) else _Unreadable()


def usage_in(documents: Sequence[Any], wanted: Sequence[tuple[str, tuple[str, ...]]]) -> Mapping[str, Decimal] | None:
    """The units that an answer states, or None unless it states every one of them believably.

    A negative, absurd or non-numeric value is no usage: it must never lower what is charged.
    """
    units: dict[str, Decimal] = {}
    for name, pointer in wanted:
        values = [value for document in documents if (value := _lookup(document, pointer)) is not None]
        if not values:
            return None
        value = values[-1]
        if isinstance(value, bool) or not isinstance(value, int | Decimal) or not 0 <= value <= MAX_UNITS:
            return None
        units[name] = Decimal(value)
    return units


def _lookup(document: Any, pointer: tuple[str, ...]) -> Any:
    try:
        return strict_json.find(document, pointer)
    except Unreadable:
        return None

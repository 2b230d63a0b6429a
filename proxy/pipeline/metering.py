"""Step 6: reading what an answer says about its usage, while it streams by. Sans-I/O: bytes in, documents out.

A reader never holds an answer up and never changes it: it is fed copies of the pieces, in whatever sizes they arrive,
and asked at the end. It keeps a bounded amount; an answer that is longer cannot be read and settles by its quote.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Collection, Sequence
from decimal import Decimal
from typing import Any, Protocol

from proxy import strict_json
from proxy.headers import READABLE_CODINGS, HeaderList
from proxy.strict_json import Unreadable

MAX_RATIO = 200
"""Decoded bytes for each compressed one: JSON compresses by 20, a bomb by 1000."""

MAX_UNITS = Decimal(10**12)
"""Of anything in one answer. A backend that states more is broken or hostile."""

MAX_DIGITS = 30
"""Of a number in one answer, and of its exponent: more is noise, and would only cost time."""


_PLAIN = re.compile(r"[A-Za-z0-9_.-]*")
"""What no encoder of JSON escapes; some escape slashes, quotes and `&`, and many all that is not ASCII."""


def mark_of(pointer: tuple[str, ...]) -> bytes:
    """What stands in every text that has something at this place, however its keys are escaped."""
    return max(_PLAIN.findall(pointer[0]), key=len).encode() if pointer else b""


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
    events that hold one of `wanted` are kept, and of those the last of each, so a stream may be as long as it likes. Of
    `added` the sum is kept: it comes as a document of our own, behind all others.
    """

    def __init__(
        self, limit: int, wanted: Sequence[tuple[str, ...]], added: Collection[tuple[str, ...]] = frozenset()
    ) -> None:
        self._added = added
        self._sums: dict[tuple[str, ...], Any] = {}
        self._limit = limit
        self._wanted = wanted
        # A cheap look before the expensive one: most events of a stream hold none of what is wanted.
        self._marks = tuple(mark_of(pointer) for pointer in wanted)
        self._line = bytearray()
        self._line_is_empty = True
        self._data: list[bytes] = []
        self._size = 0
        self._after_cr = False
        self._latest: dict[tuple[str, ...], Any] = {}

    def feed(self, piece: bytes) -> None:
        if not piece:
            return
        if self._after_cr and piece.startswith(b"\n"):
            piece = piece[1:]
            self._after_cr = False
        if piece:
            self._after_cr = piece.endswith(b"\r")
        lines = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        for line in lines[:-1]:
            self._append(line)
            self._end_line()
        self._append(lines[-1])

    def _append(self, part: bytes) -> None:
        self._size += len(part)
        self._line_is_empty = self._line_is_empty and not part
        if self._size <= self._limit:
            self._line += part
        else:
            # An event larger than the bound cannot be read; the next one can.
            self._line.clear()
            self._data.clear()

    def _end_line(self) -> None:
        if self._line_is_empty:
            if self._size <= self._limit:
                self._end_event(b"\n".join(self._data))
            self._data.clear()
            self._size = 0
        elif self._line.startswith(b"data:"):
            self._data.append(bytes(self._line[5:]).removeprefix(b" "))
        self._line.clear()
        self._line_is_empty = True

    def _end_event(self, data: bytes) -> None:
        if not any(mark in data for mark in self._marks):
            return
        try:
            document = strict_json.parse(data)
            for pointer in self._wanted:
                value = strict_json.find(document, pointer)
                if pointer in self._added and value is not None:
                    self._add(pointer, value)
                elif value is not None:
                    # The latest comes last, so that of two documents the later one counts.
                    self._latest.pop(pointer, None)
                    self._latest[pointer] = document
        except Unreadable:
            return

    def _add(self, pointer: tuple[str, ...], value: Any) -> None:
        """One value that cannot be believed spoils the sum: it becomes what is no number."""
        total = self._sums.get(pointer, Decimal(0))
        readable = is_believable(value) and is_believable(total)
        self._sums[pointer] = Decimal(total) + Decimal(value) if readable else False

    def documents(self) -> Sequence[Any]:
        sums: list[Any] = []
        for pointer, value in self._sums.items():
            for token in reversed(pointer):
                value = {token: value}
            sums.append(value)
        return (*self._latest.values(), *sums)


class _Inflating:
    """Decodes gzip or deflate aside, within a bound, for another reader (RFC 9110 §8.4.1)."""

    def __init__(self, inner: Reader, limit: int) -> None:
        self._inner = inner
        self._limit = limit
        self._decoder = _decoder()
        self._in = self._out = 0
        self._broken = False

    def feed(self, piece: bytes) -> None:
        self._in += len(piece)
        while piece and not self._broken:
            if self._decoder.eof:
                # A gzip file may have several members (RFC 1952 §2.2).
                self._decoder = _decoder()
            try:
                decoded = self._decoder.decompress(piece, self._limit)
            except zlib.error:
                self._broken = True
                return
            self._out += len(decoded)
            self._broken = self._out > self._in * MAX_RATIO + self._limit
            self._inner.feed(decoded)
            piece = self._decoder.unconsumed_tail or self._decoder.unused_data

    def documents(self) -> Sequence[Any]:
        return () if self._broken else self._inner.documents()


def _decoder() -> zlib._Decompress:
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)


class _Unreadable:
    """Stands for an answer that Farebox cannot read, such as one in an unknown coding."""

    def feed(self, piece: bytes) -> None:
        """Nothing can be learned from it."""

    def documents(self) -> Sequence[Any]:
        return ()


def reader_for(
    status: int,
    headers: HeaderList,
    limit: int,
    wanted: Sequence[tuple[str, ...]],
    added: Collection[tuple[str, ...]] = frozenset(),
) -> Reader:
    """The reader that fits the status, the content type and the coding of an answer. What stands at those pointers of
    `wanted` that are `added` is summed up over the events of a stream.
    """
    content_type = next((value for name, value in headers if name.lower() == "content-type"), "")
    media_type = content_type.partition(";")[0].strip().lower()
    reader: Reader
    if not 200 <= status < 300 or status == 206:
        # What an error says, or a part that the client has cut out (RFC 9110 §15.3.7), states nothing.
        return _Unreadable()
    if media_type == "text/event-stream":
        reader = EventStreamReader(limit, wanted, added)
    elif media_type == "application/json" or media_type.endswith("+json"):
        reader = JsonReader(limit)
    else:
        return _Unreadable()
    codings = [value.strip().lower() for name, value in headers if name.lower() == "content-encoding"]
    if codings in ([], ["identity"]):
        return reader
    return _Inflating(reader, limit) if len(codings) == 1 and codings[0] in READABLE_CODINGS else _Unreadable()


def is_believable(value: Any) -> bool:
    """Whether a number can be what was used. A negative or absurd one must never lower what is charged."""
    if type(value) is int:
        return 0 <= value <= MAX_UNITS
    if not isinstance(value, Decimal):
        return False
    if not value.is_finite():  # nothing compares with a NaN
        return False
    _, digits, exponent = value.as_tuple()
    return 0 <= value <= MAX_UNITS and len(digits) <= MAX_DIGITS and -MAX_DIGITS <= int(exponent) <= MAX_DIGITS

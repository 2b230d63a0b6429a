"""Reading the fields of a `multipart/form-data` body while it streams by: sans-I/O, files are never kept.

Lenient parsers find parts where strict ones find the content of a file, and another name or charset than was meant
(RFC 2046 §5.1, RFC 7578). So a body is read in the one way on which all agree, and refused where it could be read in
another: anything before the first boundary or after the last, a boundary within content, folded or repeated headers,
transfer encodings, and names that some backend might take for one that decides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from urllib.parse import unquote

from proxy.strict_json import Unreadable

MAX_PARTS = 1000
"""Far above real forms."""

MAX_HEAD = 8 * 2**10
"""Bytes of the headers of one part: a long file name in several spellings fits."""

MAX_VALUE = 4 * 2**10
"""Bytes of a field that decides: model ids and numbers are short."""

_CONTENT_TYPE = re.compile(
    r"multipart/form-data[ \t]*;[ \t]*boundary=(\"?)([A-Za-z0-9'()+_,./:=?-]{1,70})\1"
    r"(?:[ \t]*;[ \t]*charset=\"?utf-?8\"?)?",
    re.IGNORECASE,
)
_HEADER = re.compile(rb"([A-Za-z0-9-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_DISPOSITION = re.compile(
    r"form-data[ \t]*;[ \t]*name=(?:\"([^\"\\]*)\"|([A-Za-z0-9_.\[\]-]+))"
    r"(?P<file>[ \t]*;[ \t]*filename=(?:\"(?:[^\"\\]|\\.)*\"|[^\"\\;\s]+))?"
    r"(?P<file_too>[ \t]*;[ \t]*filename\*=[A-Za-z0-9-]+'[A-Za-z0-9-]*'[^\"\\;\s]*)?",
    re.IGNORECASE,
)
_PLAIN = re.compile(r"text/plain(?:[ \t]*;[ \t]*charset=\"?utf-?8\"?)?", re.IGNORECASE)


def boundary_of(content_type: str) -> bytes | None:
    """The boundary that a content type names, if it is one of a form and can be read in one way only."""
    match = _CONTENT_TYPE.fullmatch(content_type.strip(" \t"))
    return match[2].encode() if match is not None else None


class MultipartReader:
    """Feed it the pieces of a body, in whatever sizes they come, and tell it the end. Raises Unreadable."""

    def __init__(self, boundary: bytes, wanted: Collection[str], is_alike: Callable[[str, str], bool]) -> None:
        """`wanted` are the fields that decide; `is_alike` tells what some backend might take for one of them."""
        self._mark = b"--" + boundary
        self._wanted = wanted
        self._is_alike = is_alike
        self._read: Callable[[], bool] = self._begin
        self._rest = b""
        self._parts = 0
        self._size = 0
        self._stated_size: int | None = None
        self._name: str | None = None
        self._value = bytearray()
        self.fields: dict[str, list[str]] = {name: [] for name in wanted}
        """The values of the wanted fields so far."""
        self.in_files = False
        """Whether a file has begun: from there on no field that decides may come."""
        self.complete = False

    def feed(self, data: bytes) -> None:
        self._rest += data
        while self._read():
            pass

    def end(self) -> None:
        """There is no more."""
        if not self.complete or self._rest not in (b"", b"\r\n"):
            raise Unreadable("the form does not end where it says")

    # Each of these reads what it can of the rest. False when it needs more.

    def _begin(self) -> bool:
        first = self._mark + b"\r\n"
        if not first.startswith(self._rest[: len(first)]):
            raise Unreadable("the form does not begin with its boundary")
        if len(self._rest) < len(first):
            return False
        return self._go_on(len(first), self._read_head)

    def _read_head(self) -> bool:
        end = self._rest.find(b"\r\n\r\n", 0, MAX_HEAD)
        if end < 0:
            if len(self._rest) >= MAX_HEAD:
                raise Unreadable("a part of the form has too many headers")
            return False
        self._open_part(self._rest[:end].split(b"\r\n"))
        self._size = 0
        return self._go_on(end + 4, self._read_content)

    def _read_content(self) -> bool:
        at = self._rest.find(self._mark)
        if at < 0:
            # A mark, and the line end before it, may be cut anywhere.
            self._take(max(len(self._rest) - len(self._mark) - 1, 0))
            return False
        if self._rest[max(at - 2, 0) : at] != b"\r\n":
            raise Unreadable("the form has its boundary within the content of a part")
        following = self._rest[at + len(self._mark) :][:2]
        if len(following) < 2:
            return False
        if following not in (b"\r\n", b"--"):
            raise Unreadable("the form has its boundary within the content of a part")
        self._take(at - 2)
        self._close_part()
        self.complete = following == b"--"
        return self._go_on(len(self._mark) + 4, self._finish if self.complete else self._read_head)

    def _finish(self) -> bool:
        if not b"\r\n".startswith(self._rest):
            raise Unreadable("something follows the end of the form")
        return False

    def _go_on(self, taken: int, then: Callable[[], bool]) -> bool:
        self._rest, self._read = self._rest[taken:], then
        return True

    def _take(self, count: int) -> None:
        """Content of the part."""
        if self._name is not None:
            self._value += self._rest[:count]
            if len(self._value) > MAX_VALUE:
                raise Unreadable(f"the field {self._name} is too long")
        self._size += count
        self._rest = self._rest[count:]

    # One part.

    def _open_part(self, lines: list[bytes]) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise Unreadable(f"the form has more than {MAX_PARTS} parts")
        headers: dict[str, str] = {}
        for line in lines:
            match = _HEADER.fullmatch(line)
            name = match[1].decode().lower() if match is not None else ""
            if match is None or name in headers:
                raise Unreadable("a part of the form has a header that is malformed, or given twice")
            headers[name] = _text(match[2]).strip(" \t")
        disposition = _DISPOSITION.fullmatch(headers.get("content-disposition", ""))
        if disposition is None:
            raise Unreadable("a part of the form does not say in one way which field it is")
        if headers.get("content-transfer-encoding", "binary").lower() not in ("binary", "8bit", "7bit"):
            raise Unreadable("a part of the form is encoded")
        self._stated_size = _size(headers.get("content-length"))
        name = disposition[1] if disposition[1] is not None else disposition[2]
        self._meet(name, is_file=bool(disposition["file"] or disposition["file_too"]), headers=headers)

    def _meet(self, name: str, *, is_file: bool, headers: dict[str, str]) -> None:
        """A part of this name begins."""
        if name.lower() == "_charset_":
            raise Unreadable("the form changes its own charset")
        for wanted in self._wanted:
            if name != wanted and (self._is_alike(name, wanted) or self._is_alike(unquote(name), wanted)):
                raise Unreadable(f"the field {wanted} is given in another spelling")
        self._name = name if name in self._wanted else None
        if self._name is not None:
            if is_file or not _PLAIN.fullmatch(headers.get("content-type", "text/plain")):
                raise Unreadable(f"the field {name} is not a plain text")
            if self.in_files:
                raise Unreadable(f"the field {name} comes after a file; send it before")
        self.in_files = self.in_files or is_file

    def _close_part(self) -> None:
        if self._stated_size not in (None, self._size):
            raise Unreadable("a part of the form has another length than it states")
        if self._name is not None:
            self.fields[self._name].append(_text(bytes(self._value)))
            self._value.clear()
            self._name = None


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Unreadable("the form is not UTF-8") from None


def _size(stated: str | None) -> int | None:
    if stated is None:
        return None
    if not re.fullmatch(r"[0-9]{1,15}", stated):
        raise Unreadable("a part of the form states its length in an odd way")
    return int(stated)

"""Forms in parts: the same fields however they are cut, strict where parsers differ, and files that are never kept."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from python_multipart import FormParser
from python_multipart.multipart import Field, File

from proxy.pipeline.multipart import MultipartReader, boundary_of
from proxy.pipeline.parts import is_alike
from proxy.strict_json import Unreadable

BOUNDARY = b"----x'y_1"


def part(head: str | bytes, content: bytes = b"") -> bytes:
    data = head if isinstance(head, bytes) else head.encode()
    return b"--" + BOUNDARY + b"\r\n" + data + b"\r\n\r\n" + content + b"\r\n"


def named(name: str, content: bytes = b"", more: str = "") -> bytes:
    return part(f'Content-Disposition: form-data; name="{name}"{more}', content)


def file(name: str = "file", content: bytes = b"content") -> bytes:
    return named(name, content, '; filename="a b.bin"\r\nContent-Type: application/octet-stream')


END = b"--" + BOUNDARY + b"--\r\n"


def read(body: bytes, places: list[int] | None = None, wanted: tuple[str, ...] = ("model", "n")) -> MultipartReader:
    reader = MultipartReader(BOUNDARY, wanted, is_alike)
    ends = sorted({0, len(body), *(place % (len(body) + 1) for place in places or [])})
    for start, end in pairwise(ends):
        reader.feed(body[start:end])
    reader.end()
    return reader


GOOD: dict[str, tuple[bytes, list[str]]] = {
    "one field": (named("model", b"a"), ["a"]),
    "a field and a file": (named("model", b"a") + file(), ["a"]),
    "two values": (named("model", b"a") + named("model", b"b"), ["a", "b"]),
    "an empty value": (named("model"), [""]),
    "no such field": (named("other", b"a") + file(), []),
    "without quotes": (part("Content-Disposition: form-data; name=model", b"a"), ["a"]),
    "any case, any order": (
        part('CONTENT-TYPE: Text/Plain; charset=UTF-8\r\ncontent-disposition: Form-Data;name="model"', b"a"),
        ["a"],
    ),
    "a plain coding": (named("model", b"a", "\r\nContent-Transfer-Encoding: 8bit"), ["a"]),
    "a true length": (named("model", b"abc", "\r\nContent-Length: 3"), ["abc"]),
    "an odd file name": (named("model", b"a") + named("f", b"x", '; filename="a\\"; name=\\"model"'), ["a"]),
    "a file name in two ways": (
        named("model", b"a") + named("f", b"x", "; filename=\"a\"; filename*=UTF-8''%e2"),
        ["a"],
    ),
    "a field called filename": (named("filename", b"x") + named("model", b"a"), ["a"]),
    "beyond ASCII": (named("model", "ä€".encode()), ["ä€"]),
    "line ends in content": (named("x", b"\r\n\r\n--\r\n-") + named("model", b"a"), ["a"]),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_form(name: str) -> None:
    """At once and byte by byte, with a line end behind it or without."""
    body, values = GOOD[name]
    for end in (END, END.removesuffix(b"\r\n")):
        assert read(body + end).fields["model"] == values
        assert read(body + end, list(range(len(body) + 50))).fields["model"] == values


BAD: dict[str, bytes] = {
    "nothing": b"",
    "a preamble": b"hi\r\n" + named("model", b"a") + END,
    "an empty preamble": b"\r\n" + named("model", b"a") + END,
    "an epilogue": named("model", b"a") + END + b"x",
    "another form behind it": named("model", b"a") + END + named("model", b"b") + END,
    "no end": named("model", b"a"),
    "half an end": named("model", b"a") + END[:-4],
    "bare line feeds": (named("model", b"a") + END).replace(b"\r\n", b"\n"),
    "a boundary in content": named("x", b"--" + BOUNDARY) + END,
    "a boundary behind a line feed": named("x", b"\n--" + BOUNDARY + b"\n") + END,
    "a longer boundary": named("x", b"a\r\n--" + BOUNDARY + b"y") + END,
    "a boundary with spaces": named("x", b"a\r\n--" + BOUNDARY + b" ") + END,
    "a boundary at once": part('Content-Disposition: form-data; name="x"', b"")[:-2] + END,
    "two dispositions": part('Content-Disposition: form-data; name="x"\r\nContent-Disposition: form-data; name="model"')
    + END,
    "two names": part('Content-Disposition: form-data; name="x"; name="model"') + END,
    "an extended name": part("Content-Disposition: form-data; name*=UTF-8''model") + END,
    "both names": part("Content-Disposition: form-data; name=\"x\"; name*=UTF-8''model") + END,
    "no name": part("Content-Disposition: form-data") + END,
    "no disposition": part("X: y") + END,
    "no headers": part("") + END,
    "an attachment": part('Content-Disposition: attachment; name="model"') + END,
    "an escaped name": named("mo\\del", b"a") + END,
    "a folded header": part('Content-Disposition: form-data;\r\n name="model"', b"a") + END,
    "a space before the colon": part('Content-Disposition : form-data; name="model"', b"a") + END,
    "another case": named("Model", b"a") + END,
    "brackets": named("model[]", b"a") + END,
    "an encoded name": named("%6dodel", b"a") + END,
    "a space": named(" model", b"a") + END,
    "a file of that name": file("model") + END,
    "another type": named("model", b"a", "\r\nContent-Type: application/json") + END,
    "another charset": named("model", b"a", "\r\nContent-Type: text/plain; charset=utf-16") + END,
    "base64": named("model", b"YQ==", "\r\nContent-Transfer-Encoding: base64") + END,
    "base64 elsewhere": named("x", b"YQ==", "\r\nContent-Transfer-Encoding: base64") + END,
    "a wrong length": named("x", b"abc", "\r\nContent-Length: 2") + END,
    "an odd length": named("x", b"abc", "\r\nContent-Length: +3") + END,
    "its own charset": named("_charset_", b"utf-16") + named("model", b"a") + END,
    "not UTF-8": named("model", b"\xff") + END,
    "not UTF-8 in a name": part(b'Content-Disposition: form-data; name="\xff"') + END,
    "too late": file() + named("model", b"a") + END,
    "once more": named("model", b"a") + file() + named("model", b"b") + END,
    "too long": named("model", b"a" * 5000) + END,
    "a long head": named("x", b"", "\r\nX: " + "a" * 9000) + END,
    "many parts": named("x") * 1001 + END,
}


@pytest.mark.parametrize("name", BAD)
def test_what_could_be_read_differently_is_refused(name: str) -> None:
    """M04: at once, byte by byte, and in halves."""
    for places in ([], list(range(2000)), [len(BAD[name]) // 2]):
        with pytest.raises(Unreadable):
            read(BAD[name], places)


FIELDS = st.lists(
    st.tuples(st.sampled_from(["model", "n", "a", "b c"]), st.binary(max_size=60), st.booleans()), max_size=6
)


@given(fields=FIELDS, places=st.lists(st.integers(0, 2000), max_size=20))
def test_what_is_read_is_what_another_parser_reads(fields: list[tuple[str, bytes, bool]], places: list[int]) -> None:
    """Whatever is accepted has the same fields for the library that a common framework parses forms with."""
    body = b"".join(file(name, value) if is_file else named(name, value) for name, value, is_file in fields) + END
    try:
        ours = read(body, places).fields
    except Unreadable:
        return
    theirs: dict[str, list[bytes]] = {"model": [], "n": []}

    def on_field(found: Field) -> None:
        theirs.setdefault((found.field_name or b"").decode(), []).append(found.value or b"")

    def on_file(found: File) -> None:
        assert (found.field_name or b"").decode() not in ours

    parser = FormParser("multipart/form-data", on_field, on_file, boundary=BOUNDARY)
    parser.write(body)
    parser.finalize()
    assert {name: [value.decode() for value in theirs[name]] for name in ours} == ours


@given(body=st.binary(max_size=300))
def test_noise_is_refused(body: bytes) -> None:
    """With an exception of one kind."""
    with pytest.raises(Unreadable):
        read(b"--" + BOUNDARY + b"\r\n" + body)


def test_a_large_file_is_not_kept() -> None:
    """Nor looked at twice: what is kept of it is as long as a boundary."""
    reader = MultipartReader(BOUNDARY, ["model"], is_alike)
    reader.feed(named("model", b"a") + file(content=b"")[:-2])
    piece = b"\r\n--" * 2**14
    tracemalloc.start()
    for _ in range(500):
        reader.feed(piece)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    reader.feed(b"\r\n" + END)
    reader.end()
    assert reader.fields == {"model": ["a"]}
    assert peak < 2**20


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ('Multipart/Form-Data;boundary="a b"', None),
        ('multipart/form-data; boundary="a=b"', b"a=b"),
        ("multipart/form-data; boundary=abc; charset=utf-8", b"abc"),
        ("multipart/form-data; boundary=abc; charset=utf-16", None),
        ("multipart/form-data", None),
        ("multipart/form-data; boundary=", None),
        ('multipart/form-data; boundary="abc', None),
        ("multipart/form-data; boundary=abc; boundary=xyz", None),
        ("multipart/form-data; boundary=abc, multipart/form-data; boundary=xyz", None),
        ("multipart/form-data; boundary=" + "a" * 71, None),
        ("multipart/mixed; boundary=abc", None),
        ("application/x-www-form-urlencoded", None),
    ],
)
def test_boundaries(content_type: str, boundary: bytes | None) -> None:
    """M03: exactly one, in the characters of RFC 2046, without a trick."""
    assert boundary_of(content_type) == boundary

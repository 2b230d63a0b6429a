"""JSON that every parser reads alike, or none at all."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.strict_json import LARGE, Unreadable, find, parse, tokens


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"not json",
        b"{",
        b'{"a": 1} {"a": 2}',
        b'{"a": 1}x',
        b'{"a": 1,}',
        b"[1,]",
        b"{'a': 1}",
        b'{"a": 1} // comment',
        b"/* comment */ {}",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": .5}',
        b'{"a": 01}',
        b'{"a": 0x10}',
        b'{"a": "\x00"}',
        b'{"a": "\n"}',
        b'{"a": "\xff"}',
        b'{"a": "\xed\xa0\x80"}',
        b'{"a": "\xc0\xae"}',
        b"\xef\xbb\xbf{}",
        '{"a": 1}'.encode("utf-16"),
        '{"a": 1}'.encode("utf-16-le"),
        '{"a": 1}'.encode("utf-32"),
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b"1" * 5_000,
        b"1e99999999999999999999",
        b"1e-99999999999999999999",
        b'{"a": "\\ud8"}',
    ],
)
def test_what_is_not_one_json_document_in_utf_8_is_refused(body: bytes) -> None:
    """M02: encodings, constants, comments, trailing text, endless nesting and endless numbers."""
    with pytest.raises(Unreadable) as caught:
        parse(body)
    assert 0 < len(str(caught.value)) < 200


def test_the_message_never_repeats_the_body() -> None:
    """A body may hold secrets; what is wrong with it can be said without it."""
    with pytest.raises(Unreadable) as caught:
        parse(b'{"password": "hunter2", oops}')
    assert "hunter2" not in str(caught.value)


def test_numbers_are_exact() -> None:
    """Integers and decimals arrive as they were written, whatever their size."""
    document = parse(b'{"a": 0.1, "b": 9007199254740993, "c": 1e2, "d": -0.0, "e": 123456789012345678901234567890.5}')
    assert document["a"] == Decimal("0.1")
    assert document["b"] == 9007199254740993
    assert document["c"] == Decimal(100)
    assert document["d"] == 0
    assert document["e"] == Decimal("123456789012345678901234567890.5")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b'{"model": "a", "model": "b"}', "/model"),
        (b'{"model": "a", "model": "a"}', "/model"),
        (b'{"model": "a", "mod\\u0065l": "b"}', "/model"),
        (b'{"model": "a", "Model": "b"}', "/model"),
        (b'{"MODEL": "b"}', "/model"),
        (b'{"model": "a", "\\u212a": 1, "k": 2}', "/k"),
        (b'{"stra\\u00dfe": 1, "strasse": 2}', "/strasse"),
        (b'{"o": {"m": 1}, "o": {"m": 2}}', "/o/m"),
        (b'{"O": {"m": 1}}', "/o/m"),
        (b'{"o": {"m": 1, "M": 2}}', "/o/m"),
        (b'{"l": [{"m": 1, "m": 2}]}', "/l/0/m"),
        (b'{"x": 1, "x": 2, "model": "a"}', "/model"),
    ],
)
def test_an_ambiguous_way_to_a_value_is_refused(body: bytes, pointer: str) -> None:
    """M01: a key given twice, or in two spellings, on the way to what decides."""
    document = parse(body)
    with pytest.raises(Unreadable):
        find(document, tokens(pointer))


def test_ambiguity_is_found_among_many_keys() -> None:
    """Where each of them is compared once, although the object is asked for each call of a GraphQL request."""
    many = {f"key {number}": number for number in range(LARGE * 100)}
    document = parse(json.dumps(many | {"Model": 1, "x": 2, "X": 3, "\u017f": 4}).encode())
    assert [find(document, (key,)) for key in ("Model", "key 7", "none")] == [1, 7, None]
    for key in ("model", "x", "X", "s"):
        with pytest.raises(Unreadable, match="two spellings"):
            find(document, (key,))
    assert sum(map(len, document.spellings.values())) == len(document)
    assert document.spellings is document.spellings


def test_ambiguity_elsewhere_does_no_harm() -> None:
    """What nobody asks for may be as odd as JSON allows."""
    document = parse(b'{"model": "a", "tools": {"x": 1, "x": 2, "X": 3}}')
    assert find(document, tokens("/model")) == "a"


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("", {"a": {"b/c": [1, {"d~e": None}]}, "": 5}),
        ("/", 5),
        ("/a/b~1c/0", 1),
        ("/a/b~1c/1/d~0e", None),
        ("/a/b~1c/2", None),
        ("/a/b~1c/-1", None),
        ("/a/b~1c/-", None),
        ("/a/b~1c/x", None),
        ("/a/b~1c/\u0661", None),
        ("/a/b~1c/0/deeper", None),
        ("/nope", None),
        ("/nope/deeper", None),
    ],
)
def test_pointers(pointer: str, value: object) -> None:
    """RFC 6901: escapes, array indexes, the whole document; what is not there is None."""
    document = parse(b'{"a": {"b/c": [1, {"d~e": null}]}, "": 5}')
    assert find(document, tokens(pointer)) == value


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.text(st.characters(codec="utf-8"), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abAB", max_size=2), inner, max_size=3),
    max_leaves=10,
)


@settings(deadline=None)
@given(JSON)
def test_valid_documents_are_read_like_everywhere(document: Any) -> None:
    """What one JSON library writes is read as the same value."""
    assert parse(json.dumps(document).encode()) == document
    assert parse(json.dumps(document, ensure_ascii=False).encode()) == document


@settings(deadline=None)
@given(st.binary(max_size=60) | st.text(st.sampled_from('{}[]":,\\u0123 eE.-nulltrue'), max_size=60).map(str.encode))
def test_any_bytes_are_a_document_or_unreadable(body: bytes) -> None:
    """No input raises anything else."""
    try:
        document = parse(body)
        find(document, tokens("/a/0/b"))
    except Unreadable:
        return

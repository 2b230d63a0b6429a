"""One value of a JSON text is changed, and not a byte beside it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import strict_json
from proxy.json_spans import replaced


@pytest.mark.parametrize(
    ("text", "pointer", "expected"),
    [
        ('{"a": 1}', "/a", '{"a": 9}'),
        ('{"a":1,"b":2}', "/b", '{"a":1,"b":9}'),
        ('{ "x" : [ 1 , {"a" : 1.50e3 } , 2 ] }', "/x/1/a", '{ "x" : [ 1 , {"a" : 9 } , 2 ] }'),
        (" \n[1,\t2 ,3]\r\n", "/2", " \n[1,\t2 ,9]\r\n"),
        ('{"a\\u0062": 1, "ab2": 2}', "/ab", '{"a\\u0062": 9, "ab2": 2}'),
        ('{"s": "} , \\" ]", "a": null}', "/a", '{"s": "} , \\" ]", "a": 9}'),
        ('{"a/b": {"~": true}}', "/a~1b/~0", '{"a/b": {"~": 9}}'),
        ("5", "", "9"),
        (
            '{"n": 1.0, "big": 12345678901234567890.10, "a": 1}',
            "/a",
            '{"n": 1.0, "big": 12345678901234567890.10, "a": 9}',
        ),
    ],
)
def test_only_the_value_is_changed(text: str, pointer: str, expected: str) -> None:
    assert replaced(text, strict_json.tokens(pointer), "9") == expected


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        ("{}", "/a"),
        ("[]", "/0"),
        ("[1]", "/1"),
        ("[1]", "/a"),
        ('{"a": 1}', "/a/b"),
        ('{"a": {"b": 1}}', "/b"),
        ("5", "/a"),
    ],
)
def test_what_is_not_there_is_not_changed(text: str, pointer: str) -> None:
    with pytest.raises(KeyError):
        replaced(text, strict_json.tokens(pointer), "9")


documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


def _paths(document: Any) -> list[tuple[str, ...]]:
    inner = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [(), *((str(key), *path) for key, value in inner for path in _paths(value))]


@given(documents, st.integers(0, 1000), st.sampled_from([None, 2]), st.booleans())
def test_any_value_of_any_document(document: Any, choice: int, indent: int | None, ascii_: bool) -> None:
    """Whatever the text looks like: parsed again, that one value is another, and before and behind it nothing is."""
    text = json.dumps(document, indent=indent, ensure_ascii=ascii_)
    paths = _paths(document)
    path = paths[choice % len(paths)]
    changed = replaced(text, path, '"a new value"')
    expected = json.loads(text)
    if not path:
        expected = "a new value"
    else:
        holder = expected
        for token in path[:-1]:
            holder = holder[int(token) if isinstance(holder, list) else token]
        holder[int(path[-1]) if isinstance(holder, list) else path[-1]] = "a new value"
    assert json.loads(changed) == expected
    at = changed.index('"a new value"')
    assert text.startswith(changed[:at])
    assert text.endswith(changed[at + len('"a new value"') :])

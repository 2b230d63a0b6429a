"""Changing one value of a JSON text: nothing else changes, and what was changed is read again."""

from __future__ import annotations

from typing import Any

from proxy import strict_json
from proxy.json_spans import replaced
from proxy.strict_json import Unreadable
from tests.fuzz.inputs import Bytes

_PATHS = [("a",), ("a", "b"), ("a", "0"), ("0",), ("1", "a"), (), ("stream", "é"), ("a", "10")]
WORDS = [
    *rb'{ } [ ] , : "a" "b" "\u0061" "stream" "\u00e9" 0 1.50e3 null {"a":{"b":1}} [1,{"a":2}] \\ \"'.split(),
    b"\n ",
]
SEEDS = [
    b'\x00{"a": {"b": [1, {"a": 2}]}, "stream": true}',
    b'\x01{"a": {"b": 1.50e3}, "x": "}"}',
    b"\x04[1, [2, 3], {}]",
]
_NEW = "[7]"


def check(data: bytes) -> None:
    source = Bytes(data)
    path = _PATHS[source.choice(len(_PATHS))]
    try:
        document = strict_json.parse(source.rest())
        before = strict_json.find(document, path)
    except Unreadable:
        return
    text = source.rest().decode()
    try:
        changed = replaced(text, path, _NEW)
    except KeyError:
        assert before is None
        return
    after = strict_json.parse(changed.encode())
    assert strict_json.find(after, path) == [7]
    _put(after, path, before)
    assert _same(after, document) or not path


def _put(document: Any, path: tuple[str, ...], value: Any) -> None:
    for token in path[:-1]:
        document = document[token] if isinstance(document, dict) else document[int(token)]
    if path:
        document[path[-1] if isinstance(document, dict) else int(path[-1])] = value


def _same(one: Any, other: Any) -> bool:
    """Equal, also where numbers are beyond comparing."""
    return repr(one) == repr(other)

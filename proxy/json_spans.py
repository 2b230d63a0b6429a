"""Changing one value of a JSON text and nothing else: not a space, not the digits of another number, not an order.

A document that is parsed and written again is another text: clients and signatures may see the difference. Called with
documents that `proxy.strict_json` has read, so what is looked for is there, once. Pure.
"""

from __future__ import annotations

import json
import re
from json.decoder import scanstring  # type: ignore[attr-defined]  # the decoder's own reader of texts

_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


def replaced(text: str, path: tuple[str, ...], value: str) -> str:
    """The text with `value`, itself JSON, in the place of what stands at the end of `path`.

    Raises KeyError where nothing stands there.
    """
    at = _skip(text, 0)
    for token in path:
        at = _member(text, at, token) if text[at] == "{" else _item(text, at, token)
    return text[:at] + value + text[_end(text, at) :]


def _member(text: str, at: int, key: str) -> int:
    """Where the value of a key of the object at `at` begins."""
    at = _skip(text, at + 1)
    while text[at] != "}":
        name, at = scanstring(text, at + 1)
        # Behind the colon.
        at = _skip(text, _skip(text, at) + 1)
        if name == key:
            return at
        at = _next(text, at)
    raise KeyError(key)


def _item(text: str, at: int, index: str) -> int:
    """Where an item of the array at `at` begins."""
    if text[at] != "[" or not index.isdecimal():
        raise KeyError(index)
    at = _skip(text, at + 1)
    for _ in range(int(index)):
        if text[at] == "]":
            break
        at = _next(text, at)
    if text[at] == "]":
        raise KeyError(index)
    return at


def _next(text: str, at: int) -> int:
    """Behind the value at `at`, and behind the comma that follows it."""
    at = _skip(text, _end(text, at))
    return _skip(text, at + 1) if text[at] == "," else at


def _end(text: str, at: int) -> int:
    return _DECODER.raw_decode(text, at)[1]


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None, "it matches nothing, too"
    return found.end()

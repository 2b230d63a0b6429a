"""Models and units in JSON bodies: what we read is what other parsers read, or the request was refused.

One is written in Rust and takes the last of two equal keys; one takes the first; one makes no difference between
capitals and small letters, as that of Go does.
"""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any

from pydantic_core import from_json

from config.routes import Route
from policies.refusals import Reason, Refusal
from proxy.pipeline.extraction import extract
from proxy.pipeline.parts import RequestParts

_ROUTE = Route.model_validate(
    {
        "id": "r",
        "match": "POST /r",
        "upstream": "u",
        "app": "shop",
        "model": {"json": ["/model", "/a/0/model"]},
        "units": {
            "n": {"json": "/n", "max": 1000, "optional": True},
            "items": {"json": "/a", "length": True, "max": 9, "optional": True},
            "size": {"json": "/size", "values": {"720p": 720, "4k": 2160}, "optional": True},
            "loud": {"json": "/loud", "present": True},
        },
    }
)
_HEADERS = [("Content-Type", "application/json; charset=utf-8")]
_WORDS = rb"""{ } [ ] , : " "model" "n" "a" "size" "loud" "720p" "Model" "\u006dodel" \ud800 \u0000 null true false 1e3
1E-5 -0 0.1 999999999999999999999 NaN Infinity 1e999999999 {"model":"m"} {"a":[{"model":"m"}]} "model":"m","n":"""
WORDS = _WORDS.split()
SEEDS = [
    b'{"model": "m", "n": 5, "a": [1, 2], "size": "4k", "loud": true}',
    b'{"a": [{"model": "shop:m"}], "n": 12.50, "size": null}',
    b'{"model": "a", "x": {"model": "b", "model": "c"}, "n": 1e2}',
    b'{"model": "a", "model": "b"}',
    b'{"model": "a", "n": 1, "n": 2}',
]


def check(data: bytes) -> None:
    found = extract(_ROUTE, RequestParts({}, "", _HEADERS, data, {}))
    if isinstance(found, Refusal):
        assert found.reason is Reason.INVALID_REQUEST
        return
    try:
        _agrees(from_json(data), *found)
    except ValueError as error:
        # Half of a character is a text to Python and none to Rust; and Rust gives up at a depth of its own.
        assert any(reason in str(error) for reason in ("surrogate", "recursion", "escape")), error
    _agrees(json.loads(data, object_pairs_hook=lambda pairs: dict(reversed(pairs))), *found)
    _agrees(json.loads(data, object_pairs_hook=lambda pairs: {name.casefold(): value for name, value in pairs}), *found)


def _agrees(document: Any, key: str, units: dict[str, Decimal]) -> None:
    assert isinstance(document, dict)
    models = [_at(document, "model"), _at(document, "a", 0, "model")]
    assert [f"shop:{model.removeprefix('shop:')}" for model in models if model is not None] == [key]
    assert _equal(units.get("n"), document.get("n"))
    assert units.get("items") == (None if document.get("a") is None else len(document["a"]))
    assert units.get("size") == {None: None, "720p": 720, "4k": 2160}[document.get("size")]
    assert units["loud"] == (document.get("loud") not in (None, False, 0, ""))


def _at(document: Any, *path: str | int) -> Any:
    for token in path:
        try:
            document = document[token]
        except (KeyError, IndexError, TypeError):
            return None
    return document


def _equal(ours: Decimal | None, theirs: object) -> bool:
    if ours is None or theirs is None:
        return ours is theirs
    assert isinstance(theirs, int | float)
    return math.isclose(ours, theirs, rel_tol=1e-12, abs_tol=1e-300)

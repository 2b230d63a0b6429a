"""Any text as YAML: the data that PyYAML constructs from it, each value in its place, or findings that can be told."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import yaml

from config.findings import InvalidDocument
from config.yaml_source import MAX_DEPTH, parse_yaml

_WORDS = rb"""a: - ? & * &a *a ! !! !!str !!python/name:os | > >- ' " # --- ... % %YAML { } [ ] , : : ~ null yes no
012 0x1f 1e3 1_000 .inf .nan 12:30:45 2026-01-15 <<: ${A} ${B:-c} ${ \ \x41 \uD800 \U0010FFFF 0 -1 1.5 1.5e+3 = true"""
WORDS = [*_WORDS.split(), b"\n", b"\n  ", b"\t", b"\xc2\x85", b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"\0", b"\r", b": "]
SEEDS = [
    b"a: {b: [1, 2.5, yes, ~, 'x']}\nc: &c 2026-01-15\nd: *c\n",
    b"a: |\n  x\n  y\nb: >-\n  z\n? e\n: f\n",
    b"a: 1\nb: 2\na: 3\n",
]


def check(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    try:
        source = parse_yaml("f.yaml", text)
    except InvalidDocument as error:
        can_be_told(error, text)
        return
    assert set(source.positions) == set(_places(source.data)) | {()}
    lines = text.splitlines() or [""]
    assert all(1 <= line <= len(lines) + 1 and column >= 1 for line, column in source.positions.values())
    assert len(source.lines) == len(text.splitlines())
    if not source.findings:
        assert _same(source.data, yaml.load(text, _Plain))


def can_be_told(error: InvalidDocument, text: str) -> None:
    """There is something to tell, with a place in the text, and it can be written to a log."""
    assert error.findings
    lines = len(text.splitlines()) + 1
    assert all(1 <= found.line <= lines and found.column >= 1 and found.message for found in error.findings)
    str(error).encode("utf-8", "backslashreplace")


class _Plain(yaml.SafeLoader):
    """Dates stay texts."""


_Plain.add_constructor("tag:yaml.org,2002:timestamp", _Plain.construct_yaml_str)


def _places(data: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    assert len(path) <= MAX_DEPTH
    parts: Any = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [place for key, value in parts for place in ((*path, key), *_places(value, (*path, key)))]


def _same(ours: object, theirs: object) -> bool:
    if isinstance(ours, dict):
        assert isinstance(theirs, dict)
        # Our keys are texts, whatever YAML makes of them.
        pairs = list(zip(ours.values(), theirs.values(), strict=False))
        return all(_same(one, other) for one, other in pairs) if len(ours) == len(theirs) else True
    if isinstance(ours, list):
        return isinstance(theirs, list) and all(_same(a, b) for a, b in zip(ours, theirs, strict=True))
    if isinstance(ours, Decimal):
        return isinstance(theirs, float) and float(ours) == theirs
    return type(ours) is type(theirs) and ours == theirs

"""Request paths: one canonical reading, and the table that finds a route by it.

A path is matched by its decoded segments and forwarded exactly as it came. That is only safe where every backend
reads the same segments from it; whatever could be read in two ways is refused: dot segments, empty segments, encoded
slashes, backslashes, control characters, broken percent encodings (RFC 3986 §3.3, §6.2.2).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Generic, TypeVar
from urllib.parse import unquote, unquote_to_bytes

from policies.refusals import Refusal, invalid_request
from policies.values import value

_PATH = re.compile(r"/[A-Za-z0-9\-._~!$&'()*+,;=:@%/\[\]|^\"<>{}]*")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_FORBIDDEN_ESCAPE = re.compile(r"%(?:2[fF]|5[cC]|[01][0-9A-Fa-f]|7[fF])")

Value = TypeVar("Value")


@value
class Target:
    """A request target: the path as it came, its decoded segments, and the raw query without its `?`."""

    raw: str
    segments: tuple[str, ...]
    query: str


LONG = 200
"""Characters of a target; longer ones have something of their own in them, and do not come again."""

REMEMBERED = 1024
"""Targets that are remembered with their reading: the paths of an API come again and again."""


def parse_target(raw: str) -> Target | Refusal:
    """The one reading of a request target in origin form (RFC 9112 §3.2.1), or why it is refused."""
    return _remembered(raw) if len(raw) <= LONG else _parse(raw)


def _parse(raw: str) -> Target | Refusal:
    path, _, query = raw.partition("?")
    if "#" in raw or not _PATH.fullmatch(path):
        return _ambiguous("expected an absolute path of URL characters")
    if any(not " " < character <= "~" for character in query):
        return _ambiguous("the query has characters that are not allowed in a URL")
    if _BROKEN_ESCAPE.search(path) or _FORBIDDEN_ESCAPE.search(path):
        return _ambiguous("the path has a broken or forbidden percent encoding")
    try:
        segments = tuple(unquote_to_bytes(segment).decode() for segment in path[1:].split("/"))
    except UnicodeDecodeError:
        return _ambiguous("the path is not UTF-8")
    # As those read it, too, who cut `;parameters` or decode once more before they climb.
    names = [_named(segment) for segment in segments]
    if any(not {".", ".."}.isdisjoint(re.split(r"[/\\]", name)) for name in names):
        return _ambiguous("the path has dot segments")
    if "" in names[:-1]:
        return _ambiguous("the path has empty segments")
    return Target(raw, segments, query)


_remembered = lru_cache(REMEMBERED)(_parse)


def _ambiguous(why: str) -> Refusal:
    return invalid_request(f"The request path cannot be read in only one way: {why}", "path")


def lenient(segments: Sequence[str]) -> tuple[str, ...]:
    """The segments as lenient backends read them, of a path or of a pattern.

    Common frameworks ignore case and a slash at the end, cut `;parameters`, or decode once more. A pattern's `{name}`
    and its wildcards stay.
    """
    loose = tuple(segment if segment.startswith("{") else _loosely(segment) for segment in segments)
    return loose[:-1] if len(loose) > 1 and loose[-1] == "" else loose


def without_format(segments: tuple[str, ...]) -> tuple[str, ...]:
    """The segments as frameworks read them that take the form of an answer from the path: `/chat.json` as `/chat`."""
    stem = segments[-1].rpartition(".")[0]
    return (*segments[:-1], stem) if stem else segments


def _loosely(segment: str) -> str:
    return _named(segment).rstrip(". ").casefold()


def _named(segment: str) -> str:
    """What lenient backends look up for a segment."""
    name = unquote(segment) if "%" in segment else segment
    return name.partition(";")[0].strip(" ")


@value
class Found(Generic[Value]):
    """A route, with what its path parameters stand for."""

    value: Value
    parameters: Mapping[str, str]


@dataclass(slots=True)
class _Node(Generic[Value]):
    literal: dict[str, _Node[Value]] = field(default_factory=dict)
    wild: _Node[Value] | None = None
    leaves: dict[str, tuple[Value, tuple[str | None, ...]]] = field(default_factory=dict)
    tails: dict[str, tuple[Value, tuple[str | None, ...]]] = field(default_factory=dict)


class PathTable(Generic[Value]):
    """Finds the most specific pattern: from left to right, a text before a parameter before `**`.

    The order in which patterns are added makes no difference, and the cost does not grow with their number.
    """

    def __init__(self) -> None:
        self._root: _Node[Value] = _Node()

    def add(self, method: str, segments: Sequence[str], value: Value) -> None:
        """`{name}` and `*` stand for one segment that is not empty, a final `**` for any number of segments."""
        node, names = self._root, list[str | None]()
        for segment in segments:
            if segment == "**":
                node.tails[method] = (value, tuple(names))
                return
            if segment == "*" or segment.startswith("{"):
                names.append(segment[1:-1] or None if segment != "*" else None)
                node.wild = node.wild or _Node()
                node = node.wild
            else:
                node = node.literal.setdefault(segment, _Node())
        node.leaves[method] = (value, tuple(names))

    def find(self, method: str, segments: Sequence[str]) -> Found[Value] | None:
        return self._find(self._root, method, segments, 0, ())

    def _find(
        self, node: _Node[Value], method: str, segments: Sequence[str], at: int, taken: tuple[str, ...]
    ) -> Found[Value] | None:
        if at == len(segments):
            found = _of_method(node.leaves, method, taken)
        else:
            segment = segments[at]
            deeper = node.literal.get(segment)
            found = self._find(deeper, method, segments, at + 1, taken) if deeper is not None else None
            if found is None and node.wild is not None and segment:
                found = self._find(node.wild, method, segments, at + 1, (*taken, segment))
        return found or _of_method(node.tails, method, taken)


def _of_method(
    leaves: Mapping[str, tuple[Value, tuple[str | None, ...]]], method: str, taken: tuple[str, ...]
) -> Found[Value] | None:
    """HEAD is answered by the route of GET, at the same price, so that it is no way around it."""
    leaf = leaves.get(method) or (leaves.get("GET") if method == "HEAD" else None) or leaves.get("*")
    if leaf is None:
        return None
    value, names = leaf
    return Found(value, {name: text for name, text in zip(names, taken, strict=False) if name is not None})

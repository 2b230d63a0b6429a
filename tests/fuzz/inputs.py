"""What targets make of the bytes that they are given: choices, places to cut, and what is left."""

from __future__ import annotations

from collections.abc import Coroutine
from itertools import pairwise
from typing import Any


class Bytes:
    """The bytes of one input, taken from the front."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def choice(self, count: int) -> int:
        """A number below `count`; 0 when nothing is left."""
        first, self._data = self._data[:1], self._data[1:]
        return first[0] % count if first else 0

    def taken(self, count: int) -> bytes:
        """Some bytes, fewer when fewer are left."""
        first, self._data = self._data[:count], self._data[count:]
        return first

    def cut_up(self) -> list[bytes]:
        """All that is left in up to eight pieces. None of them is empty."""
        places = self.taken(self.choice(8))
        return cut(self._data, [place * len(self._data) // 255 for place in places])

    def rest(self) -> bytes:
        return self._data


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The data, cut at these places."""
    ends = sorted({0, len(data), *places})
    return [data[start:end] for start, end in pairwise(ends)]


def singly(data: bytes) -> list[bytes]:
    """Byte by byte."""
    return [data[at : at + 1] for at in range(len(data))]


def at_once(asking: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine returns that has nothing to wait for."""
    try:
        asking.send(None)
    except StopIteration as ended:
        return ended.value
    raise AssertionError("it waits for something")

"""Making inputs few and short: which of many reach something new, and how little of one still finds its fault."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any

Check = Callable[[bytes], None]
Arc = tuple[str, int, int]

_HOUSE = str(Path(__file__).parents[2])
_ROOMS = tuple(f"{_HOUSE}/{room}/" for room in ("proxy", "policies", "config"))

MAX_TRIES = 2000
"""Attempts to shorten one input: seconds."""


def reached(check: Check, data: bytes) -> set[Arc]:
    """Every step from one line of our rooms to another that the check of an input makes."""
    arcs: set[Arc] = set()

    def follow(frame: FrameType, event: str, argument: Any) -> Any:
        file = frame.f_code.co_filename
        if not file.startswith(_ROOMS):
            return None
        before = frame.f_lineno

        def step(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal before
            if event == "line":
                arcs.add((file, before, frame.f_lineno))
                before = frame.f_lineno
            return step

        return step

    sys.settrace(follow)
    try:
        fault_of(check, data)
    finally:
        sys.settrace(None)
    return arcs


def that_add(check: Check, known: Iterable[bytes], new: Iterable[bytes]) -> list[bytes]:
    """The inputs, the shortest first, that reach something that neither the known ones do nor those before them."""
    seen = {arc for data in known for arc in reached(check, data)}
    adding = []
    for data in sorted(new, key=lambda data: (len(data), data)):
        if arcs := reached(check, data) - seen:
            seen |= arcs
            adding.append(data)
    return adding


def fault_of(check: Check, data: bytes) -> str | None:
    """The kind and the place of the exception that an input raises."""
    try:
        check(data)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} in {Path(last.filename).stem}.{last.name}: {last.line}"
    return None


def shortened(check: Check, data: bytes) -> bytes:
    """An input with the same fault from which little can be taken away."""
    fault, size, tries = fault_of(check, data), len(data) // 2, 0
    while size and tries < MAX_TRIES:
        at = 0
        while at < len(data) and tries < MAX_TRIES:
            less, tries = data[:at] + data[at + size :], tries + 1
            if fault_of(check, less) == fault:
                data = less
            else:
                at += size
        size //= 2
    return data

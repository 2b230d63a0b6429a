"""What Farebox was installed with: whether it is new enough, and whether requests are parsed as they should be.

Asked before anything else at a start, and by `farebox check`. A lock file pins what the tests have run with; what a
machine really has is another matter, since a package manager may have put something older in its place. A floor is the
version that ended the last known advisory which reaches this service; it is no wish for what is new.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

import aiohttp.http_parser

COMPILED = "aiohttp._http_parser"

HttpParser = Literal["compiled", "any"]


@dataclass(frozen=True, slots=True)
class Floor:
    """The oldest version of a distribution that may be used, and what older ones get wrong."""

    name: str
    version: str
    reason: str


FLOORS = (
    Floor("aiohttp", "3.14.4", "requests can be smuggled past the gate (CVE-2026-111750, CVE-2026-69243)"),
    Floor("PyJWT", "2.13.0", "a token can be verified by another algorithm than its key is for"),
    Floor("cryptography", "46.0.7", "it reads and writes beyond buffers (CVE-2026-39892)"),
    Floor("brotli", "1.2.0", "a few bytes unpack to more than all memory (CVE-2025-6176)"),
)

DEAD = {"casbin": "it stopped in 2025 and installs the same package as pycasbin, so the last one written wins"}
"""Distributions that must not be there, each with the reason."""

_RELEASE = re.compile(r"v?(?:[0-9]+!)?([0-9]+(?:\.[0-9]+)*)[._-]?(a|b|c|rc|alpha|beta|pre|preview|dev)?")


def installed(name: str) -> str | None:
    """The version of a distribution, from its metadata; None when there is none."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def troubles(parser: HttpParser, find: Callable[[str], str | None] = installed) -> list[str]:
    """Everything that is wrong with what is installed: a sentence each, which says what to run."""
    return [*_floors(find), *_dead(find), *(_python_parser() if parser == "compiled" else ())]


def _floors(find: Callable[[str], str | None]) -> Iterator[str]:
    for floor in FLOORS:
        found = find(floor.name)
        if found is None or _order(found) < _order(floor.version):
            has = f"{floor.name} {found} is installed" if found is not None else f"{floor.name} is not installed"
            yield (
                f"{has}, and at least {floor.version} is needed: before that {floor.reason}; "
                f"run: pip install --upgrade '{floor.name}>={floor.version}'"
            )


def _dead(find: Callable[[str], str | None]) -> Iterator[str]:
    for name, reason in DEAD.items():
        if find(name) is not None:
            run = f"run: pip uninstall {name}, then: pip install --force-reinstall pycasbin"
            yield f"{name} is installed: {reason}; {run}"


def _python_parser() -> Iterator[str]:
    """aiohttp's fallback is slower and more lenient, and comes silently where no compiled wheel fits."""
    if not is_compiled():
        yield (
            "aiohttp was installed without its compiled HTTP parser, and the one in Python accepts more; "
            "run: pip install --force-reinstall --only-binary aiohttp aiohttp "
            "(or accept it with `http_parser: any` in farebox.yaml)"
        )


def is_compiled() -> bool:
    return aiohttp.http_parser.HttpRequestParser.__module__ == COMPILED


def _order(text: str) -> tuple[tuple[int, ...], bool]:
    """Versions in their order (PEP 440), as far as floors need it: what comes before a release is below it."""
    found = _RELEASE.match(text.strip().lower())
    if found is None:
        return (), False
    numbers = [int(number) for number in found[1].split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers), found[2] is None

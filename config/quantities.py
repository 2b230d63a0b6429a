"""Durations, sizes and addresses as people write them: `300s`, `1MiB`, `127.0.0.1:8080`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

_DURATION = re.compile(r"([0-9]{1,12})(ms|s|m|h|d)")
_MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_SIZE = re.compile(r"([0-9]{1,12})(B|kB|MB|GB|KiB|MiB|GiB)")
_BYTES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:\s]+)):([0-9]{1,5})")

MAX_DURATION = timedelta(days=3660)

MAX_SIZE = 2**30
"""Bytes: sizes bound what is kept in memory for one request."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. Port 0 asks the system for a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _duration(value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("expected a duration with its unit, such as 500ms, 30s, 5m, 2h or 7d")
    milliseconds = int(match[1]) * _MILLISECONDS[match[2]]
    if not 0 < milliseconds <= MAX_DURATION // timedelta(milliseconds=1):
        raise ValueError("expected a duration of more than zero and at most ten years")
    return timedelta(milliseconds=milliseconds)


def _size(value: object) -> int:
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("expected a size with its unit, such as 64KiB, 1MiB or 10MB")
    size = int(match[1]) * _BYTES[match[2]]
    if not 0 < size <= MAX_SIZE:
        raise ValueError("expected a size of more than zero and at most 1GiB")
    return size


def _address(value: object) -> Address:
    match = _ADDRESS.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match[3]) > 65535:
        raise ValueError("expected an address with a port, such as 127.0.0.1:8080 or [::1]:8080")
    return Address(match[1] or match[2], int(match[3]))


Duration = Annotated[timedelta, BeforeValidator(_duration), WithJsonSchema({"type": "string"})]
Size = Annotated[int, BeforeValidator(_size), WithJsonSchema({"type": "string"})]
ListenAddress = Annotated[Address, BeforeValidator(_address), WithJsonSchema({"type": "string"})]

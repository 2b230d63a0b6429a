"""Compressed bodies: what was decoded is what the tools of each format make of the same bytes."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import brotli

from proxy.pipeline.codings import TooLong, decoded
from proxy.strict_json import Unreadable
from tests.fuzz.inputs import Bytes

_LIMIT = 1000
_BODY = b'{"model": "m"}'
_TOOLS: list[tuple[str, Callable[[bytes], bytes], Callable[[bytes], bytes]]] = [
    ("gzip", gzip.decompress, lambda content: gzip.compress(content, mtime=0)),
    ("deflate", zlib.decompress, zlib.compress),
    ("br", brotli.decompress, brotli.compress),
]
WORDS = [pack(content) for _, _, pack in _TOOLS for content in (b"", _BODY, _BODY * 20, b"\0" * 2000)]
SEEDS = [
    bytes([number]) + pack(_BODY) + end for number, (_, _, pack) in enumerate(_TOOLS) for end in (b"", b"\0", b"x")
]
WORDS += [b"\x1f\x8b\x08\x00", b"\x78\x9c", b"\x00\x00\xff\xff", b"\x03", b"\x06", b"\x1a"]


def check(data: bytes) -> None:
    source = Bytes(data)
    coding, unpack, pack = _TOOLS[source.choice(len(_TOOLS))]
    body = source.rest()
    try:
        content = decoded(body, coding, _LIMIT)
    except TooLong:
        return
    except Unreadable:
        # What a tool of the format has written is never refused for its form.
        packed = pack(body[:_LIMIT])
        assert decoded(packed, coding, _LIMIT) == body[:_LIMIT]
        return
    assert len(content) <= _LIMIT
    assert content == unpack(body)

"""Decoding a compressed request body aside, to read what decides from it. The bytes themselves are forwarded. Pure.

Decoders differ on what they do with a second member, with bytes behind the end, and with `deflate` without its wrapper
(RFC 9110 §8.4.1.2); what could be another body elsewhere is refused.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import brotli

from proxy.strict_json import Unreadable

CODINGS = ("gzip", "x-gzip", "deflate", "br")

_WINDOW_BITS = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}


class TooLong(Exception):
    """More than the bound, once it is decoded."""


def coding_of(values: Sequence[str]) -> str | None:
    """The one coding that `Content-Encoding` names, or None for a body that has none. Raises Unreadable."""
    codings = [value.strip(" \t").lower() for value in values]
    if codings in ([], [""], ["identity"]):
        return None
    if len(codings) != 1 or codings[0] not in CODINGS:
        raise Unreadable(f"it is compressed in another way than one of {', '.join(CODINGS)}")
    return codings[0]


def decoded(body: bytes, coding: str, limit: int) -> bytes:
    """The content of a whole body, at most `limit` bytes of it. Raises TooLong or Unreadable."""
    return _brotli(body, limit) if coding == "br" else _inflated(body, _WINDOW_BITS[coding], limit)


def _inflated(body: bytes, window_bits: int, limit: int) -> bytes:
    decoder = zlib.decompressobj(wbits=window_bits)
    try:
        content = decoder.decompress(body, limit + 1)
    except zlib.error:
        raise Unreadable("it is not compressed as it says") from None
    if len(content) > limit:
        raise TooLong
    if not decoder.eof or decoder.unused_data:
        raise Unreadable("its compressed content is cut short, or followed by something")
    return content


def _brotli(body: bytes, limit: int) -> bytes:
    decoder = brotli.Decompressor()
    try:
        content = decoder.process(body, output_buffer_limit=limit + 1)
        while len(content) <= limit and not decoder.is_finished() and not decoder.can_accept_more_data():
            content += decoder.process(b"", output_buffer_limit=limit + 1 - len(content))
    except brotli.error:
        raise Unreadable("it is not compressed as it says") from None
    if len(content) > limit:
        raise TooLong
    if not decoder.is_finished():
        raise Unreadable("its compressed content is cut short, or followed by something")
    return bytes(content)

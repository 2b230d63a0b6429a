"""Compressed request bodies: decoded within a bound, and refused where another decoder could find another body."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.pipeline.codings import CODINGS, TooLong, coding_of, decoded
from proxy.strict_json import Unreadable

ENCODE = {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress}
LIMIT = 1000


@pytest.mark.parametrize("coding", CODINGS)
@given(content=st.binary(max_size=LIMIT))
def test_what_was_encoded_is_decoded(coding: str, content: bytes) -> None:
    """Also what is empty, and what fills the bound exactly."""
    assert decoded(ENCODE[coding](content), coding, LIMIT) == content


@pytest.mark.parametrize("coding", CODINGS)
def test_what_could_be_another_body_is_refused(coding: str) -> None:
    """M07: cut short, followed by something, by a second member, by nothing at all, or not what it says."""
    good = ENCODE[coding](b'{"model": "a"}')
    other = zlib.compress(b"x", wbits=-15)
    for bad in (b"", good[:-1], good[:5], good + b"\0", good + good, b'{"model": "a"}', other):
        with pytest.raises(Unreadable):
            decoded(bad, coding, LIMIT)


@pytest.mark.parametrize("coding", CODINGS)
def test_a_bomb_is_not_opened(coding: str) -> None:
    """Of fifty mebibytes of nothing, little more than the bound is ever in memory."""
    bomb = ENCODE[coding](b"\0" * 50 * 2**20)
    tracemalloc.start()
    with pytest.raises(TooLong):
        decoded(bomb, coding, LIMIT)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    with pytest.raises(TooLong):
        decoded(ENCODE[coding](b"x" * (LIMIT + 1)), coding, LIMIT)


def test_codings_by_name() -> None:
    """One of those that can be read, in any case; two are none."""
    assert [coding_of(values) for values in ([], [""], ["identity"], ["GZIP"], [" br "])] == [
        None,
        None,
        None,
        "gzip",
        "br",
    ]
    for values in (["gzip, gzip"], ["gzip", "br"], ["zstd"], ["compress"], ["gzip;q=1"]):
        with pytest.raises(Unreadable):
            coding_of(values)

"""Frames from bytes: the same however they are cut, strict where RFC 6455 is, and what another library writes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from proxy.websocket.frames import Code, FrameReader, Part, close_frame

SMALL = 2**10
MESSAGES = st.lists(
    st.tuples(st.binary(max_size=300), st.booleans(), st.integers(1, 4), st.booleans()), min_size=1, max_size=5
)
"""Of each its payload, whether it is a text, in how many frames, and whether a ping comes between them."""


def written(messages: list[tuple[bytes, bool, int, bool]], mask: bool) -> bytes:
    """What the `websockets` library makes of them."""
    data = b""
    for payload, is_text, count, pinged in messages:
        ends = [len(payload) * number // count for number in range(count + 1)]
        for number, (start, end) in enumerate(pairwise(ends)):
            opcode = (Opcode.TEXT if is_text else Opcode.BINARY) if number == 0 else Opcode.CONT
            data += Frame(opcode, payload[start:end], fin=number == count - 1).serialize(mask=mask)
            if pinged:
                data += Frame(Opcode.PING, b"!").serialize(mask=mask)
    return data


def read(data: bytes, places: list[int], *, masked: bool, kept: int = 0) -> tuple[list[Part], FrameReader]:
    reader = FrameReader(masked=masked, extended=False, max_message=SMALL, kept=kept)
    ends = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [part for start, end in pairwise(ends) for part in reader.feed(data[start:end])], reader


@given(messages=MESSAGES, masked=st.booleans(), places=st.lists(st.integers(0, 2000), max_size=20))
def test_frames_are_the_same_however_they_are_cut(
    messages: list[tuple[bytes, bool, int, bool]], masked: bool, places: list[int]
) -> None:
    """The bytes are what came; each message begins once and ends once, and a text is read whole."""
    data = written(messages, masked)
    parts, reader = read(data, places, masked=masked, kept=200)
    assert b"".join(part.data for part in parts) == data
    assert reader.bad is None
    assert not reader.in_message
    assert sum(part.begins for part in parts) == sum(part.ends for part in parts) == len(messages)
    texts = [part.text for part in parts if part.ends]
    kept = [payload if is_text and not masked and len(payload) <= 200 else None for payload, is_text, _, _ in messages]
    assert texts == kept
    assert [part for part in parts if part.over][-1] == parts[-1]


@given(data=st.binary(max_size=400), masked=st.booleans(), places=st.lists(st.integers(0, 400), max_size=10))
def test_noise_is_no_fault(data: bytes, masked: bool, places: list[int]) -> None:
    """Whatever comes is passed on up to the first bad frame, and the cuts make no difference."""
    parts, reader = read(data, places, masked=masked)
    whole, other = read(data, [], masked=masked)
    assert data.startswith(b"".join(part.data for part in parts))
    assert b"".join(part.data for part in parts) == b"".join(part.data for part in whole)
    assert (reader.bad is None) == (other.bad is None)


def test_nothing_follows_a_close() -> None:
    """RFC 6455 §5.5.1: what comes behind it is not read, and not passed on."""
    closing = close_frame(Code.GOING_AWAY, "bye", masked=False)
    parts, reader = read(closing + b"\x81\x02hi", [], masked=False)
    assert b"".join(part.data for part in parts) == closing
    assert reader.closed


def test_reserved_bits_need_an_extension() -> None:
    """And a compressed text is not kept: it could not be read."""
    frame = b"\xc1\x01x"
    assert read(frame, [], masked=False)[1].bad is not None
    reader = FrameReader(masked=False, extended=True, max_message=SMALL, kept=SMALL)
    (part,) = reader.feed(frame)
    assert (part.ends, part.text) == (True, None)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 2**16 - 1, 2**16])
def test_lengths_at_the_edges(size: int) -> None:
    """Each of the three ways to write a length, for what it is for."""
    reader = FrameReader(masked=True, extended=False, max_message=2**16)
    parts = reader.feed(Frame(Opcode.BINARY, b"x" * size).serialize(mask=True))
    assert (reader.bad, parts[-1].ends) == (None, True)


def test_a_message_is_bounded_by_its_head() -> None:
    """Before a byte of its payload has come, and over all of its fragments."""
    reader = FrameReader(masked=False, extended=False, max_message=SMALL)
    assert reader.feed(Frame(Opcode.BINARY, b"x" * SMALL, fin=False).serialize(mask=False))
    assert reader.feed(bytes([0x00, 1])) == []
    assert reader.bad is not None
    assert reader.bad.code is Code.TOO_BIG


@pytest.mark.parametrize("masked", [True, False])
def test_a_close_of_ours_is_a_frame(masked: bool) -> None:
    """Another reader finds code and reason in it; a reason that is too long is cut."""
    parts, reader = read(close_frame(Code.POLICY_VIOLATION, "r" * 500, masked=masked), [], masked=masked)
    assert reader.bad is None
    assert reader.closed
    assert len(parts[-1].data) == 2 + 125 + (4 if masked else 0)

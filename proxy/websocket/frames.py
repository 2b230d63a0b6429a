"""Reading WebSocket frames as they pass, in one direction: strict, bounded, sans-I/O (RFC 6455 §5).

The bytes are passed on as they came, so masks, fragments, compression and everything else that two ends agree upon
stay theirs. A frame is passed on in the pieces in which it arrives: a message may be long, and little of it is kept.
"""

from __future__ import annotations

import os
from enum import IntEnum
from typing import NamedTuple


class Code(IntEnum):
    """Why a connection is closed (RFC 6455 §7.4.1)."""

    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    POLICY_VIOLATION = 1008
    TOO_BIG = 1009
    INTERNAL_ERROR = 1011


class BadFrame(Exception):
    """Not what the protocol allows, or more than the bound; `code` and `text` are what its sender is told."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


class Part(NamedTuple):
    """Some bytes of one frame, as they came.

    `begins` when a data message begins with them, `ends` when one is complete with them; `text` is then the whole of
    it, where it is a text that was short enough to be kept, and `missed` tells that one was too long. `over` when the
    frame is complete.
    """

    data: bytes
    begins: bool
    ends: bool
    over: bool
    text: bytes | None
    missed: bool = False


_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_MAX_CONTROL = 125


class FrameReader:
    """The frames of one direction."""

    def __init__(self, *, masked: bool, extended: bool, max_message: int, kept: int = 0) -> None:
        """`masked` for those of the client (RFC 6455 §5.1); `extended` where an extension was agreed upon, which may
        use reserved bits. Texts of up to `kept` bytes are kept; masked or compressed ones cannot be.
        """
        self._masked = masked
        self._extended = extended
        self._max_message = max_message
        self._kept = kept
        self._head = bytearray()
        self._left = 0
        self._opcode = _CONTINUATION
        self._fin = True
        self._size = 0
        self._text: bytearray | None = None
        self._missed = False
        self.in_message = False
        """Whether a message has begun and is not complete."""
        self.closed = False
        """Whether a close frame has come. Nothing that follows it is read, or passed on (RFC 6455 §5.5.1)."""
        self.bad: BadFrame | None = None
        """What is wrong with the frame at which reading has stopped."""

    def feed(self, data: bytes) -> list[Part]:
        """What these bytes are, up to a close frame or a bad one."""
        parts: list[Part] = []
        if self.bad is None:
            try:
                self._read(data, parts)
            except BadFrame as bad:
                self.bad = bad
        return parts

    def _read(self, data: bytes, parts: list[Part]) -> None:
        at = 0
        while at < len(data) and not self.closed:
            begins = False
            header = b""
            if not self._left:
                taken = self._take_head(data, at)
                at += taken
                if not self._is_head_complete():
                    break
                begins = self._begin_frame()
                header = bytes(self._head)
                self._head.clear()
            payload = data[at : at + self._left]
            at += len(payload)
            self._left -= len(payload)
            parts.append(self._part(header + payload, payload, begins))

    # One frame.

    def _take_head(self, data: bytes, at: int) -> int:
        """Bytes of the head that are there: it tells its own length by its second byte."""
        before = len(self._head)
        self._head += data[at : at + max(2 - before, 0)]
        if len(self._head) >= 2:
            self._head += data[at + len(self._head) - before : at + self._head_length() - before]
        return len(self._head) - before

    def _head_length(self) -> int:
        size = self._head[1] & 0x7F
        return 2 + {126: 2, 127: 8}.get(size, 0) + (4 if self._head[1] & 0x80 else 0)

    def _is_head_complete(self) -> bool:
        return len(self._head) >= 2 and len(self._head) == self._head_length()

    def _begin_frame(self) -> bool:
        """Read a complete head; whether a message begins with it."""
        first, second = self._head[0], self._head[1]
        self._fin, self._opcode = bool(first & 0x80), first & 0x0F
        size = second & 0x7F
        if size >= 126:
            size = int.from_bytes(self._head[2 : 4 if size == 126 else 10], "big")
        if bool(second & 0x80) != self._masked:
            raise _wrong("a frame is masked that must not be, or the other way round")
        if first & 0x70 and not self._extended:
            raise _wrong("a frame has a reserved bit set")
        if size < {126: 126, 127: 2**16}.get(second & 0x7F, 0) or size >= 2**63:
            raise _wrong("a frame states its length in an odd way")
        self._left = size
        if self._opcode >= _CLOSE:
            self._check_control(size)
            return False
        return self._begin_data(size)

    def _check_control(self, size: int) -> None:
        if self._opcode not in (_CLOSE, _PING, _PONG):
            raise _wrong("a frame has an unknown opcode")
        if not self._fin or size > _MAX_CONTROL or (self._opcode == _CLOSE and size == 1):
            raise _wrong("a control frame is malformed")

    def _begin_data(self, size: int) -> bool:
        begins = self._opcode != _CONTINUATION
        if self._opcode > _BINARY or begins == self.in_message:
            raise _wrong("a frame has an unknown opcode, or does not continue what it should")
        if begins:
            self._size = 0
            keeps = self._opcode == _TEXT and self._kept and not self._masked and not self._head[0] & 0x70
            self._text, self._missed = bytearray() if keeps else None, False
        # At least one: a message of empty fragments would never end and never be too long.
        self._size += max(size, 1)
        self.in_message = True
        if self._size > self._max_message:
            raise BadFrame(Code.TOO_BIG, f"a message has more than {self._max_message} bytes")
        if self._text is not None and self._size > self._kept:
            self._text, self._missed = None, True
        return begins

    def _part(self, data: bytes, payload: bytes, begins: bool) -> Part:
        over, is_data = not self._left, self._opcode < _CLOSE
        if is_data and self._text is not None:
            self._text += payload
        ends = over and is_data and self._fin
        text = bytes(self._text) if ends and self._text is not None else None
        if ends:
            self.in_message, self._text = False, None
        self.closed = over and self._opcode == _CLOSE
        return Part(data, begins, ends, over, text, ends and self._missed)


def _wrong(text: str) -> BadFrame:
    return BadFrame(Code.PROTOCOL_ERROR, text)


def close_frame(code: Code, reason: str, *, masked: bool) -> bytes:
    """A frame that closes a WebSocket; `masked` for one to a backend (RFC 6455 §5.3, §5.5.1)."""
    payload = code.to_bytes(2, "big") + reason.encode()[: _MAX_CONTROL - 2]
    head = bytes([0x80 | _CLOSE, len(payload) | (0x80 if masked else 0)])
    if not masked:
        return head + payload
    mask = os.urandom(4)
    return head + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))

"""WebSocket frames: the same in any pieces, nothing invented, and the messages that the `websockets` library reads."""

from __future__ import annotations

from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.frames import CTRL_OPCODES, Frame, Opcode
from websockets.streams import StreamReader

from proxy.websocket.frames import Code, FrameReader, close_frame
from tests.fuzz.inputs import Bytes, singly

_MAX, _KEPT = 300, 100
_HEAD = 14
"""Bytes of the longest head of a frame."""
WORDS = [
    *(Frame(Opcode.TEXT, b"x" * size).serialize(mask=False) for size in (0, 2, 125, 126, 301)),
    *(Frame(Opcode.BINARY, b"hi", fin=False).serialize(mask=mask) for mask in (False, True)),
    *(Frame(Opcode.CONT, b"ho", fin=fin).serialize(mask=False) for fin in (False, True)),
    Frame(Opcode.PING, b"!").serialize(mask=False),
    close_frame(Code.GOING_AWAY, "bye", masked=False),
    b"\x7f\x00\x00\x00\x00\x00\x01\x00\x00",
    b"\xff" * 9,
    b"\x82\x7e\x00\x02ok",
]
_FRAMES = [
    (Opcode.TEXT, b"he", False),
    (Opcode.PING, b"", True),
    (Opcode.CONT, b"llo", True),
    (Opcode.CLOSE, b"", True),
]
SEEDS = [
    bytes([mask, 2, 40, 90])
    + b"".join(Frame(code, data, fin=fin).serialize(mask=bool(mask)) for code, data, fin in _FRAMES)
    for mask in (0, 1)
]
_LONG = [Frame(code, b"x" * 200, fin=False).serialize(mask=False) for code in (Opcode.TEXT, Opcode.CONT)]
SEEDS += [b"\0\0" + b"".join(_LONG)]


def check(data: bytes) -> None:
    source = Bytes(data)
    masked = bool(source.choice(2))
    pieces = source.cut_up()
    whole = b"".join(pieces)
    passed, messages, verdict = _read(pieces, masked)
    assert whole.startswith(passed)
    _well_formed(passed)
    for others in ([whole], singly(whole)):
        assert _read(others, masked) == (passed, messages, verdict), "however it is cut"
    theirs, refused = _websockets(whole, masked)
    assert messages == (theirs if verdict is None else theirs[: len(messages)]), "we are stricter at most"
    # A head is judged when it is complete; they look at its first two bytes before.
    assert verdict is not None or refused is None or len(whole) - len(passed) < _HEAD


def _read(pieces: list[bytes], masked: bool) -> tuple[bytes, list[bytes | None], Code | None]:
    """What was passed on, the text of each message that was complete, and why reading stopped."""
    reader = FrameReader(masked=masked, extended=False, max_message=_MAX, kept=_KEPT)
    parts = [part for piece in pieces for part in reader.feed(piece)]
    in_message = sum(part.begins for part in parts) - sum(part.ends for part in parts)
    assert reader.bad or reader.in_message == in_message
    messages = [part.text for part in parts if part.ends]
    return b"".join(part.data for part in parts), messages, reader.bad and reader.bad.code


def _well_formed(passed: bytes) -> None:
    """What other libraries forgive: reserved bits, and lengths that are written longer than need be (RFC 6455 §5.2)."""
    at = 0
    while at + 2 <= len(passed):
        first, second = passed[at], passed[at + 1]
        wide = {126: 2, 127: 8}.get(second & 0x7F, 0)
        size = int.from_bytes(passed[at + 2 : at + 2 + wide], "big") if wide else second & 0x7F
        assert not first & 0x70
        assert size >= {0: 0, 2: 126, 8: 2**16}[wide]
        at += 2 + wide + (4 if second & 0x80 else 0) + size


def _websockets(whole: bytes, masked: bool) -> tuple[list[bytes | None], Exception | None]:
    """The same of another library: the messages, and why it would go no further."""
    stream = StreamReader()
    stream.feed_data(whole)
    messages: list[bytes | None] = []
    message: bytes | None = None
    is_text = False
    while True:
        reading = Frame.parse(stream.read_exact, mask=masked, max_size=_MAX)
        try:
            next(reading)
            return messages, None
        except StopIteration as ended:
            frame: Frame = ended.value
        except (ProtocolError, PayloadTooBig) as error:
            return messages, error
        if frame.opcode is Opcode.CLOSE:
            return messages, None
        if frame.opcode in CTRL_OPCODES:
            continue
        if (frame.opcode is Opcode.CONT) != (message is not None):
            return messages, ProtocolError("not a continuation")
        is_text = frame.opcode is Opcode.TEXT if message is None else is_text
        message = (message or b"") + bytes(frame.data)
        if len(message) > _MAX:
            return messages, PayloadTooBig(len(message), _MAX)
        if frame.fin:
            messages.append(message if is_text and not masked and len(message) <= _KEPT else None)
            message = None

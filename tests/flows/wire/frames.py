"""WebSocket frames as bytes, on both ends of a Farebox (RFC 6455 §5.2)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from tests.flows.raw import PATIENCE_S, Message, RawClient, Script, Visit, request
from tests.flows.wire.wire import Wire

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10

KEY = base64.b64encode(b"sixteen bytes ok").decode()
ACCEPT = base64.b64encode(hashlib.sha1(f"{KEY}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest())
ASKING = ("Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Version: 13")
GRANTED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
    + ACCEPT
    + b"\r\n\r\n"
)


class Frame(NamedTuple):
    opcode: int
    payload: bytes
    masked: bool
    fin: bool


def frame(
    payload: bytes | str = b"", opcode: int = TEXT, *, masked: bool = True, fin: bool = True, rsv: int = 0
) -> bytes:
    """One frame; those of clients are masked."""
    data = payload.encode() if isinstance(payload, str) else payload
    first, mask_bit = (0x80 if fin else 0) | rsv << 4 | opcode, 0x80 if masked else 0
    if len(data) < 126:
        head = bytes([first, mask_bit | len(data)])
    elif len(data) < 2**16:
        head = bytes([first, mask_bit | 126]) + len(data).to_bytes(2, "big")
    else:
        head = bytes([first, mask_bit | 127]) + len(data).to_bytes(8, "big")
    mask = b"\x12\x34\x56\x78"
    return head + (mask + _masked(data, mask) if masked else data)


def _masked(data: bytes, mask: bytes) -> bytes:
    return bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))


def stated(tokens: object) -> bytes:
    """A frame of the backend that states what was used."""
    return frame(json.dumps({"usage": {"tokens": tokens}}), masked=False)


def closing(code: int, reason: str = "", *, masked: bool = True) -> bytes:
    return frame(code.to_bytes(2, "big") + reason.encode(), CLOSE, masked=masked)


async def read_frame(reader: asyncio.StreamReader) -> Frame:
    """The next frame. Raises IncompleteReadError when the connection ends."""
    async with asyncio.timeout(PATIENCE_S):
        first, second = await reader.readexactly(2)
        size = second & 0x7F
        if size >= 126:
            size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8), "big")
        mask = await reader.readexactly(4) if second & 0x80 else b"\0\0\0\0"
        return Frame(
            first & 0x0F, _masked(await reader.readexactly(size), mask), bool(second & 0x80), bool(first & 0x80)
        )


class Closed(NamedTuple):
    """How a WebSocket was closed: 1006 stands for an end without a close frame."""

    code: int
    reason: str = ""


async def until_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None = None) -> Closed:
    """Read on until the end; with a `writer`, answer a close frame as clients do."""
    closed = Closed(1006)
    try:
        while True:
            found = await read_frame(reader)
            if found.opcode == CLOSE:
                closed = Closed(int.from_bytes(found.payload[:2], "big") or 1005, found.payload[2:].decode())
                if writer is not None:
                    writer.write(frame(found.payload, CLOSE))
    except (asyncio.IncompleteReadError, ConnectionError):
        return closed


def granting(talk: Callable[[Visit], Awaitable[None]], head: bytes = GRANTED) -> Script:
    """A backend that grants every WebSocket, talks, and ends the connection."""

    async def script(visit: Visit) -> None:
        await visit.send(head)
        await talk(visit)
        visit.writer.close()

    return script


async def echo(visit: Visit) -> None:
    """Give back every text and every close."""
    while True:
        found = await read_frame(visit.reader)
        await visit.send(frame(found.payload, found.opcode, masked=False))
        if found.opcode == CLOSE:
            return


async def switch(wire: Wire, target: str, *headers: str, user: str | None = "ann") -> tuple[Message, RawClient]:
    """Ask for a WebSocket: the head of the answer, and the connection."""
    client = await wire.connect()
    credential = [wire.bearer(user)] if user else []
    await client.send(request(f"GET {target}", *credential, *(headers or ASKING)))
    return await client.head(), client

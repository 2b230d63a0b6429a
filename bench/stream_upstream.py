"""A backend of long answers and large bodies, for what is streamed.

Usage: python bench/stream_upstream.py PORT

    GET  /streams/events?count=N&every_ms=M    server-sent events, each with the moment it was sent
    GET  /streams/bytes?mib=N                  so many mebibytes
    POST /streams/bytes                        reads the body, and answers with its length
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from urllib.parse import parse_qsl

PIECE = b"x" * 2**16
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            method, target = head.split(b" ", 2)[:2]
            path, _, query = target.decode().partition("?")
            given = {name: int(value) for name, value in parse_qsl(query)}
            if path.endswith("/events"):
                await events(writer, given.get("count", 1), given.get("every_ms", 0) / 1000)
            elif method == b"POST":
                await swallow(reader, writer, int(found[1]) if (found := _LENGTH.search(head)) else 0)
            else:
                await plenty(writer, given.get("mib", 0))
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def events(writer: asyncio.StreamWriter, count: int, every_s: float) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(count):
        event = b"data: %d\n\n" % time.monotonic_ns()
        writer.write(b"%x\r\n%b\r\n" % (len(event), event))
        await writer.drain()
        await asyncio.sleep(every_s)
    writer.write(b"0\r\n\r\n")


async def plenty(writer: asyncio.StreamWriter, mib: int) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (mib * 2**20))
    for _ in range(mib * 2**20 // len(PIECE)):
        writer.write(PIECE)
        await writer.drain()


async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, length: int) -> None:
    left = length
    while left and (piece := await reader.read(min(left, 2**18))):
        left -= len(piece)
    answer = b"%d" % (length - left)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer))


async def main(port: int) -> None:
    server = await asyncio.start_server(connected, "127.0.0.1", port, limit=2**18, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))

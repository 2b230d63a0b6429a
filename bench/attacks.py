"""What attackers do, for `bench/abuse.py`: each attack runs for some seconds, and counts how it is answered.

Run as a process of its own: `python bench/attacks.py NAME SECONDS` prints JSON. Connections come from many addresses of
127.0.0.0/8, since a source has its bound. Whatever Farebox ends is begun anew, as attackers do.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress

from house import BODY, FAREBOX, token

Told = Counter[str]
HOST = b"Host: a\r\n"
PER_SOURCE = 200
PAUSE_S = 1.0
"""Between two drops of what drips."""

_until = 0.0


def running() -> bool:
    return time.monotonic() < _until


async def connected(number: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    source = f"127.1.{number // PER_SOURCE}.1"
    return await asyncio.open_connection("127.0.0.1", FAREBOX, local_addr=(source, 0))


async def many(count: int, told: Told, attack: Callable[[int, Told], Awaitable[None]]) -> None:
    """`count` attackers at once, each of whom begins again when an attack is over."""

    async def one(number: int) -> None:
        await asyncio.sleep(number / count)
        while running():
            told["begun"] += 1
            try:
                await attack(number, told)
            except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                told["cut"] += 1
                await asyncio.sleep(0.05)

    tasks = [asyncio.create_task(one(number)) for number in range(count)]
    await asyncio.wait(tasks, timeout=max(_until - time.monotonic(), 0))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def status(reader: asyncio.StreamReader, told: Told) -> None:
    """Count the next answer, with its body read."""
    head = await reader.readuntil(b"\r\n\r\n")
    told[head.split(b" ", 2)[1].decode()] += 1
    lines = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    await reader.readexactly(int(lines[0][15:]) if lines else 0)


async def dripping(number: int, told: Told, head: bytes, drop: bytes) -> None:
    reader, writer = await connected(number)
    try:
        writer.write(head)
        answered = asyncio.create_task(reader.read(2**16))
        while running() and not (await asyncio.wait([answered], timeout=PAUSE_S))[0]:
            writer.write(drop)
        answer = await answered
        told[answer.split(b" ", 2)[1].decode() if answer else "cut"] += 1
    finally:
        writer.transport.abort()


async def repeated(number: int, told: Told, data: Callable[[int], bytes]) -> None:
    """One request after the other on one connection, as fast as they are answered."""
    reader, writer = await connected(number)
    sent = 0
    try:
        while running():
            writer.write(data(number * 10**7 + sent))
            sent += 1
            await status(reader, told)
            if reader.at_eof():
                return
    finally:
        writer.transport.abort()


# The attacks.


async def slow_headers(told: Told) -> None:
    await many(2000, told, lambda n, told: dripping(n, told, b"GET /open HTTP/1.1\r\n" + HOST + b"X: ", b"a"))


async def slow_bodies(told: Told) -> None:
    head = b"POST /streams/bytes HTTP/1.1\r\n" + HOST + b"Content-Length: 1000000\r\n\r\n"
    await many(800, told, lambda n, told: dripping(n, told, head, b"a"))


async def slow_readers(told: Told) -> None:
    async def reads_nothing(number: int, told: Told) -> None:
        _, writer = await connected(number)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        try:
            writer.write(b"GET /streams/bytes?mib=64 HTTP/1.1\r\n" + HOST + b"\r\n")
            while running():
                # Nothing is read, so the end of the connection shows when something is sent.
                await asyncio.sleep(PAUSE_S)
                writer.write(b"a")
                if writer.is_closing():
                    raise ConnectionResetError
        finally:
            writer.transport.abort()

    await many(300, told, reads_nothing)


async def idle(told: Told) -> None:
    async def silent(number: int, told: Told) -> None:
        reader, writer = await connected(number)
        try:
            told["cut"] += await reader.read(1) == b""
        finally:
            writer.transport.abort()

    await many(10_000, told, silent)


async def connects(told: Told) -> None:
    began = time.monotonic()
    while running():
        with suppress(OSError):
            _, writer = await connected(told["begun"] % 4000)
            writer.transport.abort()
        told["begun"] += 1
        await asyncio.sleep(max(began + told["begun"] / 1000 - time.monotonic(), 0))


def _paid(body: bytes) -> bytes:
    bearer = f"Authorization: Bearer {token('bench')}\r\nContent-Type: application/json\r\n".encode()
    return b"POST /v1/chat/completions HTTP/1.1\r\n" + HOST + bearer + b"Transfer-Encoding: chunked\r\n\r\n" + body


async def tiny_chunks(told: Told) -> None:
    body = (BODY[:-1] + ', "pad": "' + "x" * 100_000 + '"}').encode()
    data = _paid(b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n")
    await many(8, told, lambda n, told: repeated(n, told, lambda _: data))


async def long_sizes(told: Told) -> None:
    data = _paid(b"0" * 2**20 + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY.encode()))
    await many(8, told, lambda n, told: repeated(n, told, lambda _: data))


async def bad_requests(told: Told) -> None:
    data = b"GET /open HTTP/1.1\r\n" + HOST + b"Cookie: a\x01b\r\nContent-Length: x\r\n\r\n"
    await many(16, told, lambda n, told: repeated(n * PER_SOURCE, told, lambda _: data))


async def large_heads(told: Told) -> None:
    lines = b"".join(b"X-%d: %b\r\n" % (number, b"a" * 15_000) for number in range(4))
    await many(1000, told, lambda n, told: dripping(n, told, b"GET /open HTTP/1.1\r\n" + HOST + lines, b"X"))


async def unread_rows(told: Told) -> None:
    """Requests in rows, whose answers nobody reads."""

    async def row(number: int, told: Told) -> None:
        _, writer = await connected(number)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        try:
            while running():
                writer.write((b"GET /open HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 2000 + b"\r\n\r\n") * 100)
                await writer.drain()
        finally:
            writer.transport.abort()

    await many(100, told, row)


async def made_up(told: Told) -> None:
    """Keys, tokens, users, paths, models, idempotency keys: none of them twice."""
    good = token("bench")

    def data(number: int) -> bytes:
        signed = f"Authorization: Bearer {good}\r\nIdempotency-Key: k{number}"
        line, headers, body = [
            (f"GET /nowhere/{number}", "X-A: b", ""),
            ("POST /v1/chat/completions", f"X-Api-Key: fbx_{number:032}", BODY),
            ("POST /v1/chat/completions", f"Authorization: Bearer {good[:-10]}{number:010}", BODY),
            ("POST /v1/chat/completions", signed, BODY.replace("gpt-4o-mini", f"model-{number}")),
        ][number % 4]
        length = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
        return f"{line} HTTP/1.1\r\nHost: a\r\n{headers}\r\nX-{number}: a\r\n{length}\r\n{body}".encode()

    await many(16, told, lambda n, told: repeated(n * PER_SOURCE, told, data))


ATTACKS = {
    "slow headers, 2 000 connections": slow_headers,
    "slow bodies, 800 connections": slow_bodies,
    "slow readers, 300 connections": slow_readers,
    "idle, 10 000 connections": idle,
    "1 000 connects a second": connects,
    "60 KB of headers that do not end, 1 000 connections": large_heads,
    "requests in rows, answers unread, 100 connections": unread_rows,
    "bodies in chunks of one byte, 8 connections": tiny_chunks,
    "chunk sizes of 1 MiB, 8 connections": long_sizes,
    "bad requests, 16 connections": bad_requests,
    "made-up keys, tokens, models and paths, 16 connections": made_up,
}


async def main(name: str, seconds: float) -> Told:
    global _until
    _until = time.monotonic() + seconds
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    told: Told = Counter()
    await ATTACKS[name](told)
    return told


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], float(sys.argv[2])))))

"""What is streamed: many streams of events at once, large bodies both ways, and single requests at a quiet pace.

Run as a process of its own, on the core of the load: `python bench/streams.py CASE PORT ARGUMENTS…` prints JSON.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from typing import Any

from house import BODY, LOAD_CORE, memory_mib, paid


def run(case: str, port: int, *arguments: float) -> Any:
    """The figures of a case."""
    pinned = ["taskset", "-c", str(LOAD_CORE)] if shutil.which("taskset") else []
    command = [*pinned, sys.executable, __file__, case, str(port), *map(str, arguments)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout)


class Peak:
    """The most memory that a process has had in a while, looked at a hundred times a second."""

    def __init__(self, pid: int) -> None:
        self._pid, self._over = pid, threading.Event()
        self.before_mib = self.peak_mib = memory_mib(pid)
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._over.wait(0.01):
            self.peak_mib = max(self.peak_mib, memory_mib(self._pid))

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def growth_mib(self) -> float:
        return self.peak_mib - self.before_mib


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


# The cases.


async def events(port: int, streams: float, count: float, every_ms: float) -> dict[str, float]:
    """Streams of events at once. Milliseconds from the backend's write to our read."""
    delays: list[float] = []

    async def listen(number: int) -> None:
        await asyncio.sleep(number / streams * every_ms / 1000)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        target = f"/streams/events?count={count:.0f}&every_ms={every_ms:.0f}"
        writer.write(f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        seen = 0
        while seen < count and (line := await reader.readline()):
            if line.startswith(b"data: "):
                seen += 1
                delays.append((time.monotonic_ns() - int(line[6:])) / 1e6)
        writer.close()

    await asyncio.gather(*(listen(number) for number in range(int(streams))))
    assert len(delays) == streams * count, "no event is lost"
    return {"p50_ms": percentile(delays, 0.5), "p99_ms": percentile(delays, 0.99)}


def bulk(port: int, mib: float, upload: float) -> dict[str, float]:
    """One large body, one way. Mebibytes in a second."""
    size, piece = int(mib) * 2**20, b"x" * 2**18
    buffer = bytearray(2**20)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        started = time.perf_counter()
        head = f"GET /streams/bytes?mib={mib:.0f}" if not upload else "POST /streams/bytes"
        length = f"Content-Length: {size}\r\n" if upload else ""
        connection.sendall(f"{head} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{length}\r\n".encode())
        for _ in range(size // len(piece) if upload else 0):
            connection.sendall(piece)
        received, end = 0, b""
        while count := connection.recv_into(buffer):
            received += count
            end = (end + bytes(buffer[:count]))[-20:] if upload else b""
    assert end.endswith(b"%d" % size) if upload else received > size, "all of it has arrived"
    return {"mib_per_s": mib / (time.perf_counter() - started)}


async def pace(port: int, per_s: float, seconds: float, metered: float) -> dict[str, float]:
    """Requests at a fixed pace, whether or not earlier ones have their answer. Milliseconds."""
    delays: list[float] = []
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    headers = {"Host": "a", **(paid() if metered else {})}
    body = BODY if metered else ""
    line = "POST /v1/chat/completions" if metered else "GET /open"
    if body:
        headers["Content-Length"] = str(len(body))
    request = f"{line} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items())

    async def ask() -> None:
        began = time.perf_counter()
        reader, writer = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"{request}\r\n{body}".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length[15:]))
        delays.append((time.perf_counter() - began) * 1000)
        idle.append((reader, writer))

    started, tasks = time.perf_counter(), []
    for number in range(int(per_s * seconds)):
        await asyncio.sleep(max(started + number / per_s - time.perf_counter(), 0))
        tasks.append(asyncio.create_task(ask()))
    await asyncio.gather(*tasks)
    warm = delays[len(delays) // 10 :]
    return {"p50_ms": percentile(warm, 0.5), "p99_ms": percentile(warm, 0.99)}


if __name__ == "__main__":
    case, port, *arguments = sys.argv[1:]
    found = {"events": events, "bulk": bulk, "pace": pace}[case](int(port), *map(float, arguments))
    print(json.dumps(asyncio.run(found) if asyncio.iscoroutine(found) else found))

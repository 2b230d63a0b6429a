"""Closed-loop load over kept-alive connections: by `wrk` where it is installed, else by a small client of our own.

Both count only answers with status 200 and print requests per second with latency percentiles.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Result:
    """Latencies in milliseconds; `failed` counts answers that are not 200."""

    tool: str
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    failed: int


@dataclass(frozen=True, slots=True)
class Load:
    """`connections` clients on one core for `seconds`, each sending the next request when it has its answer."""

    port: int
    method: str
    path: str
    headers: dict[str, str]
    body: str = ""
    connections: int = 32
    seconds: float = 5

    def request(self) -> bytes:
        headers = {"Host": f"127.0.0.1:{self.port}", **self.headers}
        if self.body:
            headers["Content-Length"] = str(len(self.body))
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"{self.method} {self.path} HTTP/1.1\r\n{head}\r\n{self.body}".encode()


def run(load: Load, core: int) -> Result:
    return _wrk(load, core) if shutil.which("wrk") else _own(load, core)


_WRK_SCRIPT = """
wrk.method = "%s"
wrk.body = [==[%s]==]
%s
done = function(summary, latency)
  local failed = summary.errors.status + summary.errors.read + summary.errors.timeout + summary.errors.connect
  io.write(string.format("RESULT %%d %%d %%f %%f %%d\\n",
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), failed))
end
"""


def _wrk(load: Load, core: int) -> Result:
    headers = "".join(f'wrk.headers["{name}"] = "{value}"\n' for name, value in load.headers.items())
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "load.lua"
        script.write_text(_WRK_SCRIPT % (load.method, load.body, headers))
        command = [
            "taskset",
            "-c",
            str(core),
            "wrk",
            "-t1",
            f"-c{load.connections}",
            f"-d{max(round(load.seconds), 1)}s",
        ]
        command += ["-s", str(script), f"http://127.0.0.1:{load.port}{load.path}"]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    _, requests, duration_us, p50_us, p99_us, failed = output[output.index("RESULT") :].split()[:6]
    return Result("wrk", int(requests) / int(duration_us) * 1e6, float(p50_us) / 1e3, float(p99_us) / 1e3, int(failed))


def _own(load: Load, core: int) -> Result:
    """In a process of its own, so that it has a core and an event loop to itself."""
    arguments = [str(load.port), load.method, load.path, load.body, str(load.connections), str(load.seconds)]
    arguments += [f"{name}={value}" for name, value in load.headers.items()]
    command = ["taskset", "-c", str(core)] if shutil.which("taskset") else []
    output = subprocess.run(
        [*command, sys.executable, __file__, *arguments], capture_output=True, text=True, check=True
    )
    rps, p50, p99, failed = output.stdout.split()
    return Result("python", float(rps), float(p50), float(p99), int(failed))


class _Client(asyncio.Protocol):
    def __init__(self, request: bytes, latencies: list[float], until: float) -> None:
        self._request, self._latencies, self._until = request, latencies, until
        self._buffer, self.failed = b"", 0
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._send()

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        length = _LENGTH.search(self._buffer, 0, end) if end >= 0 else None
        if end < 0 or len(self._buffer) < end + 4 + (int(length[1]) if length else 0):
            return
        now = time.perf_counter()
        self._latencies.append(now - self._sent)
        self.failed += self._buffer[9:12] != b"200"
        self._buffer = b""
        if now < self._until:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def _drive(load: Load) -> None:
    loop, latencies, clients = asyncio.get_running_loop(), list[float](), list[_Client]()
    started = time.perf_counter()
    for _ in range(load.connections):
        client = _Client(load.request(), latencies, started + load.seconds)
        clients.append(client)
        await loop.create_connection(lambda client=client: client, "127.0.0.1", load.port)
    await asyncio.gather(*(client.done for client in clients))
    elapsed = time.perf_counter() - started
    latencies.sort()
    p50, p99 = latencies[len(latencies) // 2], latencies[len(latencies) * 99 // 100]
    print(len(latencies) / elapsed, p50 * 1e3, p99 * 1e3, sum(client.failed for client in clients))


if __name__ == "__main__":
    port, method, path, body, connections, seconds, *headers = sys.argv[1:]
    pairs = dict(header.split("=", 1) for header in headers)
    asyncio.run(_drive(Load(int(port), method, path, pairs, body, int(connections), float(seconds))))

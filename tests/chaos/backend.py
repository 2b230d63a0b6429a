"""The backend's book, and the backend that writes it: a process of its own, `python -m tests.chaos.backend PORT BOOK`.

Each call is written down, handed to the system, before a byte of its answer leaves: so the book is complete also when
the backend itself is killed. The backend remembers nothing else; how a job stands is read from its id.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.calls import STREAMS, Kind
from tests.flows.raw import EVENTS, OK, RawBackend, Visit, chunk, event, json_answer

RUNNING_S = 0.2
"""How long a job takes."""

PIECES = 5
"""Of a stream."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """A call that has arrived, whole. `at` is seconds since 1970, like everything that books say of time."""

    call: str
    request_id: str
    user: str
    path: str
    at: float


def read_book(path: Path) -> list[Receipt]:
    """Every call that the backend has received. A last line that a kill has cut was not received."""
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [Receipt(**json.loads(line)) for line in lines]


class _Backend:
    def __init__(self, book: Path) -> None:
        self._book = os.open(book, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    async def answer(self, visit: Visit) -> None:
        method, path, _ = visit.request.first.decode().split(" ")
        body = await visit.body()
        if method != "POST":
            await visit.send(_job(path) if path.startswith("/jobs/") else OK)
            return
        call = json.loads(body)
        self._write_down(visit, path, call["call"])
        await asyncio.sleep(0 if call["kind"] == Kind.QUICK else call["delay_ms"] / 1000)
        if call["kind"] in STREAMS:
            await _stream(visit, call)
        elif call["kind"] == Kind.VANISHES:
            visit.reset()
        elif call["kind"] == Kind.FAILS:
            await visit.send(json_answer(b'{"error": "out of order"}', status=b"500 Internal Server Error"))
        elif call["end"] is not None:
            job = f"{call['call']}_{time.time():.3f}_{call['end']}"
            await visit.send(json_answer(json.dumps({"id": job}).encode(), status=b"202 Accepted"))
        else:
            await visit.send(json_answer(json.dumps({"usage": {"tokens": call["tokens"]}}).encode()))

    def _write_down(self, visit: Visit, path: str, call: str) -> None:
        names = (b"x-request-id", b"x-farebox-user")
        request_id, user = (b",".join(visit.request.values(name)).decode() for name in names)
        receipt = {"call": call, "request_id": request_id, "user": user, "path": path, "at": time.time()}
        os.write(self._book, json.dumps(receipt).encode() + b"\n")


async def _stream(visit: Visit, call: dict[str, object]) -> None:
    await visit.send(EVENTS)
    for number in range(PIECES):
        if number == PIECES // 2 and call["kind"] == Kind.BREAKS:
            visit.reset()
            return
        await visit.send(chunk(event({"piece": number})))
        await asyncio.sleep(0.02)
    await visit.send(chunk(event({"usage": {"tokens": call["tokens"]}})) + chunk(b""))


def _job(path: str) -> bytes:
    """How a job stands: its id says when it was started, and how it ends."""
    _, started, end = path.removeprefix("/jobs/").split("_")
    status = end if time.time() - float(started) > RUNNING_S else "running"
    return json_answer(json.dumps({"status": status}).encode())


async def main(port: int, book: Path) -> None:
    backend = RawBackend(_Backend(book).answer)
    await backend.start(port)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2])))

"""What abuse costs everybody else: one attack after the other, while an honest user pays for requests at a fixed pace.

    python bench/abuse.py [--seconds 10] [--only WORD] [--json] [--write]

Farebox has a core to itself; attackers, the honest user and the backend share the other one, attackers with the least
right to it. Time-outs are shorter than by default, so that they show within an attack; all other bounds are the
defaults. Told for each attack: the latencies of the honest user beside those of a calm time of the same run, how many
of its requests failed, how attackers were answered, and how far memory, open files and the log grew.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from platform import python_version
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from attacks import ATTACKS
from figures import END
from house import BODY, FAREBOX, LOAD_CORE, SETTINGS, backends, farebox, folder_of_settings, memory_mib, paid
from streams import percentile

PAGE = Path(__file__).resolve().parents[1] / "docs" / "security.md"
MARK = "<!-- From here on written by `python bench/abuse.py --write` -->"
TIMEOUT_S = 3
ABUSED = SETTINGS.replace("log: {level: warning}", "log: {level: info}") + (
    f"limits: {{headers_timeout: {TIMEOUT_S}s, body_timeout: {TIMEOUT_S}s, answer_timeout: {TIMEOUT_S}s}}\n"
    "connections: {trusted: [127.0.0.1]}\n"
)
PER_S = 50
LINE_BYTES = 100
"""Of the log for each of the honest user's requests, about; they are no part of the attack."""


@dataclass(frozen=True, slots=True)
class Row:
    """One attack. `told` is how attackers were answered: statuses, and connections that were cut."""

    attack: str
    p50_ms: float
    p99_ms: float
    failed: int
    memory_mib: float
    files: int
    log_kib: float
    told: dict[str, int]


class Watch:
    """The most memory and open files that a process has had."""

    def __init__(self, pid: int) -> None:
        self._pid, self._over = pid, threading.Event()
        self.memory_mib, self.files = memory_mib(pid), 0
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._over.wait(0.05):
            self.memory_mib = max(self.memory_mib, memory_mib(self._pid))
            self.files = max(self.files, len(os.listdir(f"/proc/{self._pid}/fd")))

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


async def honest(seconds: float) -> tuple[list[float], int]:
    """Latencies in milliseconds of requests at a fixed pace, and how many failed. A kept connection that has ended is
    replaced, as every client does; nothing else is repeated.
    """
    delays: list[float] = []
    failed = 0
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    headers = {"Host": "a", **paid(), "Content-Length": str(len(BODY))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = f"POST /v1/chat/completions HTTP/1.1\r\n{lines}\r\n{BODY}".encode()

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length[15:]))
        idle.append((reader, writer))
        return head.startswith(b"HTTP/1.1 200")

    async def ask() -> None:
        nonlocal failed
        began = time.perf_counter()
        good = None
        while idle and good is None:
            with suppress(OSError, asyncio.IncompleteReadError):
                good = await once(*idle.pop())
        if good is None:
            with suppress(OSError, asyncio.IncompleteReadError):
                good = await once(*await asyncio.open_connection("127.0.0.1", FAREBOX))
        delays.append((time.perf_counter() - began) * 1000)
        failed += not good

    started, tasks = time.perf_counter(), []
    for number in range(int(PER_S * seconds)):
        await asyncio.sleep(max(started + number / PER_S - time.perf_counter(), 0))
        tasks.append(asyncio.create_task(ask()))
    await asyncio.gather(*tasks)
    for _, writer in idle:
        writer.close()
    return delays, failed


def asking(seconds: float) -> subprocess.Popen[str]:
    """The honest user, as a process of its own: what watches and what attacks must not make it wait."""
    return _process([], __file__, "--honest", str(seconds))


def _process(prefix: list[str], *arguments: str) -> subprocess.Popen[str]:
    pinned = ["taskset", "-c", str(LOAD_CORE)] if shutil.which("taskset") else []
    return subprocess.Popen([*pinned, *prefix, sys.executable, *arguments], stdout=subprocess.PIPE, text=True)


def _answer(process: subprocess.Popen[str]) -> Any:
    return json.loads(process.communicate(timeout=300)[0])


def measured(name: str | None, seconds: float, pid: int, log: Path) -> Row:
    """One attack; None for the calm."""
    memory, written = memory_mib(pid), log.stat().st_size
    with Watch(pid) as watch:
        attacking = None
        if name is not None:
            attacking = _process(["nice", "-n", "19"], str(Path(__file__).with_name("attacks.py")), name, str(seconds))
            # The honest user is asked for while the attack is at its height.
            time.sleep(min(2, seconds / 4))
        delays, failed = _answer(asking(seconds - min(2, seconds / 4)))
        told = _answer(attacking) if attacking is not None else {}
    log_bytes = log.stat().st_size - written - LINE_BYTES * len(delays)
    latencies = percentile(delays, 0.5), percentile(delays, 0.99)
    growth = watch.memory_mib - memory
    return Row(name or "none", *latencies, failed, growth, watch.files, max(log_bytes, 0) / 1024, told)


def table(rows: list[Row]) -> list[str]:
    head = "| attack | p50 | p99 | failed | memory grew by | open files | log | attackers got |"
    lines = [head, "|---|---|---|---|---|---|---|---|"]
    for row in rows:
        told = ", ".join(f"{count:,} × {what}" for what, count in sorted(row.told.items()) if what != "begun")
        begun = f"{row.told.get('begun', 0):,} begun; " if row.told else ""
        figures = f"{row.p50_ms:.1f} ms | {row.p99_ms:.1f} ms | {row.failed} | {row.memory_mib:.0f} MiB | {row.files:,}"
        lines.append(f"| {row.attack} | {figures} | {row.log_kib:.0f} KiB | {begun}{told} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10, help="of each attack")
    parser.add_argument("--only", default="", help="attacks with this word in their name")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", action="store_true", help="also write the table to docs/security.md")
    parser.add_argument("--honest", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.honest is not None:
        print(json.dumps(asyncio.run(honest(options.honest))))
        return
    rows: list[Row] = []
    with (
        folder_of_settings(ABUSED) as folder,
        backends(),
        (folder / "log").open("wb") as log,
        farebox(folder, log=log) as (pid, _),
    ):
        for name in (None, *(name for name in ATTACKS if options.only in name), None):
            rows.append(measured(name, options.seconds, pid, folder / "log"))
            if not options.json:
                print(table(rows)[-1], flush=True)
    if options.json:
        print(json.dumps([asdict(row) for row in rows]))
    if options.write:
        _write(rows, f"{options.seconds:g} s each; Python {python_version()}; load average {os.getloadavg()[0]:.1f}.")


def _write(rows: list[Row], how: str) -> None:
    before, found, rest = PAGE.read_text("utf-8").partition(MARK)
    if not found:
        raise SystemExit(f"{PAGE.name} has no line {MARK!r}, and so no place for this table")
    _, _, after = rest.partition(END)
    PAGE.write_text("\n".join([before + MARK, *table(rows), "", how, END + after]), "utf-8")


if __name__ == "__main__":
    main()

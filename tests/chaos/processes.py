"""The processes of a run, as an operator and an executioner see them: started, awaited, killed.

A node is `farebox serve` with the workers and the scheduler that it starts; all of them are one process group, so they
can be found, and killed at once, also when the one that started them is gone. Linux only: it reads /proc.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

HOUSE = Path(__file__).parents[2]

PATIENCE_S = 60
"""For anything that a process has to do; one that takes longer has failed."""

RETRY_S = 0.1
"""Until a node that could not start is started again, as a supervisor does: its port may not be free yet."""


class Stuck(Exception):
    """A process did not do what it must; the message says which, and where its log is."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, for processes that have to find each other again after a restart."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in listeners]


async def spawn(arguments: Sequence[str], output: Path, log: Path) -> Process:
    """A Python process with the packages of this checkout, in a process group of its own.

    It writes to files: the end of a pipe would be the end of all its children, and not its own.
    """
    with output.open("wb") as standard, log.open("ab") as errors:
        return await asyncio.create_subprocess_exec(
            sys.executable, *arguments, cwd=HOUSE, stdin=asyncio.subprocess.DEVNULL, stdout=standard, stderr=errors,
            start_new_session=True,
        )  # fmt: skip


async def first_line(process: Process, output: Path) -> str:
    """What a process says once it is ready; empty if it ends before."""
    while not (line := _line_in(output)) and process.returncode is None:
        await asyncio.sleep(0.01)
    return line or _line_in(output)


def _line_in(output: Path) -> str:
    line, end, _ = output.read_text().partition("\n")
    return line if end else ""


async def run(arguments: Sequence[str], log: Path) -> tuple[int, str]:
    """The exit code and the output of a command that ends by itself."""
    output = log.with_suffix(".out")
    process = await spawn(arguments, output, log)
    try:
        return await asyncio.wait_for(process.wait(), PATIENCE_S), output.read_text()
    except TimeoutError:
        kill_group(process.pid)
        raise Stuck(f"{' '.join(arguments)} does not end; see {log}") from None


def kill_group(group: int) -> None:
    """SIGKILL for every process of a group, in one call of the system, while the process that leads it is ours."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def members(group: int) -> dict[int, str]:
    """The living processes of a group, with their command lines."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            # After the name, which may hold anything, in parentheses: state, parent, group (proc_pid_stat(5)).
            state, _, pgrp = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
            if int(pgrp) == group and state != "Z":
                found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ").strip()
    return found


class Backend:
    """The process that answers calls, on the same port whenever it is started."""

    def __init__(self, port: int, folder: Path) -> None:
        self.book = folder / "backend.jsonl"
        self._arguments = ["-m", "tests.chaos.backend", str(port), str(self.book)]
        self._log = folder / "backend.log"
        self._process: Process | None = None

    async def start(self) -> None:
        output = self._log.with_suffix(".ready")
        self._process = await spawn(self._arguments, output, self._log)
        if await asyncio.wait_for(first_line(self._process, output), PATIENCE_S) != "ready":
            raise Stuck(f"the backend did not start; see {self._log}")

    async def kill(self) -> None:
        if self._process is not None:
            kill_group(self._process.pid)
            await self._process.wait()


class Node:
    """One `farebox serve`. `start` does not give up while its port is taken; `groups` is what still lives of it."""

    def __init__(self, name: str, config: Path, workers: int, log: Path, *, jobs: bool = True) -> None:
        self.name = name
        self.config = config
        self._options = ["--workers", str(workers), *([] if jobs else ["--no-jobs"])]
        self._log, self._ready = log, log.with_suffix(".ready")
        self._process: Process | None = None
        self.groups: list[int] = []

    async def spawn(self, command: str = "serve") -> None:
        """Start it, and wait for nothing. Another `command` than `serve` takes its place."""
        self.groups = [group for group in self.groups if members(group)]
        options = self._options if command == "serve" else []
        arguments = ["-m", "proxy.cli", command, "--json", "--config", str(self.config), *options]
        self._process = await spawn(arguments, self._ready, self._log)
        self.groups.append(self._process.pid)

    async def start(self) -> None:
        """Start it until it serves."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self.spawn()
                while not await self._announced():
                    await asyncio.sleep(RETRY_S)
                    await self.spawn()
        except TimeoutError:
            raise Stuck(f"{self.name} does not start; see {self._log}") from None

    async def _announced(self) -> bool:
        """Whether it says where it listens, or else has ended."""
        assert self._process is not None, "it was spawned"
        return (await first_line(self._process, self._ready)).startswith('{"listen"')

    @property
    def pid(self) -> int:
        assert self._process is not None, "it was spawned"
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def children(self, command: str) -> list[int]:
        """Its living child processes with this command: `serve` for workers, `jobs` for the scheduler."""
        return sorted(pid for pid, line in members(self.pid).items() if pid != self.pid and f"cli {command} " in line)

    async def kill(self, pid: int | None = None) -> None:
        """SIGKILL for one of its processes, or for all of them at once; returns when they are gone."""
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        elif self.alive:
            kill_group(self.pid)
        if pid in (None, self.pid):
            assert self._process is not None, "it was spawned"
            await self._process.wait()

    async def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self._process is not None, "it was spawned"
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            return await asyncio.wait_for(self._process.wait(), PATIENCE_S)
        except TimeoutError:
            raise Stuck(f"{self.name} does not stop; see {self._log}") from None

    async def farebox(self, *arguments: str) -> tuple[int, str]:
        """A command of the operator, with the settings of this node."""
        return await run(["-m", "proxy.cli", *arguments, "--config", str(self.config)], self._log)

    async def leftovers(self) -> list[str]:
        """What is still alive of it and of its earlier lives, some time after all of them should have ended."""
        for _ in range(PATIENCE_S * 10):
            if not self._ours():
                break
            await asyncio.sleep(0.1)
        return [f"{pid} {line}" for pid, line in self._ours().items()]

    def _ours(self) -> dict[int, str]:
        """The living processes of its groups. By their settings: the numbers of old groups may be others' by now."""
        found = {pid: line for group in self.groups for pid, line in members(group).items()}
        return {pid: line for pid, line in found.items() if str(self.config) in line}

    async def end(self) -> None:
        """Whatever happened: nothing of it outlives the run."""
        for pid in self._ours():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._process is not None:
            await self._process.wait()

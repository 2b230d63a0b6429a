"""One node with workers: a reload that somebody asks for has reached all of them when it is answered."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests import canaries
from tests.flows.house import EXAMPLES, SECRET
from tests.flows.test_stopping import FAREBOX

TOKEN = canaries.ADMIN_TOKEN
WORKERS = 3
OPEN = "version: 1\nrules: [{id: open, allow: use}]\n"
CLOSED = OPEN.replace("]", ", {id: closed, deny: use, who: {tag: closed}}]")
ADDRESSES = 'listen: "127.0.0.1:0"\nadmin: {listen: "127.0.0.1:0", token: "${FAREBOX_ADMIN_TOKEN}"}\n'


class Node:
    """A running node, its files, and its admin API."""

    def __init__(self, process: Process, url: str, folder: Path, client: aiohttp.ClientSession) -> None:
        self.process, self._url, self._folder, self._client = process, url, folder, client

    def save(self, text: str) -> None:
        (self._folder / "policies" / "new").write_text(text)
        (self._folder / "policies" / "new").rename(self._folder / "policies" / "main.yaml")

    async def reload(self, status: int = 200) -> dict[str, Any]:
        return await self._ask("POST", "/admin/policy/reload", status)

    async def revisions(self) -> list[str]:
        """What each process says that it has."""
        told = await self._ask("GET", "/admin/policy/nodes")
        return [process["revision"] for process in told["processes"]]

    async def workers(self) -> list[int]:
        """The ids of the processes that are not the main one, once all of them are up."""
        while True:
            told = (await self._ask("GET", "/admin/policy/nodes"))["processes"]
            pids = [int(process["process"].rpartition(":")[2]) for process in told]
            if len(pids) == WORKERS:
                return [pid for pid in pids if pid != self.process.pid]
            await asyncio.sleep(0.05)

    async def _ask(self, method: str, path: str, status: int = 200) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with self._client.request(method, self._url + path, headers=headers) as answer:
            body: dict[str, Any] = await answer.json()
            assert answer.status == status, body
            return body


@asynccontextmanager
async def _running(database: Path, folder: Path) -> AsyncIterator[Node]:
    shutil.copyfile(database, folder / "farebox.db")
    (folder / "policies").mkdir()
    (folder / "policies" / "main.yaml").write_text(OPEN)
    example = (EXAMPLES / "farebox.yaml").read_text()
    kept = [
        line for line in example.splitlines() if not line.startswith(("listen:", "admin:", "policies:", "database:"))
    ]
    (folder / "farebox.yaml").write_text(ADDRESSES + "policies: policies/\n" + "\n".join(kept))
    command = ["serve", "--workers", str(WORKERS), "--no-jobs", "--json", "--config", str(folder / "farebox.yaml")]
    environment = {
        **os.environ,
        "JWT_SECRET": SECRET,
        "FAREBOX_ADMIN_TOKEN": TOKEN,
        "BACKEND_URL": "http://127.0.0.1:9",
    }
    process = await asyncio.create_subprocess_exec(str(FAREBOX), *command, stdout=PIPE, env=environment, cwd=folder)
    try:
        async with asyncio.timeout(60), aiohttp.ClientSession() as client:
            assert process.stdout is not None
            told = json.loads(await process.stdout.readline())
            yield Node(process, f"http://{told['admin']}", folder, client)
            process.terminate()
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_a_reload_reaches_every_worker(migrated_file: Path, tmp_path: Path) -> None:
    """When it answers, every process says the same revision; a policy that is refused is in force in none; a worker
    that cannot say what it has is named, within seconds; and SIGHUP reaches all as well.
    """
    async with _running(migrated_file, tmp_path) as node:
        workers = await node.workers()
        for text in (CLOSED, OPEN, CLOSED):
            node.save(text)
            answer = await node.reload()
            assert (answer["workers"], answer["behind"]) == (WORKERS - 1, [])
            assert await node.revisions() == [answer["revision"]] * WORKERS
        node.save("version: 1\nrules: [{id: open, alow: use}]\n")
        assert (await node.reload(400))["revision"] == answer["revision"]
        assert await node.revisions() == [answer["revision"]] * WORKERS

        os.kill(workers[0], signal.SIGSTOP)
        try:
            node.save(OPEN)
            answer = await node.reload()
        finally:
            os.kill(workers[0], signal.SIGCONT)
        assert [name.rpartition(":")[2] for name in answer["behind"]] == [str(workers[0])]

        node.save(CLOSED)
        node.process.send_signal(signal.SIGHUP)
        while set(await node.revisions()) & {answer["revision"]}:
            await asyncio.sleep(0.05)


async def test_a_worker_that_was_killed_is_waited_for_and_comes_up_with_the_policy(
    migrated_file: Path, tmp_path: Path
) -> None:
    """Nobody signals a process that is only starting; whichever is there has what is on disk."""
    async with _running(migrated_file, tmp_path) as node:
        (first, _) = await node.workers()
        os.kill(first, signal.SIGKILL)
        node.save(CLOSED)
        while (answer := await node.reload())["workers"] < WORKERS - 1 or answer["behind"]:
            await asyncio.sleep(0.05)
        # The one that was killed is forgotten later.
        assert (await node.revisions()).count(answer["revision"]) == WORKERS

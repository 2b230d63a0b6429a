"""The processes of a benchmark: Farebox, the bare proxy and a backend, each on its core."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO
from urllib.request import urlopen

import jwt

from config.clock import utc_now
from seeds.load import load_demo
from store import accounts
from store.opening import open_store
from store.verbs import GrantSource

HERE = Path(__file__).parent
UPSTREAM, STREAMS, BARE, FAREBOX, ADMIN = 9301, 9302, 9310, 9320, 9321
PROXY_CORE, LOAD_CORE = 0, 1
SECRET = "a-secret-of-the-benchmark-alone-0123456789"
BODY = json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello in one sentence."}]})
SETTINGS = f"""
listen: 127.0.0.1:{FAREBOX}
admin: {{listen: "127.0.0.1:{ADMIN}"}}
log: {{level: warning}}
identity: {{jwt: [{{name: app, algorithms: [HS256], secret: "{SECRET}", user: userId}}]}}
upstreams:
  backend: {{url: "http://127.0.0.1:{UPSTREAM}"}}
  streams: {{url: "http://127.0.0.1:{STREAMS}"}}
routes:
  - id: chat
    match: POST /v1/chat/completions
    upstream: backend
    app: chat
    model: {{json: /model}}
    units: {{output_tokens: {{json: /max_tokens, min: 1, max: 100000, default: 1000}}}}
    usage: {{input_tokens: {{json: /usage/prompt_tokens}}, output_tokens: {{json: /usage/completion_tokens}}}}
  - {{id: open, match: GET /open, upstream: backend, access: open}}
  - {{id: streams, match: "* /streams/**", upstream: streams, access: open}}
  - {{id: form, match: POST /streams/form, upstream: streams, app: chat, model: {{multipart: model}}}}
"""


@dataclass(frozen=True, slots=True)
class House:
    """What runs: `start_s` is the time from Farebox's start to its first answer."""

    farebox: int
    bare: int
    start_s: float
    idle_mib: float


def token(user: str) -> str:
    return jwt.encode({"userId": user, "exp": datetime.now(UTC) + timedelta(hours=1)}, SECRET)


def paid() -> dict[str, str]:
    """The headers of a metered request."""
    return {"Content-Type": "application/json", "Authorization": f"Bearer {token('bench')}"}


async def _seed(database: str) -> None:
    """A user with more credits than a benchmark can spend."""
    async with open_store(database, utc_now) as store:
        await load_demo(store)
        user, _ = await store.database.write(accounts.create_user, "bench", None, 0, store.ids.next(), utc_now())
        await store.ledger.grant(user.account.account_id, 10**14, GrantSource.PURCHASE, "bench", "benchmark")


@contextmanager
def started(
    core: int | None, *command: str, environ: Mapping[str, str] | None = None, log: IO[bytes] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process on a core of its own, or on any. What it writes to standard error goes to `log`, if there is one."""
    pinned = ["taskset", "-c", str(core)] if core is not None and shutil.which("taskset") else []
    process = subprocess.Popen([*pinned, *command], stdout=subprocess.DEVNULL, stderr=log, env=environ)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


@contextmanager
def folder_of_settings(settings: str = SETTINGS) -> Iterator[Path]:
    """A folder with settings and a seeded database."""
    with tempfile.TemporaryDirectory(prefix="farebox-bench-") as name:
        (Path(name) / "farebox.yaml").write_text(settings)
        asyncio.run(_seed(f"sqlite+aiosqlite:///{name}/farebox.db"))
        yield Path(name)


@contextmanager
def backends() -> Iterator[None]:
    with ExitStack() as stack:
        for script, port in (("static_upstream.py", UPSTREAM), ("stream_upstream.py", STREAMS)):
            stack.enter_context(started(LOAD_CORE, sys.executable, str(HERE / script), str(port)))
            wait_for(f"http://127.0.0.1:{port}/")
        yield


@contextmanager
def farebox(
    folder: Path, *options: str, core: int | None = PROXY_CORE, log: IO[bytes] | None = None
) -> Iterator[tuple[int, float]]:
    """A serving Farebox: its process, and the seconds until its first answer."""
    command = [
        sys.executable,
        "-m",
        "proxy.cli",
        "serve",
        "--config",
        str(folder / "farebox.yaml"),
        "--no-jobs",
        *options,
    ]
    with started(core, *command, log=log) as process:
        yield process.pid, wait_for(f"http://127.0.0.1:{FAREBOX}/open")


@contextmanager
def house(folder: Path) -> Iterator[House]:
    """Everything, with both proxies on one core, one of them idle at a time."""
    upstreams = [f"http://127.0.0.1:{port}" for port in (UPSTREAM, STREAMS)]
    command = [sys.executable, str(HERE / "bare_aiohttp.py"), str(BARE), *upstreams]
    with backends(), started(PROXY_CORE, *command) as bare:
        wait_for(f"http://127.0.0.1:{BARE}/")
        with farebox(folder) as (pid, start_s):
            yield House(pid, bare.pid, start_s, memory_mib(pid))


def wait_for(url: str) -> float:
    """Seconds until the address answers."""
    started_at = time.perf_counter()
    while time.perf_counter() - started_at < 30:
        try:
            urlopen(url, timeout=1).read()
        except OSError:
            time.sleep(0.005)
        else:
            return time.perf_counter() - started_at
    raise SystemExit(f"{url} does not answer")


def memory_mib(pid: int) -> float:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 2**20


def cpu_s(pid: int) -> float:
    """Seconds that a process has computed so far, in all its threads."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

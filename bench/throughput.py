"""Farebox beside a bare aiohttp proxy, in one run: the proxy alone on core 0, load and backend on core 1.

    python bench/throughput.py [--seconds 5] [--rounds 3] [--json]

Prints requests per second as ratios to the bare proxy, the time from start to the first answer, and idle memory.
These machines are shared: compare the ratios of one run, never absolute figures of two.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.request import urlopen

import jwt

sys.path.insert(0, str(Path(__file__).parent))

from load import Load, Result, run

from config.clock import utc_now
from seeds.load import load_demo
from store import accounts
from store.opening import open_store
from store.verbs import GrantSource

HERE = Path(__file__).parent
UPSTREAM, BARE, FAREBOX, ADMIN = 9301, 9310, 9320, 9321
SECRET = "a-secret-of-the-benchmark-alone-0123456789"
BODY = json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello in one sentence."}]})
SETTINGS = f"""
listen: 127.0.0.1:{FAREBOX}
admin: {{listen: "127.0.0.1:{ADMIN}"}}
log: {{level: warning}}
identity: {{jwt: [{{name: app, algorithms: [HS256], secret: "{SECRET}", user: userId}}]}}
upstreams: {{backend: {{url: "http://127.0.0.1:{UPSTREAM}"}}}}
routes:
  - id: chat
    match: POST /v1/chat/completions
    upstream: backend
    app: chat
    model: {{json: /model}}
    units: {{output_tokens: {{json: /max_tokens, min: 1, max: 100000, default: 1000}}}}
    usage: {{input_tokens: {{json: /usage/prompt_tokens}}, output_tokens: {{json: /usage/completion_tokens}}}}
  - {{id: open, match: GET /open, upstream: backend, access: open}}
"""


def token(user: str) -> str:
    return jwt.encode({"userId": user, "exp": datetime.now(UTC) + timedelta(hours=1)}, SECRET)


async def seed(database: str) -> None:
    """A user with more credits than a benchmark can spend."""
    async with open_store(database, utc_now) as store:
        await load_demo(store)
        user, _ = await store.database.write(accounts.create_user, "bench", None, 0, store.ids.next(), utc_now())
        await store.ledger.grant(user.account.account_id, 10**14, GrantSource.PURCHASE, "bench", "benchmark")


def start(stack: ExitStack, core: int, *command: str) -> subprocess.Popen[bytes]:
    pinned = ["taskset", "-c", str(core)] if shutil.which("taskset") else []
    process = subprocess.Popen([*pinned, *command])
    stack.callback(process.wait)
    stack.callback(process.terminate)
    return process


def wait_for(url: str) -> float:
    """Seconds until the address answers."""
    started = time.perf_counter()
    while time.perf_counter() - started < 20:
        try:
            urlopen(url, timeout=1).read()
        except OSError:
            time.sleep(0.005)
        else:
            return time.perf_counter() - started
    raise SystemExit(f"{url} does not answer")


def memory_mib(pid: int) -> float:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="farebox-bench-")))
        (folder / "farebox.yaml").write_text(SETTINGS)
        asyncio.run(seed(f"sqlite+aiosqlite:///{folder}/farebox.db"))
        start(stack, 1, sys.executable, str(HERE / "static_upstream.py"), str(UPSTREAM))
        wait_for(f"http://127.0.0.1:{UPSTREAM}/")
        start(stack, 0, sys.executable, str(HERE / "bare_aiohttp.py"), str(BARE), f"http://127.0.0.1:{UPSTREAM}")
        wait_for(f"http://127.0.0.1:{BARE}/")
        command = [sys.executable, "-m", "proxy.cli", "serve", "--config", str(folder / "farebox.yaml"), "--no-jobs"]
        process = start(stack, 0, *command)
        start_s = wait_for(f"http://127.0.0.1:{FAREBOX}/open")
        idle_mib = memory_mib(process.pid)
        rounds = [measure(options.seconds) for _ in range(options.rounds)]
        report(rounds, start_s, idle_mib, memory_mib(process.pid), options.json)


def measure(seconds: float) -> dict[str, Result]:
    """One round of every case, one after another."""
    paid = {"Content-Type": "application/json", "Authorization": f"Bearer {token('bench')}"}
    cases = {
        "bare POST": Load(BARE, "POST", "/v1/chat/completions", paid, BODY, seconds=seconds),
        "metered POST": Load(FAREBOX, "POST", "/v1/chat/completions", paid, BODY, seconds=seconds),
        "bare GET": Load(BARE, "GET", "/open", {}, seconds=seconds),
        "unmetered GET": Load(FAREBOX, "GET", "/open", {}, seconds=seconds),
    }
    return {name: run(load, core=1) for name, load in cases.items()}


def report(rounds: list[dict[str, Result]], start_s: float, idle_mib: float, loaded_mib: float, as_json: bool) -> None:
    def median(name: str, field: str) -> float:
        return statistics.median(getattr(results[name], field) for results in rounds)

    def ratio(name: str, bare: str) -> float:
        return statistics.median(results[name].requests_per_s / results[bare].requests_per_s for results in rounds)

    figures = {
        "metered POST / bare POST": round(ratio("metered POST", "bare POST"), 3),
        "unmetered GET / bare GET": round(ratio("unmetered GET", "bare GET"), 3),
        "start to first answer (s)": round(start_s, 2),
        "idle memory (MiB)": round(idle_mib, 1),
        "memory after the load (MiB)": round(loaded_mib, 1),
    }
    if as_json:
        print(json.dumps(figures))
        return
    for name in rounds[0]:
        rps, p50, p99 = (median(name, field) for field in ("requests_per_s", "p50_ms", "p99_ms"))
        failed = sum(results[name].failed for results in rounds)
        tool = rounds[0][name].tool
        print(f"{name:15} {rps:9.0f} requests/s   p50 {p50:7.2f} ms   p99 {p99:7.2f} ms   failed {failed}   ({tool})")
    for name, figure in figures.items():
        print(f"{name:30} {figure}")


if __name__ == "__main__":
    main()

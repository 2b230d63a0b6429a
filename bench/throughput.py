"""Farebox beside a bare aiohttp proxy, in one run: the proxy alone on core 0, load and backend on core 1.

    python bench/throughput.py [--seconds 5] [--rounds 3] [--quick] [--json] [--write]

Prints each figure with its goal. These machines are shared: compare the ratios of one run, never absolute figures of
two. `--write` writes the table to docs/performance.md.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import streams
from figures import Figure, add_options, at_least, at_most, conditions, report
from house import (
    BARE,
    BODY,
    FAREBOX,
    LOAD_CORE,
    STREAMS,
    UPSTREAM,
    House,
    backends,
    cpu_s,
    farebox,
    folder_of_settings,
    house,
    memory_mib,
    paid,
)
from load import Load, Result, run
from peers import peers

CHAT, OPEN = ("POST", "/v1/chat/completions"), ("GET", "/open")


def throughput(running: House, seconds: float, rounds: int) -> Iterator[Figure]:
    """Requests per second, and computing time per request: the latter suffers less where cores are shared."""
    cases: dict[str, tuple[int, Load]] = {
        "bare POST": (running.bare, Load(BARE, *CHAT, paid(), BODY, seconds=seconds)),
        "metered POST": (running.farebox, Load(FAREBOX, *CHAT, paid(), BODY, seconds=seconds)),
        "bare GET": (running.bare, Load(BARE, *OPEN, {}, seconds=seconds)),
        "unmetered GET": (running.farebox, Load(FAREBOX, *OPEN, {}, seconds=seconds)),
    }
    found: dict[str, list[tuple[Result, float]]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, (pid, load) in cases.items():
            before = cpu_s(pid)
            result = run(load, core=LOAD_CORE)
            found[name].append((result, (cpu_s(pid) - before) / (result.requests_per_s * seconds) * 1e6))

    def ratio(of: Callable[[tuple[Result, float]], float], above: str, below: str) -> float:
        return statistics.median(of(a) / of(b) for a, b in zip(found[above], found[below], strict=True))

    for case, bare, goal in (("metered POST", "bare POST", 0.7), ("unmetered GET", "bare GET", 1.5)):
        yield at_least(
            f"{case}, requests/s, to the {bare}", ratio(lambda one: one[0].requests_per_s, case, bare), "x", goal
        )
        yield at_most(f"{case}, computing time, of the {bare}", ratio(lambda one: one[1], case, bare), "x", 1 / goal)
    for name, results in found.items():
        yield Figure(f"{name}, 32 connections", statistics.median(one.requests_per_s for one, _ in results), "1/s")
        yield Figure(f"{name}, p99", statistics.median(one.p99_ms for one, _ in results), "ms")
        failed = sum(one.failed for one, _ in results)
        if failed:
            yield Figure(f"{name}, failed", failed, "requests", "0", False)


def beside(seconds: float, rounds: int) -> Iterator[Figure]:
    """Other proxies that check nothing, to the bare one."""
    with peers() as found:
        rates: dict[tuple[str, str], list[float]] = {}
        for _ in range(rounds):
            for name, port in [("bare", BARE), *((peer.name, peer.port) for peer in found)]:
                for kind, load in (
                    ("POST", Load(port, *CHAT, paid(), BODY, seconds=seconds)),
                    ("GET", Load(port, *OPEN, {}, seconds=seconds)),
                ):
                    rates.setdefault((name, kind), []).append(run(load, core=LOAD_CORE).requests_per_s)
        for peer in found:
            for kind in ("POST", "GET"):
                pairs = zip(rates[peer.name, kind], rates["bare", kind], strict=True)
                ratio = statistics.median(theirs / bare for theirs, bare in pairs)
                yield Figure(f"{peer.name} {kind}, requests/s, to the bare {kind}", ratio, "x")


def flush(folder: Path) -> Iterator[Figure]:
    """What this machine's disk takes to make a page durable: a metered request waits for two of these, whoever asks."""
    took = []
    with (folder / "flushed").open("wb", buffering=0) as file:
        for _ in range(200):
            file.write(bytes(4096))
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append((time.perf_counter() - started) * 1000)
    yield Figure("a flush of the disk, p50", statistics.median(took), "ms")
    yield Figure("a flush of the disk, p99", statistics.quantiles(took, n=100)[-1], "ms")


def latency(seconds: float, rounds: int) -> Iterator[Figure]:
    """What Farebox adds to a request at a pace that keeps nobody busy."""
    for metered, name in ((0, "unmetered"), (1, "metered")):
        pairs = [
            (streams.run("pace", FAREBOX, 100, seconds, metered), streams.run("pace", UPSTREAM, 100, seconds, metered))
            for _ in range(rounds)
        ]
        for which, goal in (("p50_ms", 1.5), ("p99_ms", 6)):
            added = statistics.median(through[which] - direct[which] for through, direct in pairs)
            yield at_most(f"added at 100 requests/s, {name}, {which[:3]}", added, "ms", goal)


def events(running: House, many: int) -> Iterator[Figure]:
    """Streams of events: what each takes longer, and what all of them take of memory."""
    direct = streams.run("events", STREAMS, 20, 50, 100)
    through = streams.run("events", FAREBOX, 20, 50, 100)
    yield at_most("added to an event, 20 streams, p50", through["p50_ms"] - direct["p50_ms"], "ms", 1)
    with streams.Peak(running.farebox) as memory:
        found = streams.run("events", FAREBOX, many, 6, 1000)
    yield at_most(f"memory with {many} streams", memory.peak_mib, "MiB", 150)
    yield Figure(f"memory for {many} streams", memory.growth_mib, "MiB")
    yield Figure(f"an event among {many} streams, p99", found["p99_ms"], "ms")


def bulk(running: House, mib: int, rounds: int) -> Iterator[Figure]:
    """One body of that size: memory, and throughput beside a bare proxy that streams."""
    for upload, name in ((0, "download"), (1, "upload")):
        ratios, growth = [], 0.0
        for _ in range(rounds):
            bare = streams.run("bulk", BARE, mib, upload)["mib_per_s"]
            with streams.Peak(running.farebox) as memory:
                ours = streams.run("bulk", FAREBOX, mib, upload)["mib_per_s"]
            ratios.append(ours / bare)
            growth = max(growth, memory.growth_mib)
        yield at_most(f"memory grows in a {name} of {mib} MiB by", growth, "MiB", 16)
        yield at_least(f"{name} of {mib} MiB, to a bare proxy that streams", statistics.median(ratios), "x", 0.7)


def workers(folder: Path, seconds: float, rounds: int) -> Iterator[Figure]:
    """Two processes to one, on both cores, which they share with the load and the backend."""
    found: dict[tuple[str, int], list[float]] = {}
    with backends():
        for _ in range(rounds):
            for count in (1, 2):
                with farebox(folder, "--workers", str(count), core=None):
                    for name, load in (
                        ("unmetered GET", Load(FAREBOX, *OPEN, {}, seconds=seconds)),
                        ("metered POST", Load(FAREBOX, *CHAT, paid(), BODY, seconds=seconds)),
                    ):
                        rate = run(load, core=LOAD_CORE).requests_per_s
                        found.setdefault((name, count), []).append(rate)
    for name in ("unmetered GET", "metered POST"):
        pairs = zip(found[name, 2], found[name, 1], strict=True)
        yield Figure(f"{name}, two workers to one", statistics.median(two / one for two, one in pairs), "x")


def measured(options: argparse.Namespace) -> Iterator[Figure]:
    mib, many = (64, 100) if options.quick else (1024, 500)
    with folder_of_settings() as folder:
        with house(folder) as running:
            yield at_most("start to first answer", running.start_s, "s", 1.5)
            yield at_most("memory when idle", running.idle_mib, "MiB", 100)
            yield from throughput(running, options.seconds, options.rounds)
            yield Figure("memory after the load", memory_mib(running.farebox), "MiB")
            yield from beside(options.seconds, options.rounds)
            yield from flush(folder)
            yield from latency(options.seconds, options.rounds)
            yield from events(running, many)
            yield from bulk(running, mib, options.rounds)
        yield from workers(folder, options.seconds, options.rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_options(parser)
    parser.add_argument("--quick", action="store_true", help="64 MiB and 100 streams instead of 1 GiB and 500")
    options = parser.parse_args()
    size = "the smaller bodies and fewer streams of `--quick`" if options.quick else "bodies of 1 GiB, 500 streams"
    report(measured(options), options, "throughput.py", conditions(options, size))


if __name__ == "__main__":
    main()

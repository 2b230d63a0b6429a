"""What the sample backend promises to whoever puts a sidecar in front of it: jobs that end, failures on demand.

Jobs are short (50 ms) where their end matters and long (a minute) where it must not come. What each app answers is in
`test_sample_backend_apps.py`, the chat in `test_sample_backend_chat.py`.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

Serve = Callable[..., Awaitable[Any]]

LONG_S = 60
WITH_JOBS = ("video", "inpaint", "batch", "mix", "carousel", "loop", "avatar")


@pytest.mark.parametrize("route", WITH_JOBS)
async def test_an_accepted_job_completes_by_itself(serve: Serve, route: str) -> None:
    """Every app answers a good request with its own success status; the job is completed when its time is over."""
    backend = await serve()
    accepted = await backend.start(route)
    assert (await backend.ending(route, accepted))["status"] == "completed"


@pytest.mark.parametrize("route", WITH_JOBS)
async def test_a_job_is_not_completed_before_its_time(serve: Serve, route: str) -> None:
    """A poll that comes too early sees a job that is under way."""
    backend = await serve(LONG_S)
    accepted = await backend.start(route)
    assert (await backend.look(route, accepted))["status"] in ("pending", "processing")


@pytest.mark.parametrize(
    ("route", "reason"),
    [
        ("video", {"errorMessage": "Simulated failure"}),
        ("inpaint", {"error": "Simulated failure"}),
        ("mix", {}),
        ("carousel", {"errorMessage": "Simulated failure"}),
        ("loop", {"errorMessage": "Simulated failure"}),
        ("avatar", {"errorMessage": "GENERATION_TIMEOUT"}),
    ],
)
async def test_fail_job_is_accepted_and_fails_later(serve: Serve, route: str, reason: dict[str, str]) -> None:
    """`fail-job` is accepted like any other; the job ends as failed, with a reason where the app has one."""
    backend = await serve()
    words = {"prompt": "please fail-job now"} if route in ("video", "inpaint", "avatar") else {"simulate": "fail-job"}
    seen = await backend.ending(route, await backend.start(route, **words))
    assert seen["status"] == "failed"
    assert seen.items() >= reason.items()


@pytest.mark.parametrize("route", [*WITH_JOBS, "enhance"])
async def test_fail_now_answers_500(serve: Serve, route: str) -> None:
    """`fail-now` makes any route that works on demand answer 500, with the reason under `error`."""
    backend = await serve()
    assert await backend.refused(route, 500, simulate="fail-now") == {"error": "Simulated failure"}


async def test_a_failure_word_counts_only_alone(serve: Serve) -> None:
    """A failure word inside another word is an ordinary prompt."""
    backend = await serve()
    await backend.start("avatar", prompt="a fail-nowhere, slowly changing portrait")


async def test_slow_answers_two_seconds_later(serve: Serve) -> None:
    """`slow` keeps the client waiting for two seconds, and then serves it."""
    backend = await serve()
    started_s = time.monotonic()
    await backend.start("video", prompt="slow bus")
    assert 1.9 < time.monotonic() - started_s < 4


async def test_hang_answers_nobody_and_accepts_nothing(serve: Serve) -> None:
    """`hang` gives no answer, starts no job, and its handler ends when the client goes away."""
    backend = await serve()
    before = asyncio.all_tasks()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(backend.start("mix", simulate="hang"), timeout=0.3)
    if handlers := asyncio.all_tasks() - before:
        _, hanging = await asyncio.wait(handlers, timeout=2)
        assert not hanging
    assert (await backend.get("/api/apps/video-mixer/projects/p1/generations"))["generations"] == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/apps/video-generator/nothing"),
        ("GET", "/api/apps/video-generator/generate"),
        ("DELETE", "/health"),
        ("GET", "/api/apps/nobody"),
    ],
)
async def test_an_unknown_route_is_not_found(serve: Serve, method: str, path: str) -> None:
    """An unknown path, and a known path with another method, are 404 with the error every app uses."""
    backend = await serve()
    async with backend.client.request(method, path) as answer:
        assert answer.status == 404
        assert await answer.json() == {"error": "Not Found"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/apps/video-generator/generations/x/status"),
        ("GET", "/api/apps/poster-editor/inpaint/x/status"),
        ("GET", "/api/apps/poster-editor/inpaint-batch/x/status"),
        ("GET", "/api/apps/carousel-mix/generations/x"),
        ("GET", "/api/apps/avatar-creator/generations/x"),
        ("POST", "/api/apps/looping-flow/generations/x/cancel"),
    ],
)
async def test_an_unknown_job_is_not_found(serve: Serve, method: str, path: str) -> None:
    """A job that nobody started, or that was forgotten, is 404."""
    backend = await serve()
    async with backend.client.request(method, path) as answer:
        assert answer.status == 404
        assert "not found" in (await answer.json())["error"]


async def test_the_small_routes_answer(serve: Serve) -> None:
    """`/` says what this is, `/health` that it serves."""
    backend = await serve()
    assert (await backend.get("/"))["name"] == "sample backend"
    assert await backend.get("/health") == {"status": "ok"}


def test_a_jobs_state_follows_from_its_dates(backend_module: ModuleType) -> None:
    """A job waits, works and ends by the clock alone, and its end does not move."""
    jobs = sys.modules[backend_module.JobBook.__module__]
    job = jobs.Job(queue="q", owner="u", takes_s=100.0, fails=False, details={}, created_s=1000.0)
    states = [job.status(now) for now in (900, 1000, 1024, 1025, 1099, 1100, 9999)]
    assert states == ["pending"] * 3 + ["processing"] * 2 + ["completed"] * 2
    assert job.row(1100)["completedAt"] == job.row(9999)["completedAt"] == "1970-01-01T00:18:20.000Z"


def test_the_oldest_job_is_forgotten_first(backend_module: ModuleType) -> None:
    """The book of jobs holds no more than its limit, and gives up the oldest for the newest."""
    jobs = sys.modules[backend_module.JobBook.__module__]
    book = backend_module.JobBook(0.3, limit=2)
    for job_id in ("a", "b", "c"):
        book.add(jobs.Job(queue="q", owner="u", takes_s=1.0, fails=False, details={}, id=job_id))
    assert [job_id for job_id in ("a", "b", "c") if book.get("q", job_id)] == ["b", "c"]


def test_the_program_says_where_it_listens(backend_program: Path) -> None:
    """Run as a program with port 0, it prints one line with the address, serves there, and ends when told to."""
    with subprocess.Popen([sys.executable, str(backend_program), "--port", "0"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline().decode().strip()
            assert line.startswith("sample backend on http://127.0.0.1:")
            with urllib.request.urlopen(f"{line.split()[-1]}/health", timeout=5) as answer:
                assert json.loads(answer.read()) == {"status": "ok"}
        finally:
            process.terminate()
        assert process.wait(timeout=5) == 0
        assert process.stdout.read() == b""

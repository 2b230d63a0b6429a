"""The example's routes for the apps of the origin, each in front of a backend of that app's shape: every way to an end.

The settings are those of `examples/farebox.yaml`, so what is shown there is what is tried here.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from config.clock import utc_now
from jobs.turns import Turn
from jobs.watch_jobs import watch_jobs
from policies.subscription import GRACE_DEFAULT
from policies.terms import MICRO
from proxy.asking import asking
from store import accounts, catalogue, reports, subscriptions
from store.opening import open_store
from store.verify import verify
from tests.examples.conftest import GOOD_REQUESTS
from tests.flows.house import House

FAILING: Mapping[str, object] = {"simulate": "fail-job"}


@dataclass(frozen=True)
class App:
    """A kind of job: how one is started so that it works or fails, where it is polled, and what it costs."""

    name: str
    credits: int
    poll: Callable[[dict[str, Any]], str]
    failing: Mapping[str, object] = field(default_factory=lambda: FAILING)
    hides: bool = True
    """Whether its status has the job's id in its path, so that other accounts are told that it does not exist."""

    async def start(self, house: House, user: str, **changes: object) -> dict[str, Any]:
        path, body, expected = GOOD_REQUESTS[self.name]
        status, answer, headers = await house.call("POST", path, user, json=body | changes)
        assert status == expected, answer
        assert "X-Farebox-Reserved" in headers
        return dict(answer)


def _by_id(path: str) -> Callable[[dict[str, Any]], str]:
    return lambda answer: path.format(answer["generation"]["id"])


APPS = [
    App("video", 5, _by_id("/api/apps/video-generator/generations/{}/status"), {"prompt": "a bus fail-job"}),
    App(
        "inpaint",
        3,
        lambda answer: f"/api/apps/poster-editor/inpaint/{answer['jobId']}/status",
        {"prompt": "a sky fail-job"},
    ),
    App("mix", 2, lambda answer: "/api/apps/video-mixer/projects/p1/generations", hides=False),
    App("carousel", 1, _by_id("/api/apps/carousel-mix/generations/{}")),
    App("loop", 2, lambda answer: "/api/apps/looping-flow/projects/p1", hides=False),
    App("avatar", 10, _by_id("/api/apps/avatar-creator/generations/{}"), {"prompt": "a portrait fail-job"}),
]

every_app = pytest.mark.parametrize("app", APPS, ids=lambda app: app.name)


@pytest.fixture(scope="module")
def seeded_database(seeded_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the model of avatar-creator on sale too, which the seeds leave to the operator."""
    path = tmp_path_factory.mktemp("apps") / "farebox.db"
    shutil.copyfile(seeded_database, path)

    async def enable() -> None:
        async with open_store(f"sqlite+aiosqlite:///{path}", utc_now) as store:
            await store.database.write(catalogue.put_model, "avatar-creator:flux-dev-standard", {"enabled": True})
            await store.database.write(catalogue.changed)

    asyncio.run(enable())
    return path


async def _spent(house: House, user: str) -> int:
    return 100 * MICRO - await house.balance(user)


async def _is_over(house: House) -> bool:
    return not await house.services.store.database.read(reports.open_holds, 10)


async def _polled_to_its_end(house: House, user: str, path: str) -> None:
    async with asyncio.timeout(10):
        while not await _is_over(house):
            status, _, headers = await house.call("GET", path, user)
            assert status == 200
            assert not any(name.startswith("X-Farebox-") for name in headers), "a poll is free"
            await asyncio.sleep(0.05)


async def _asked_to_its_end(house: House) -> None:
    """By the scheduler, whose clock runs ahead."""
    settings = house.services.settings

    def later() -> Any:
        return utc_now() + timedelta(minutes=1)

    async with (
        asyncio.timeout(10),
        open_store(settings.database_url, later) as store,
        asking(settings, store, utc_now) as ask,
    ):
        turn = Turn(store, later, asyncio.Event(), "watch_jobs", "the test")
        assert await turn.begin()
        # The job takes a tenth of a second, and the question comes once.
        await asyncio.sleep(0.2)
        assert await watch_jobs(store, turn, ask) == {"asked": 1, "unanswered": 0}
    assert await _is_over(house)


async def _verified(house: House) -> None:
    assert [check for check in await house.services.store.database.read(verify) if check.breaches] == []


@every_app
async def test_a_client_polls_until_its_job_is_done(house: House, app: App) -> None:
    """Reserved at first, charged at the end, once, however many polls there were."""
    answer = await app.start(house, "ann")
    assert await _spent(house, "ann") == app.credits * MICRO
    await _polled_to_its_end(house, "ann", app.poll(answer))
    await house.call("GET", app.poll(answer), "ann")
    assert await _spent(house, "ann") == app.credits * MICRO
    await _verified(house)


@every_app
async def test_a_job_that_fails_later_is_refunded(house: House, app: App) -> None:
    answer = await app.start(house, "ann", **app.failing)
    await _polled_to_its_end(house, "ann", app.poll(answer))
    assert await _spent(house, "ann") == 0
    await _verified(house)


@every_app
@pytest.mark.parametrize("fails", [False, True], ids=["done", "failed"])
async def test_nobody_polls(house: House, app: App, fails: bool) -> None:
    """The scheduler finds out how the job ended, at the address that the app has."""
    await app.start(house, "ann", **(app.failing if fails else {}))
    await _asked_to_its_end(house)
    assert await _spent(house, "ann") == (0 if fails else app.credits * MICRO)
    await _verified(house)


@every_app
async def test_another_account_learns_nothing_and_ends_nothing(house: House, app: App) -> None:
    answer = await app.start(house, "ann")
    await asyncio.sleep(0.2)
    status, _, _ = await house.call("GET", app.poll(answer), "bob")
    assert status == (404 if app.hides else 200)
    assert not await _is_over(house)
    await _polled_to_its_end(house, "ann", app.poll(answer))


async def test_a_cancelled_loop_is_refunded(house: House) -> None:
    """The answer to the cancellation says so itself."""
    app = next(app for app in APPS if app.name == "loop")
    answer = await app.start(house, "ann")
    job = answer["generation"]["id"]
    path = f"/api/apps/looping-flow/generations/{job}/cancel"
    assert (await house.call("POST", path, "bob"))[0] == 404
    assert (await house.call("POST", path, "ann"))[0] == 200
    assert await _is_over(house)
    assert await _spent(house, "ann") == 0


@pytest.mark.parametrize(
    ("failing", "charged", "done"), [(0, 2, "3"), (1, 2, "2"), (2, 1, "1"), (3, 0, None)], ids=lambda value: str(value)
)
@pytest.mark.parametrize("polls", [True, False], ids=["polled", "asked"])
async def test_a_batch_costs_what_was_done_of_it(
    house: House, failing: int, charged: int, done: str | None, polls: bool
) -> None:
    """Of three annotations, in units of a subscriber's quota: the share is rounded up, and nothing done is free."""
    store = house.services.store
    await house.call("GET", "/api/credits/balance", "pro")
    user = await store.database.read(accounts.find_user, "pro")
    assert user is not None
    plan = (await store.database.read(catalogue.load)).plan("pro-monthly")
    assert plan is not None
    account = user.account.account_id
    await store.database.write(
        subscriptions.subscribe, account, plan, GRACE_DEFAULT, "pro", utc_now(), payment_key="invoice"
    )
    app = App("batch", 0, lambda answer: f"/api/apps/poster-editor/inpaint-batch/{answer['batchId']}/status")
    prompts = ["sky fail-job"] * failing + ["sea"] * (3 - failing)
    answer = await app.start(house, "pro", annotations=[{"prompt": prompt} for prompt in prompts])
    await (_polled_to_its_end(house, "pro", app.poll(answer)) if polls else _asked_to_its_end(house))
    usage = await store.database.read(reports.usage, account, None, 10)
    assert [(row["charged"], row["units"].get("items_done")) for row in usage] == ([(charged, done)] if done else [])
    await _verified(house)

"""Quota on the wire: who pays when it is used up, and that a request is charged where it was taken from."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from config.quantities import Address
from config.settings import LoadedSettings
from policies.subscription import GRACE_DEFAULT
from policies.subscription_acts import cancel
from policies.terms import MICRO, AccountId
from proxy.app import farebox, listen
from store import accounts, catalogue, subscriptions
from store.quota_reports import windows
from store.reports import usage
from store.verify import verify
from tests.flows.house import Backend, House

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "one two three"}], "max_tokens": 10}
VIDEO = {"projectId": "p", "modelId": "wan2.2", "duration": 5, "resolution": "720p", "aspectRatio": "16:9"}
POLICY = """
version: 1
subscription: {overflow: credits}
rules:
  - {id: tier-models, allow: use, who: {tier: at-least-model}}
"""
EVENING = datetime(2026, 1, 15, 16, 30, tzinfo=UTC)
"""Half an hour before midnight in Jakarta."""


class Clock:
    now = EVENING

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def house(
    settings: LoadedSettings, backend: Backend, seeded_database: Path, tmp_path: Path, clock: Clock
) -> AsyncIterator[House]:
    """Where credits pay for what quota does not, with a plan of one call a day; every law is verified afterwards."""
    shutil.copyfile(seeded_database, tmp_path / "farebox.db")
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "main.yaml").write_text(POLICY)
    overflowing = replace(settings, folder=tmp_path, values=settings.values.model_copy(update={"policies": "policies"}))
    sockets = listen(Address("127.0.0.1", 0)), listen(Address("127.0.0.1", 0))
    async with farebox(overflowing, *sockets, clock) as running, aiohttp.ClientSession() as client:
        house = House(f"http://{running.public}", f"http://{running.admin}", running.services, client, backend)
        yield house
        checks = await house.services.store.database.read(verify)
        assert {check.name: check.breaches for check in checks if check.breaches} == {}


async def _write(house: House, change: Any, *arguments: Any) -> Any:
    return await house.services.store.database.write(change, *arguments)


async def _subscribed(house: House, user: str, **quota: object) -> AccountId:
    """The user's account, on a free plan of one call a day in Jakarta."""
    await house.call("GET", "/api/credits/balance", user)
    found = await house.services.store.database.read(accounts.find_user, user)
    assert found is not None
    terms = {"tier": "free", "name": "One", "description": "", "price": 0, "currency": "IDR", "cycle": "monthly"}
    terms |= {"daily_quota": 1, "monthly_quota": None, "max_model_tier": "free", "features": {}}
    terms |= {"quota_timezone": "Asia/Jakarta", **quota}
    now = house.services.now()
    await _write(house, catalogue.put_plan, "one", terms, 9, True, now)
    plan = (await house.services.store.database.read(catalogue.load)).plan("one")
    await _write(house, subscriptions.subscribe, found.account.account_id, plan, GRACE_DEFAULT, "test", now)
    return found.account.account_id


async def _cancel(house: House, account: AccountId) -> None:
    decide = partial(cancel, now=house.services.now(), immediately=True, reason=None)
    await _write(house, subscriptions.change, account, decide, "test", house.services.now())


async def _chat(house: House, user: str) -> tuple[int, Any, Any]:
    return await house.call("POST", "/v1/chat/completions", user, json=CHAT)


async def _start(house: House, user: str, prompt: str = "a bus") -> tuple[str, str]:
    """A job that the backend has accepted, and who is to pay for it."""
    status, body, headers = await house.call(
        "POST", "/api/apps/video-generator/generate", user, json={**VIDEO, "prompt": prompt}
    )
    assert status == 202, body
    return body["generation"]["id"], headers["X-Farebox-Funding"]


async def _finish(house: House, user: str, job: str) -> None:
    path = f"/api/apps/video-generator/generations/{job}/status"
    for _ in range(200):
        _, body, _ = await house.call("GET", path, user)
        if body["status"]["status"] in ("completed", "failed"):
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the job did not end")


async def _days(house: House, account: AccountId) -> list[tuple[str, int, int]]:
    """The daily windows, oldest first: date, used, held."""
    rows = await house.services.store.database.read(windows, account, EVENING - timedelta(days=3))
    return [(str(row["day"]), row["used"], row["held"]) for row in reversed(rows)]


def _date(days: int = 0) -> str:
    """The date in Jakarta."""
    return f"{EVENING + timedelta(days=days):%Y-%m-%d}"


async def test_credits_pay_when_the_quota_is_used_up(house: House, clock: Clock) -> None:
    """The headers say who pays and what is left of it; the next day quota pays again."""
    await _subscribed(house, "ann")
    _, _, headers = await _chat(house, "ann")
    assert (headers["X-Farebox-Funding"], headers["X-Farebox-Quota-Remaining"]) == ("quota", "0")
    status, _, headers = await _chat(house, "ann")
    assert (status, headers["X-Farebox-Funding"], headers["X-Farebox-Charged"]) == (200, "credits", "0.01")
    assert headers["X-Farebox-Credits-Remaining"] == "99.99"
    assert "X-Farebox-Quota-Remaining" not in headers
    clock.now += timedelta(minutes=30)
    assert (await _chat(house, "ann"))[2]["X-Farebox-Funding"] == "quota"
    assert await house.balance("ann") == 99_990_000


async def test_when_neither_pays_both_ways_out_are_named(house: House, clock: Clock) -> None:
    """429, since waiting mends it, with the moment, and with the credits that would."""
    account = await _subscribed(house, "ben")
    await house.services.store.ledger.deduct(account, 99_995_000, "a test")
    await _chat(house, "ben")
    reached = len(house.backend.requests)
    status, body, headers = await _chat(house, "ben")
    assert (status, headers["Retry-After"]) == (429, str(30 * 60))
    midnight = f"{EVENING:%Y-%m-%d}T17:00:00.000Z"
    # The route answers in the shape of the OpenAI API, with our fields beside its own.
    assert body["error"]["code"] == "quota_exceeded"
    expected = {"usage": 1, "limit": 1, "remaining": 0, "resetAt": midnight, "required": 0.104, "current": 0.005}
    assert {name: body[name] for name in expected} == expected
    assert f"resets at {midnight}, top up credits, or change to a plan" in body["error"]["message"]
    assert len(house.backend.requests) == reached


@pytest.mark.parametrize("prompt", ["a bus", "a bus fail-job"])
async def test_a_job_is_charged_to_the_day_it_was_started_on(house: House, clock: Clock, prompt: str) -> None:
    """Also when it ends after midnight, after the subscription, or both: quota pays, and not the credits."""
    account, used = await _subscribed(house, "cid"), 1 if prompt == "a bus" else 0
    job, funding = await _start(house, "cid", prompt)
    assert (funding, await _days(house, account)) == ("quota", [(_date(), 0, 1)])
    clock.now += timedelta(minutes=30)
    assert (await _chat(house, "cid"))[2]["X-Farebox-Funding"] == "quota"
    await _cancel(house, account)
    await _finish(house, "cid", job)
    assert await _days(house, account) == [(_date(), used, 0), (_date(1), 1, 0)]
    assert await house.balance("cid") == 100 * MICRO


@pytest.mark.parametrize("prompt", ["a bus", "a bus fail-job"])
async def test_a_job_that_credits_pay_for_stays_theirs(house: House, clock: Clock, prompt: str) -> None:
    """The next day has quota again, and is not asked."""
    account, spent = await _subscribed(house, "dan"), 5 if prompt == "a bus" else 0
    await _chat(house, "dan")
    job, funding = await _start(house, "dan", prompt)
    assert (funding, await house.balance("dan")) == ("credits", 95 * MICRO)
    clock.now += timedelta(minutes=30)
    await _finish(house, "dan", job)
    assert await house.balance("dan") == (100 - spent) * MICRO
    assert await _days(house, account) == [(_date(), 1, 0)]


async def test_a_refund_goes_back_to_the_day_that_paid(house: House, clock: Clock) -> None:
    """After midnight, and under another plan with another zone: neither the new day nor the balance gets anything."""
    account = await _subscribed(house, "eve")
    await _chat(house, "eve")
    (charged,) = await house.services.store.database.read(usage, account, None, 1)
    clock.now += timedelta(hours=2)
    await _cancel(house, account)
    await _subscribed(house, "eve", quota_timezone="UTC", daily_rollover=5)
    assert (await _chat(house, "eve"))[2]["X-Farebox-Funding"] == "quota"
    await house.services.store.ledger.refund(charged["id"], account, None, "sorry")
    assert await _days(house, account) == [(_date(), 0, 0), (_date(), 1, 0)]
    assert await house.balance("eve") == 100 * MICRO

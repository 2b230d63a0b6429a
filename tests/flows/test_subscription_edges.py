"""Where subscriptions, quota windows, requests under way and the clock meet: the same gate, ledger and API as ever.

What concerns one of them alone is tested beside it: a hold over midnight, the overflow to credits and windows under a
clock that steps back in tests/store/test_book_quota.py; short months and leap days in
tests/policies/test_subscription.py; a job that is late, doubled or missing in tests/jobs/test_expire_subscriptions.py
and tests/store/test_subscriptions.py.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from config.clock import utc_now
from policies.refusals import Refusal
from policies.subscription_acts import cancel
from policies.terms import Funding
from store import subscriptions
from store.verbs import Ended, Hold, LacksQuota, Settle, Usage
from store.verify import verify
from tests.proxy.management.service import NOW, MovableClock, Service, running

MONTH_LATER = datetime(2026, 2, 15, 10, 30, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
async def service(tmp_path: Path, migrated_file: Path, clock: MovableClock) -> AsyncIterator[Service]:
    """After each test every law of the ledger is kept."""
    shutil.copyfile(migrated_file, tmp_path / "farebox.db")
    async with running(tmp_path, f"sqlite+aiosqlite:///{tmp_path}/farebox.db", clock) as started:
        yield started
        checks = await started.services.store.database.read(verify)
        assert {check.name: check.breaches for check in checks if check.breaches} == {}


async def _reserve(service: Service, model: str = "video:alpha") -> Hold:
    hold = await service.reserve(model)
    assert isinstance(hold, Hold), hold
    return hold


async def _settle(service: Service, hold: Hold) -> Ended:
    ended = await service.services.store.ledger.settle(Settle(hold.hold_id, hold.account_id, None, Usage(), "done"))
    assert isinstance(ended, Ended), ended
    return ended


async def _cancel_now(service: Service, hold: Hold) -> None:
    write, now = service.services.store.database.write, service.now()
    await write(subscriptions.change, hold.account_id, lambda row: cancel(row, now, True, None), "ana", now)


# One window for one day, whatever happens to the plan.


async def test_an_upgrade_in_the_middle_of_the_day_keeps_what_was_used(service: Service) -> None:
    """The limit is raised and the use stays: an upgrade is more quota, not a second one."""
    row = await service.subscribed("basic")
    for _ in range(3):
        await service.use("video:alpha")
    await service.post("/subscription/change-plan", {"newPlanId": "pro"})
    assert (await service.get("/quota/status"))["limit"] == 50, "not before it is paid"
    await service.paid(row.account_id)
    status = await service.get("/quota/status")
    assert (status["used"], status["limit"], status["remaining"]) == (3, 100, 97)
    assert (await service.use("video:gamma")).available == 95, "and the gate counts as the status does"


async def test_going_up_and_down_refills_nothing(service: Service) -> None:
    """Asking for an upgrade, withdrawing it, scheduling a downgrade, cancelling and resuming: the use stays."""
    await service.subscribed("basic")
    await service.use("video:alpha")
    for plan_id in ("pro", "basic", "free", "basic"):
        await service.post("/subscription/change-plan", {"newPlanId": plan_id})
    await service.post("/subscription/cancel")
    await service.post("/subscription/resume")
    status = await service.get("/quota/status")
    assert (status["used"], status["limit"]) == (1, 50)


async def test_a_downgrade_below_what_was_used_leaves_nothing_and_no_debt(
    service: Service, clock: MovableClock
) -> None:
    """It comes into force in the middle of a day: nothing remains until midnight, and then the whole new quota."""
    await service.subscribed("basic")
    await service.post("/subscription/change-plan", {"newPlanId": "free"})
    clock.now = MONTH_LATER - HOUR
    for _ in range(12):
        await service.use("video:alpha")
    clock.now = MONTH_LATER
    status = await service.get("/quota/status")
    assert (status["used"], status["limit"], status["remaining"]) == (12, 10, 0)
    refused = await service.reserve("video:alpha")
    assert isinstance(refused, LacksQuota)
    assert (refused.used, refused.limit) == (12, 10)
    clock.now += DAY
    assert (await service.get("/quota/status"))["remaining"] == 10
    assert (await service.use("video:alpha")).available == 9


async def test_cancelling_and_resubscribing_on_one_day_is_one_window(service: Service) -> None:
    """Paid again, to another plan, it is still the same day's use."""
    row = await service.subscribed("basic")
    await service.use("video:alpha")
    await service.post("/subscription/cancel", {"immediately": True})
    await service.post("/subscription/subscribe", {"planId": "pro"}, status=201)
    await service.paid(row.account_id)
    await service.use("video:alpha")
    status = await service.get("/quota/status")
    assert (status["used"], status["limit"]) == (2, 100)


async def test_a_trial_and_what_follows_it_are_one_window(service: Service, clock: MovableClock) -> None:
    """Neither its end nor its payment is a refill."""
    await service.offer_trial("basic", 1)
    await service.post("/subscription/subscribe", {"planId": "basic"}, status=201)
    clock.now = NOW + DAY - HOUR
    await service.use("video:alpha")
    row = await service.paid((await service.user()).account.account_id)
    clock.now = NOW + DAY + HOUR
    await service.use("video:alpha")
    assert row.period_start == NOW + DAY
    assert (await service.get("/quota/status"))["used"] == 2


async def test_first_requests_at_the_same_moment_are_all_counted(tmp_path: Path, database_url: str) -> None:
    """The window is made by one of them and used by all; of ten units, ten are taken and not one more."""
    async with running(tmp_path, database_url, utc_now) as service:
        await service.subscribed("free")
        holds = await asyncio.gather(*(service.reserve("video:alpha") for _ in range(15)))
        assert sum(isinstance(hold, Hold) for hold in holds) == 10
        assert sum(isinstance(hold, LacksQuota) for hold in holds) == 5


# A request under way keeps its payer.


async def test_an_expiry_during_a_request_changes_nothing_for_it(service: Service, clock: MovableClock) -> None:
    """It was admitted on quota and is settled there; the next one is judged as pay-as-you-go."""
    await service.offer_trial("basic", 14)
    await service.post("/subscription/subscribe", {"planId": "basic"}, status=201)
    clock.now = NOW + timedelta(days=14, seconds=-1)
    hold = await _reserve(service, "video:beta")
    clock.now = NOW + timedelta(days=14)
    assert isinstance(await service.reserve("video:beta"), Refusal), "the tier is gone"
    ended = await _settle(service, hold)
    assert (hold.funding, ended.charged) == (Funding.QUOTA, 1)
    assert (await service.get("/credits/balance"))["balance"] == 100
    assert (await service.use("video:alpha")).funding is Funding.CREDITS


async def test_a_cancellation_during_a_request_gives_its_quota_back_to_the_window(service: Service) -> None:
    """Released after the subscription has ended, it is free again for whoever subscribes on the same day."""
    row = await service.subscribed("basic")
    hold = await _reserve(service)
    await _cancel_now(service, hold)
    await service.services.store.ledger.release(hold.hold_id, hold.account_id, "failed")
    await service.post("/subscription/subscribe", {"planId": "basic"}, status=201)
    await service.paid(row.account_id)
    assert (await service.get("/quota/status"))["remaining"] == 50


async def test_a_payer_is_pinned_when_the_account_changes(service: Service) -> None:
    """Admitted on credits it is charged in credits, though the account has a plan by the time it ends."""
    on_credits = await _reserve(service)
    await service.subscribed("basic")
    on_quota = await _reserve(service)
    assert (on_credits.funding, on_quota.funding) == (Funding.CREDITS, Funding.QUOTA)
    await _cancel_now(service, on_quota)
    assert (await _settle(service, on_credits)).charged == 5_000_000
    assert (await _settle(service, on_quota)).charged == 1
    assert (await service.get("/credits/balance"))["balance"] == 95


async def test_no_step_of_a_subscription_touches_credits(service: Service, clock: MovableClock) -> None:
    """Subscribed, upgraded, renewed, downgraded, lapsed: what was bought is there as it was."""
    row = await service.subscribed("basic")
    await service.post("/subscription/change-plan", {"newPlanId": "pro"})
    await service.paid(row.account_id)
    await service.post("/subscription/change-plan", {"newPlanId": "basic"})
    for days in (31, 30, 60):
        clock.forward(days=days)
        await service.services.store.database.write(subscriptions.store_due, row.account_id, clock.now)
        if days == 31:
            await service.paid(row.account_id)
        balance = await service.get("/credits/balance")
        assert (balance["balance"], balance["reserved"]) == (100, 0)
    assert (await service.get("/subscription/status"))["subscription"]["status"] == "expired"


# The plan and the clock.


async def test_an_edited_plan_changes_nothing_for_its_subscribers(service: Service) -> None:
    """They keep price and quota of their version; who subscribes afterwards has the new ones."""
    await service.subscribed("basic")
    await service.use("video:alpha")
    await service.edit_plan("basic", {"price": 199_000, "daily_quota": 5})
    status = await service.get("/quota/status")
    assert (status["used"], status["limit"]) == (1, 50)
    subscription = (await service.get("/subscription/status"))["subscription"]
    assert (subscription["plan"]["version"], subscription["nextAmount"]) == (1, 99_000)
    await service.subscribed("basic", "budi")
    assert (await service.get("/quota/status", user="budi"))["limit"] == 5


async def test_a_clock_that_steps_back_gives_no_second_period(service: Service, clock: MovableClock) -> None:
    """What was renewed stays renewed, and what ended stays ended, on a clock that has not got there yet."""
    row = await service.subscribed("basic")
    clock.now = MONTH_LATER + HOUR
    paid = await service.paid(row.account_id)
    clock.now = MONTH_LATER - HOUR
    status = await service.get("/subscription/status")
    assert (status["isActive"], status["subscription"]["payment"]) == (True, None)
    assert status["subscription"]["endDate"] == "2026-03-15T10:30:00.000Z"
    await service.post("/subscription/cancel", {"immediately": True})
    clock.now -= DAY
    assert (await service.get("/subscription/status"))["isActive"] is False
    assert paid.period_start == MONTH_LATER

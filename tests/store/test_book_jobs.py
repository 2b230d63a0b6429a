"""Holds that wait for a backend's job: one hold for one job, open until the job's own deadline."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from policies.holds import HoldState
from policies.terms import OnDeadline
from store.verbs import BindJob, Hold, Refused
from tests.store.till import NOON, REQUEST, Till

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_job_gives_its_hold_a_new_deadline_and_rule(till: Till) -> None:
    """The sweeper leaves it alone until the job's deadline has passed, and then follows the job's rule."""
    account = await till.account(100)
    hold = await till.hold(account, 30)
    bound = await till.bind(hold, "job 1", lasts=timedelta(days=1), on_deadline=OnDeadline.QUOTE)
    assert bound == hold
    till.now = NOON + timedelta(hours=23)
    assert await till.expire(hold) is Refused.NOT_DUE
    till.now = NOON + timedelta(days=1)
    assert (await till.expire(hold)).charged == 30


async def test_a_job_keeps_its_deadline(till: Till) -> None:
    """A sign of life of the request that has started it, and that comes after, is not one of the job."""
    account = await till.account(100)
    hold = await till.hold(account, 30)
    await till.bind(hold, "job 1", lasts=timedelta(minutes=1))
    assert await till.extend(hold, timedelta(hours=1)) == hold
    till.now = NOON + timedelta(minutes=1)
    assert (await till.expire(hold)).state is HoldState.EXPIRED


async def test_the_same_job_can_be_bound_again(till: Till) -> None:
    """Safe to repeat, in one batch and later."""
    account = await till.account(100)
    hold = await till.hold(account, 30)
    bind = BindJob(hold.hold_id, account, "job 1", timedelta(hours=1), OnDeadline.RELEASE)
    assert await till.run(bind, bind) == [hold, hold]
    assert await till.bind(hold, "job 1") == hold


async def test_one_job_has_one_hold(till: Till) -> None:
    """A second hold cannot be bound to a job: whoever settled it would settle the other one with it."""
    account = await till.account(100)
    first, second = await till.hold(account, 30), await till.hold(account, 30)
    await till.bind(first, "job 1")
    assert await till.bind(second, "job 1") is Refused.JOB_TAKEN
    assert isinstance(await till.bind(second, "job 2"), Hold)


async def test_a_job_of_another_account_is_taken(till: Till) -> None:
    """Also when both arrive in one batch."""
    one, other = await till.hold(await till.account(100), 30), await till.hold(await till.account(100), 30)
    rule = timedelta(hours=1), OnDeadline.RELEASE
    outcomes = await till.run(*(BindJob(hold.hold_id, hold.account_id, "job 1", *rule) for hold in (one, other)))
    assert outcomes == [one, Refused.JOB_TAKEN]
    assert await till.bind(other, "job 1") is Refused.JOB_TAKEN


async def test_a_job_stays_taken_after_its_hold_has_ended(till: Till) -> None:
    """A job is paid for once, also when its id is seen again much later."""
    account = await till.account(100)
    first, second = await till.hold(account, 30), await till.hold(account, 30)
    await till.bind(first, "job 1")
    await till.settle(first)
    assert await till.bind(second, "job 1") is Refused.JOB_TAKEN


async def test_routes_have_their_own_job_ids(till: Till) -> None:
    """Two backends may both count their jobs from one."""
    account = await till.account(100)
    for route in ("one", "other"):
        hold = await till.hold(account, 30, request=replace(REQUEST, route_id=route))
        assert isinstance(await till.bind(hold, "job 1"), Hold)


async def test_an_ended_hold_cannot_wait_for_a_job(till: Till) -> None:
    """What is settled or released stays so; but a job that is paid for before it is known is its account's too."""
    account = await till.account(100)
    settled, released = await till.settled(account, 30), await till.hold(account, 30)
    await till.release(released)
    assert await till.bind(settled, "job 1") is Refused.NOT_OPEN
    assert await till.bind(released, "job 2") is Refused.NOT_OPEN
    assert await till.bind(settled, "job 3") is Refused.NOT_OPEN
    rows = await till.rows("SELECT state, job_id FROM holds ORDER BY id")
    assert [(row["state"], row["job_id"]) for row in rows] == [("settled", "job 1"), ("released", None)]
    assert await till.bind(await till.hold(account, 30), "job 1") is Refused.JOB_TAKEN


async def test_nobody_binds_the_hold_of_another_account(till: Till) -> None:
    """A hold's id alone opens nothing."""
    hold = await till.hold(await till.account(100), 30)
    theirs = replace(hold, account_id=await till.account(100))
    assert await till.bind(theirs, "job 1") is Refused.UNKNOWN_HOLD


async def test_a_failed_job_costs_nothing(till: Till) -> None:
    """Ten minutes or ten hours later."""
    account = await till.account(100)
    hold = await till.hold(account, 30)
    await till.bind(hold, "job 1")
    till.now = NOON + timedelta(hours=10)
    ended = await till.release(hold)
    assert (ended.state, ended.available) == (HoldState.RELEASED, 100)

"""Sums of usage for operators: by day, model or account."""

from __future__ import annotations

from datetime import timedelta

import pytest

from policies.refusals import Reason
from policies.terms import Funding
from store.ids import parse_id
from tests.proxy.operations.desk import MICRO, Counter


async def _use(counter: Counter, user: str, amount: int, funding: Funding = Funding.CREDITS) -> str:
    hold = await counter.reserve(user, amount, funding)
    number = parse_id(hold)
    assert number is not None
    await counter.settle(number, user)
    return hold


@pytest.fixture
async def ana(counter: Counter) -> str:
    """A user with usage on two days, and with credits left; ben has used more often."""
    for user in ("ana", "ben"):
        await counter.do("accounts create", user=user)
    await _use(counter, "ana", 3 * MICRO)
    counter.clock.now += timedelta(days=1)
    refunded = await _use(counter, "ana", 5 * MICRO)
    await counter.do("holds refund", id=refunded, amount=1.5)
    for _ in range(3):
        await _use(counter, "ben", 2, Funding.QUOTA)
    return "ana"


def _row(calls: int, credits: float, refunded: float, quota: int) -> dict[str, object]:
    return {
        "calls": calls,
        "credits": credits,
        "credits_refunded": refunded,
        "quota": quota,
        "quota_refunded": 0,
        "estimated": 0,
    }


async def test_usage_is_added_up_by_day(counter: Counter, ana: str) -> None:
    """The latest day first; the total is that of all days, also of those that are not shown."""
    total = _row(5, 8, 1.5, 6)
    latest = {"day": "2026-01-16", **_row(4, 5, 1.5, 6)}
    both = {"usage": [latest, {"day": "2026-01-15", **_row(1, 3, 0, 0)}], "total": total}
    assert await counter.do("usage summary") == both
    assert await counter.do("usage summary", limit=1) == {"usage": [latest], "total": total}
    assert (await counter.do("usage summary", days=1))["total"] == _row(4, 5, 1.5, 6)


async def test_usage_is_added_up_by_model_and_by_account(counter: Counter, ana: str) -> None:
    """What was called most comes first."""
    by_model = await counter.do("usage summary", by="model")
    assert by_model["usage"] == [{"model": "video-generator:wan2.2", **_row(5, 8, 1.5, 6)}]
    by_account = (await counter.do("usage summary", by="account"))["usage"]
    assert [(row["calls"], row["credits"], row["quota"]) for row in by_account] == [(3, 0, 6), (2, 8, 0)]
    assert (await counter.do("usage summary", by="account", limit=1))["usage"] == by_account[:1]


async def test_one_account_can_be_asked_for(counter: Counter, ana: str) -> None:
    """By the id of a user, or by its number."""
    answer = await counter.do("usage summary", account=ana)
    assert answer["total"] == _row(2, 8, 1.5, 0)
    await counter.refused("usage summary", Reason.NOT_FOUND, account="nobody")


@pytest.mark.parametrize("given", [{"by": "week"}, {"days": 0}, {"days": 4000}, {"limit": 0}, {"limit": 501}])
async def test_what_cannot_be_asked_is_told(counter: Counter, ana: str, given: dict[str, object]) -> None:
    """Only known groups, and numbers within their bounds."""
    await counter.refused("usage summary", Reason.INVALID_REQUEST, **given)

"""Quotes: what a request would cost, and the gate's verdict on it."""

from __future__ import annotations

from typing import Any

import pytest

from policies.refusals import Refusal
from store.verbs import Hold, LacksCredits, LacksQuota
from tests.proxy.management.conftest import Start
from tests.proxy.management.service import MICRO, MODELS, Service

OVERFLOW = """
version: 1
subscription: {overflow: credits}
rules:
  - {id: ladder, allow: use, who: {tier: at-least-model}}
"""


async def _quote(service: Service, model_key: str, user: str = "ana", **units: float) -> dict[str, Any]:
    answer = await service.post("/quote", {"modelKey": model_key, "units": units}, user)
    assert isinstance(answer, dict)
    return answer


async def test_a_quote_that_passes(service: Service) -> None:
    """Units raise the price above the base, and the funds are told."""
    assert await _quote(service, "video:alpha", duration_seconds=8) == {
        "modelKey": "video:alpha",
        "accessible": True,
        "allowed": True,
        "funding": "credits",
        "credits": 8,
        "quota": 1,
        "balance": 100,
        "quotaRemaining": None,
        "rule": "tier-models",
        "code": None,
        "reason": None,
        "requiredTier": None,
        "resetAt": None,
        "hint": None,
    }


async def test_a_quote_without_units_is_the_base(service: Service) -> None:
    """The units may be left out altogether."""
    assert (await service.post("/quote", {"modelKey": "video:alpha"}))["credits"] == 5


async def test_a_model_out_of_reach_has_a_price_and_a_way_to_it(service: Service) -> None:
    """Not accessible, with the tier that would unlock it and the code that the gate would answer."""
    quote = await _quote(service, "video:beta", duration_seconds=8)
    assert (quote["accessible"], quote["allowed"], quote["funding"]) == (False, False, None)
    assert (quote["credits"], quote["quota"]) == (20, 1)
    assert (quote["code"], quote["requiredTier"]) == ("model_denied", "basic")
    assert quote["reason"] == "This model requires basic tier or higher"


@pytest.mark.parametrize(
    ("model_key", "reason"), [("video:nope", "Model not found"), ("image:off", "Model is currently disabled")]
)
async def test_a_model_that_nobody_can_use(service: Service, model_key: str, reason: str) -> None:
    """An unknown model has no price; a disabled one has one."""
    quote = await _quote(service, model_key)
    assert (quote["accessible"], quote["code"], quote["reason"]) == (False, "model_denied", reason)
    assert quote["credits"] == (1 if model_key == "image:off" else None)


async def test_too_few_credits(service: Service) -> None:
    """Accessible and still not allowed; the balance and the cost tell what is missing."""
    quote = await _quote(service, "video:alpha", duration_seconds=101)
    assert (quote["accessible"], quote["allowed"], quote["funding"]) == (True, False, "credits")
    assert (quote["code"], quote["credits"], quote["balance"]) == ("insufficient_credits", 101, 100)


async def test_quota_that_is_used_up(service: Service) -> None:
    """The refusal names when it resets."""
    await service.subscribed("free")
    for _ in range(10):
        await service.use("video:alpha")
    quote = await _quote(service, "video:alpha")
    assert (quote["accessible"], quote["allowed"], quote["funding"]) == (True, False, "quota")
    assert (quote["code"], quote["reason"], quote["quotaRemaining"]) == ("quota_exceeded", "Daily quota exceeded", 0)
    assert quote["resetAt"] == "2026-01-16T00:00:00.000Z"


async def test_overflow_to_credits(start: Start) -> None:
    """Where policy says so, credits pay once the quota is used up."""
    async with start(policy=OVERFLOW) as service:
        await service.subscribed("free")
        assert (await _quote(service, "video:alpha"))["funding"] == "quota"
        for _ in range(10):
            await service.use("video:alpha")
        quote = await _quote(service, "video:alpha")
        assert (quote["allowed"], quote["funding"]) == (True, "credits")


async def test_a_frozen_account(service: Service) -> None:
    """Refused for the reason that the gate gives."""
    await service.freeze()
    quote = await _quote(service, "video:alpha")
    assert (quote["accessible"], quote["code"], quote["reason"]) == (False, "account_frozen", "Account is frozen")


@pytest.mark.parametrize(("plan_id", "requests"), [(None, 60), ("free", 25), ("basic", 80)])
async def test_the_verdict_and_the_amounts_are_the_gates(service: Service, plan_id: str | None, requests: int) -> None:
    """Until the funds are gone: each quote foretells what reserving answers, and asking takes nothing."""
    if plan_id is not None:
        await service.subscribed(plan_id)
    refused = 0
    for number in range(requests):
        key = ("video:alpha", "image:dots", "video:gamma", "video:beta")[number % 4]
        quote = await _quote(service, key, duration_seconds=7, pixels=2_000_000)
        outcome = await service.reserve(key, duration_seconds=7, pixels=2_000_000)
        assert quote["allowed"] == isinstance(outcome, Hold)
        assert quote["accessible"] == (not isinstance(outcome, Refusal))
        if isinstance(outcome, Hold):
            unit = MICRO if outcome.funding == "credits" else 1
            assert (quote["funding"], quote[quote["funding"]]) == (outcome.funding, outcome.amount / unit)
            left = quote["balance"] * MICRO if outcome.funding == "credits" else quote["quotaRemaining"]
            assert left - outcome.amount == outcome.available
        elif isinstance(outcome, LacksCredits):
            refused += 1
            assert (quote["credits"], quote["balance"]) == (outcome.required / MICRO, outcome.current / MICRO)
        elif isinstance(outcome, LacksQuota):
            refused += 1
            assert quote["reason"] == f"{outcome.metric.capitalize()} quota exceeded"
    assert refused, "the funds were meant to run out"


async def test_asking_takes_nothing(service: Service) -> None:
    """Neither credits nor quota, however often."""
    for _ in range(3):
        for key in MODELS:
            await _quote(service, key)
    balance = await service.get("/credits/balance")
    assert (balance["balance"], balance["reserved"]) == (100, 0)


BAD_UNITS: dict[str, str] = {
    "negative": '{"duration_seconds": -1}',
    "too many": '{"duration_seconds": 1e300}',
    "too fine": '{"duration_seconds": 0.1234567890123}',
    "too fine to count": '{"duration_seconds": 1e-999999999}',
    "beyond all bounds": '{"duration_seconds": 1e9999999999999999999}',
    "just too many": '{"duration_seconds": 1000000000001}',
    "too long": '{"duration_seconds": 0.' + "1" * 4000 + "}",
    "a text": '{"duration_seconds": "8"}',
    "a truth": '{"duration_seconds": true}',
    "nothing": '{"duration_seconds": null}',
    "not a number": '{"duration_seconds": NaN}',
    "a list": "[1]",
    "a bad name": '{"Duration Seconds": 1}',
    "twice": '{"duration_seconds": 1, "duration_seconds": 2}',
    "a crowd": "{" + ", ".join(f'"unit_{number}": 1' for number in range(21)) + "}",
}


@pytest.mark.parametrize("units", BAD_UNITS.values(), ids=BAD_UNITS)
async def test_bad_units_are_refused(service: Service, units: str) -> None:
    """What could mint credits or choke the exact arithmetic never reaches it."""
    raw = f'{{"modelKey": "video:alpha", "units": {units}}}'.encode()
    answer = await service.ask("POST", "/quote", status=400, raw=raw)
    assert answer["code"] == "invalid_request"


@pytest.mark.parametrize("zero", ["0", "-0.0", "0e99999999", "0e-99999999"])
async def test_zero_is_zero_however_it_is_written(service: Service, zero: str) -> None:
    """An exponent of any size costs neither credits nor time."""
    raw = f'{{"modelKey": "video:alpha", "units": {{"duration_seconds": {zero}}}}}'.encode()
    assert (await service.ask("POST", "/quote", status=200, raw=raw))["credits"] == 5


async def test_fractions_of_units_are_exact(service: Service) -> None:
    """A decimal in the body is the decimal in the price: 5.1 seconds at 1 credit round up to 6."""
    assert (await _quote(service, "video:alpha", duration_seconds=5.1))["credits"] == 6
    assert (await _quote(service, "image:dots", pixels=3_000_000.1))["credits"] == 3.000001

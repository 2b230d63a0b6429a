"""Credits at the desk."""

from __future__ import annotations

import pytest

from policies.refusals import Reason
from tests.proxy.operations.desk import Counter


@pytest.fixture
async def ana(counter: Counter) -> str:
    await counter.do("accounts create", user="ana", credits=10)
    return "ana"


async def test_a_grant_is_added_exactly(counter: Counter, ana: str) -> None:
    """A ten-millionth part is refused, a millionth is kept: no amount passes through a float."""
    assert (await counter.do("credits grant", account=ana, credits="0.000001"))["balance"] == 10.000001
    assert (await counter.do("credits grant", account=ana, credits="0.1"))["balance"] == 10.100001
    await counter.refused("credits grant", Reason.INVALID_REQUEST, account=ana, credits="0.0000001")


async def test_one_key_is_one_grant(counter: Counter, ana: str) -> None:
    """A repeated grant with its key adds nothing; without a key every call grants."""
    first = await counter.do("credits grant", account=ana, credits=5, key="invoice-1")
    again = await counter.do("credits grant", account=ana, credits=5, key="invoice-1")
    assert (first["changed"], again["changed"], again["balance"]) == (True, False, 15)
    await counter.do("credits grant", account=ana, credits=5)
    assert (await counter.do("credits grant", account=ana, credits=5))["balance"] == 25


async def test_a_key_used_for_another_amount_is_a_conflict(counter: Counter, ana: str) -> None:
    """The operator is told what the key was used for instead of believing that the new amount was granted."""
    await counter.do("credits grant", account=ana, credits=5, key="invoice-1")
    refusal = await counter.refused("credits grant", Reason.CONFLICT, account=ana, credits=50, key="invoice-1")
    assert "a grant of 5 credits" in refusal.error
    assert (await counter.do("credits balance", account=ana))["available"] == 15


async def test_a_key_of_the_ledgers_own_is_refused(counter: Counter, ana: str) -> None:
    """A grant under it would stand in the way of a charge."""
    refusal = await counter.refused("credits grant", Reason.INVALID_REQUEST, account=ana, credits=5, key="overrun:7")
    assert refusal.fields == {"field": "key"}
    assert (await counter.do("credits balance", account=ana))["available"] == 10


async def test_lapsed_credits_are_not_available(counter: Counter, ana: str) -> None:
    """A grant counts until the moment it expires, and not from it on; one in the past cannot be made."""
    await counter.do("credits grant", account=ana, credits=5, expires="2026-01-16")
    assert (await counter.do("credits balance", account=ana))["available"] == 15
    counter.clock.now = counter.clock.now.replace(day=16, hour=0, minute=0)
    assert (await counter.do("credits balance", account=ana))["available"] == 10
    await counter.refused("credits grant", Reason.INVALID_REQUEST, account=ana, credits=5, expires="2026-01-16")


@pytest.mark.parametrize("credits", ["0", "-1", "", "ten", "NaN", "Infinity", "1e30", True, None, [1], "1000000001"])
async def test_an_amount_that_is_none_is_refused(counter: Counter, ana: str, credits: object) -> None:
    """Grants and deductions take a positive number of credits within bounds, and nothing that merely looks like one."""
    for verb in ("credits grant", "credits deduct"):
        await counter.refused(verb, Reason.INVALID_REQUEST, account=ana, credits=credits)
    assert (await counter.do("credits balance", account=ana))["available"] == 10


async def test_nobody_is_deducted_below_zero(counter: Counter, ana: str) -> None:
    """A deduction above what is available takes nothing and says what there is; what is held is not available."""
    await counter.reserve(ana, 4_000_000)
    refusal = await counter.refused("credits deduct", Reason.INSUFFICIENT_CREDITS, account=ana, credits=7)
    assert (refusal.fields, refusal.hint) == (
        {"required": 7, "current": 6},
        "The account has 6 credits available.",
    )
    assert (await counter.do("credits deduct", account=ana, credits=6))["balance"] == 4
    assert (await counter.do("credits balance", account=ana))["available"] == 0


async def test_every_change_is_in_the_history(counter: Counter, ana: str) -> None:
    """Newest first, with the balance after each; the pages meet."""
    await counter.do("credits grant", account=ana, credits=5, description="A gift")
    await counter.do("credits deduct", account=ana, credits=2, description="Taken back")
    first = await counter.do("credits history", account=ana, limit=2)
    rest = await counter.do("credits history", account=ana, before=first["next"], limit=2)
    entries = first["entries"] + rest["entries"]
    assert [(entry["credits"], entry["balance"], entry["description"]) for entry in entries] == [
        (-2, 13, "Taken back"),
        (5, 15, "A gift"),
        (10, 10, "Welcome bonus"),
    ]
    assert rest["next"] is None


async def test_grants_are_shown_in_the_order_they_are_spent(counter: Counter, ana: str) -> None:
    """What lapses first is spent first."""
    await counter.do("credits grant", account=ana, credits=1, key="late", expires="2026-03-01")
    await counter.do("credits grant", account=ana, credits=1, key="soon", expires="2026-02-01")
    grants = (await counter.do("credits balance", account=ana))["grants"]
    assert [grant["key"] for grant in grants] == ["soon", "late", "welcome"]

"""Holds and usage at the desk."""

from __future__ import annotations

from datetime import timedelta

import pytest

from policies.refusals import Reason
from policies.terms import Funding, OnLate
from store.ids import parse_id
from tests.proxy.operations.desk import MICRO, Counter


@pytest.fixture
async def ana(counter: Counter) -> str:
    await counter.do("accounts create", user="ana", credits=20)
    await counter.do("accounts create", user="budi", credits=20)
    return "ana"


async def _available(counter: Counter) -> object:
    return (await counter.do("credits balance", account="ana"))["available"]


async def test_open_holds_are_listed_by_account(counter: Counter, ana: str) -> None:
    """What is open is listed with its amount; what has ended is not."""
    hold = await counter.reserve(ana, 5 * MICRO)
    await counter.reserve("budi", 5 * MICRO)
    assert len((await counter.do("holds list"))["holds"]) == 2
    (row,) = (await counter.do("holds list", account=ana))["holds"]
    assert (row["id"], row["amount"], row["funding"]) == (hold, 5, "credits")
    await counter.do("holds release", id=hold)
    assert (await counter.do("holds list", account=ana))["holds"] == []


async def test_a_released_hold_gives_everything_back_once(counter: Counter, ana: str) -> None:
    """Releasing again is fine and changes nothing; settling it then is too late."""
    hold = await counter.reserve(ana, 5 * MICRO)
    assert (await counter.do("holds release", id=hold))["changed"] is True
    assert (await counter.do("holds release", id=hold))["changed"] is False
    await counter.refused("holds settle", Reason.CONFLICT, id=hold)
    assert await _available(counter) == 20


async def test_a_settled_hold_charges_the_amount_that_is_named(counter: Counter, ana: str) -> None:
    """The rest goes back; without an amount all that is reserved is charged; and nothing is charged twice."""
    part = await counter.reserve(ana, 5 * MICRO)
    assert (await counter.do("holds settle", id=part, amount="1.5"))["charged"] == 1.5
    assert (await counter.do("holds settle", id=part, amount="1.5"))["changed"] is False
    whole = await counter.reserve(ana, 5 * MICRO)
    assert (await counter.do("holds settle", id=whole))["charged"] == 5
    assert await _available(counter) == 13.5
    refusal = await counter.refused("holds release", Reason.CONFLICT, id=whole)
    assert refusal.hint == "A settled hold can be refunded: farebox holds refund"


async def test_a_refund_gives_back_at_most_what_was_charged(counter: Counter, ana: str) -> None:
    """In parts, then the rest, then nothing more; an open hold has nothing to refund."""
    hold = await counter.reserve(ana, 5 * MICRO)
    await counter.refused("holds refund", Reason.CONFLICT, id=hold)
    await counter.do("holds settle", id=hold)
    assert (await counter.do("holds refund", id=hold, amount=2))["refunded"] == 2
    await counter.refused("holds refund", Reason.CONFLICT, id=hold, amount=4)
    assert (await counter.do("holds refund", id=hold))["refunded"] == 3
    assert await _available(counter) == 20
    shown = await counter.do("holds show", id=hold)
    assert (shown["charged"], shown["refunded"]) == (5, 5)


async def test_quota_is_counted_in_whole_units(counter: Counter, ana: str) -> None:
    """A hold that quota funds takes units as they are, not as credits, and no part of one."""
    hold = await counter.reserve(ana, 3, Funding.QUOTA)
    assert (await counter.do("holds show", id=hold))["reserved"] == 3
    await counter.refused("holds settle", Reason.INVALID_REQUEST, id=hold, amount="1.5")
    settled = await counter.do("holds settle", id=hold, amount=2)
    assert (settled["charged"], settled["available"]) == (2, 48)
    assert (await counter.do("holds refund", id=hold))["refunded"] == 2


@pytest.mark.parametrize("amount", ["-1", "NaN", "0.0000001", "1e40"])
async def test_an_amount_that_no_hold_can_have_is_refused(counter: Counter, ana: str, amount: str) -> None:
    """Nothing negative, nothing finer than a micro-credit, nothing beyond every bound."""
    hold = await counter.reserve(ana, 5 * MICRO)
    await counter.refused("holds settle", Reason.INVALID_REQUEST, id=hold, amount=amount)
    assert (await counter.do("holds show", id=hold))["state"] == "reserved"


@pytest.mark.parametrize("hold_id", ["", "1", "no such id!!", "UUUUUUUUUUUUU", "ZZZZZZZZZZZZZ"])
async def test_what_is_no_id_is_told(counter: Counter, ana: str, hold_id: str) -> None:
    """A text that cannot be a request's id is invalid, not merely unknown."""
    await counter.refused("holds show", Reason.INVALID_REQUEST, id=hold_id)


async def test_an_operator_takes_no_more_than_is_reserved(counter: Counter, ana: str) -> None:
    """More than the hold is a deduction, which has a reason of its own; nothing has changed."""
    hold = await counter.reserve(ana, 5 * MICRO)
    refusal = await counter.refused("holds settle", Reason.INVALID_REQUEST, id=hold, amount="5.000001")
    assert (refusal.error, refusal.fields) == ("expected at most the 5 that are reserved", {"field": "amount"})
    assert refusal.hint is not None
    assert "credits deduct" in refusal.hint
    quota = await counter.reserve(ana, 3, Funding.QUOTA)
    await counter.refused("holds settle", Reason.INVALID_REQUEST, id=quota, amount=4)
    for hold_id in (hold, quota):
        assert (await counter.do("holds show", id=hold_id))["state"] == "reserved"
    assert await _available(counter) == 15


async def test_a_hold_that_expired_can_be_charged_late_by_hand(counter: Counter, ana: str) -> None:
    """Where its rule says so; the answer tells that it stays expired, and again changes nothing."""
    hold = await counter.reserve(ana, 5 * MICRO, on_late=OnLate.CHARGE)
    forgiven = await counter.reserve(ana, 5 * MICRO)
    counter.clock.now += timedelta(hours=2)
    await counter.desk.store.ledger.expire_overdue(counter.clock.now)
    settled = await counter.do("holds settle", id=hold, amount=3)
    assert (settled["state"], settled["charged"], settled["changed"]) == ("expired", 3, True)
    await counter.refused("holds settle", Reason.CONFLICT, id=hold, amount=3)
    await counter.refused("holds settle", Reason.CONFLICT, id=forgiven, amount=3)
    assert (await counter.do("holds refund", id=hold, amount=1))["refunded"] == 1
    shown = await counter.do("holds show", id=hold)
    assert (shown["charged"], shown["refunded"], shown["on_late"]) == (3, 1, "charge")
    assert shown["late_at"] == "2026-01-15T12:30:00.000Z"
    assert await _available(counter) == 18


async def test_an_unknown_hold_is_not_found(counter: Counter, ana: str) -> None:
    """For every verb that names one."""
    for verb in ("holds show", "holds release", "holds settle", "holds refund"):
        await counter.refused(verb, Reason.NOT_FOUND, id="0000000000001")


async def test_usage_is_listed_newest_first_in_pages(counter: Counter, ana: str) -> None:
    """Every charge once, with its hold's id; of one account when it is named."""
    holds = [await counter.reserve(user, MICRO) for user in ("ana", "budi", "ana", "ana")]
    for hold, user in zip(holds, ("ana", "budi", "ana", "ana"), strict=True):
        number = parse_id(hold)
        assert number is not None
        await counter.settle(number, user)
    first = await counter.do("usage list", account=ana, limit=2)
    rest = await counter.do("usage list", account=ana, limit=2, before=first["next"])
    assert [row["id"] for row in first["usage"] + rest["usage"]] == [holds[3], holds[2], holds[0]]
    assert (len((await counter.do("usage list"))["usage"]), rest["next"]) == (4, None)
    assert first["usage"][0]["charged"] == 1


async def test_the_ledger_stays_right(counter: Counter, ana: str) -> None:
    """After grants, deductions, settlements and refunds by hand every law holds."""
    hold = await counter.reserve(ana, 5 * MICRO)
    await counter.do("holds settle", id=hold, amount=4)
    await counter.do("holds refund", id=hold, amount=2)
    await counter.do("credits grant", account=ana, credits="0.5")
    await counter.do("credits deduct", account=ana, credits=3)
    await counter.reserve(ana, MICRO)
    verified = await counter.do("ledger verify")
    assert verified["ok"] is True
    assert verified["breaches"] == []
    assert all(check["breaches"] == 0 for check in verified["checks"])

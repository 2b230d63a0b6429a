"""Credits: the balance, what it is made of, and every movement."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from policies.refusals import iso
from store.ids import id_text
from store.verbs import GrantSource
from tests.proxy.management.service import MICRO, NOW, MovableClock, Service


async def _granted(service: Service, micro: int, key: str, **options: Any) -> None:
    account_id = (await service.user()).account.account_id
    source = options.pop("source", GrantSource.PURCHASE)
    await service.services.store.ledger.grant(account_id, micro, source, key, f"Grant {key}", **options)


async def test_the_welcome_credits_show_as_balance_and_last_transaction(service: Service) -> None:
    """A whole number of credits is an integer, as the origin's clients expect."""
    balance = await service.get("/credits/balance")
    assert (balance["balance"], balance["reserved"]) == (100, 0)
    assert isinstance(balance["balance"], int)
    transaction = balance["lastTransaction"]
    assert (transaction["amount"], transaction["type"], transaction["balance"]) == (100, "bonus", 100)
    assert transaction["createdAt"] == iso(NOW)
    assert [(grant["source"], grant["remaining"]) for grant in balance["grants"]] == [("bonus", 100)]


async def test_reserved_credits_are_not_spendable(service: Service) -> None:
    """A running request takes from the balance before it is charged, and makes no movement yet."""
    await service.reserve("video:alpha", duration_seconds=8)
    balance = await service.get("/credits/balance")
    assert (balance["balance"], balance["reserved"]) == (92, 8)
    assert balance["lastTransaction"]["type"] == "bonus"


async def test_fractions_of_credits_have_at_most_six_decimals(service: Service) -> None:
    """A micro-credit is the smallest amount that can be told."""
    await _granted(service, 1, "dust")
    assert (await service.get("/credits/balance"))["balance"] == 100.000001


async def test_lapsed_credits_do_not_count(service: Service, clock: MovableClock) -> None:
    """From the moment they expire they are neither in the balance nor among the grants, before any job has run."""
    await _granted(service, 7 * MICRO, "promo", source=GrantSource.PROMO, expires_at=NOW + timedelta(hours=1))
    balance = await service.get("/credits/balance")
    assert [(grant["source"], grant["remaining"]) for grant in balance["grants"]] == [("promo", 7), ("bonus", 100)]
    clock.forward(hours=1)
    balance = await service.get("/credits/balance")
    assert balance["balance"] == 100
    assert [grant["source"] for grant in balance["grants"]] == ["bonus"]


async def test_the_grants_add_up_to_the_balance(service: Service) -> None:
    """Whatever was granted and used."""
    await _granted(service, 2_500_000, "a")
    await _granted(service, 40 * MICRO, "b", source=GrantSource.PLAN, expires_at=NOW + timedelta(days=1))
    await service.use("video:alpha", duration_seconds=41)
    balance = await service.get("/credits/balance")
    assert sum(grant["remaining"] for grant in balance["grants"]) == balance["balance"] == 101.5


async def test_every_movement_names_its_kind_and_its_cause(service: Service) -> None:
    """Usage and its refund name the request, and the refund brings the balance back."""
    hold = await service.use("video:alpha")
    await service.services.store.ledger.refund(hold.hold_id, hold.account_id, None, "Generation failed")
    transactions = (await service.get("/credits/history"))["transactions"]
    assert [(row["type"], row["amount"], row["balance"]) for row in transactions] == [
        ("refund", 5, 100),
        ("usage", -5, 95),
        ("bonus", 100, 100),
    ]
    request_id = id_text(hold.hold_id)
    assert [(row["referenceType"], row["referenceId"]) for row in transactions[:2]] == [("usage", request_id)] * 2
    assert transactions[0]["description"] == "Generation failed"


async def test_an_operators_deduction_is_an_adjustment(service: Service) -> None:
    """It belongs to no request."""
    account_id = (await service.user()).account.account_id
    await service.services.store.ledger.deduct(account_id, 3 * MICRO, "Mistake")
    newest = (await service.get("/credits/history"))["transactions"][0]
    assert (newest["type"], newest["amount"], newest["referenceType"], newest["referenceId"]) == (
        "adjust",
        -3,
        None,
        None,
    )


@pytest.mark.parametrize("limit", [1, 7, 50, 200])
async def test_pages_have_no_gap_and_no_repeat(service: Service, limit: int) -> None:
    """Following nextCursor through 121 movements meets each of them once, newest first, while new ones arrive."""
    for number in range(120):
        await _granted(service, 1000, f"grant-{number}")
    seen: list[int] = []
    async for page in service.pages("/credits/history", "transactions", limit):
        assert len(page) <= limit
        seen += [int(row["id"]) for row in page]
        if len(seen) < 10:
            await _granted(service, 1000, f"late-{len(seen)}")
    assert seen == list(range(121, 0, -1))


async def test_a_page_that_ends_with_the_last_row_is_the_last(service: Service) -> None:
    """No cursor leads to an empty page."""
    await _granted(service, 1000, "one")
    page = await service.get("/credits/history?limit=2")
    assert (len(page["transactions"]), page["nextCursor"]) == (2, None)


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "limit=ten", "limit=", "cursor=x", "cursor=-1", "limit=1&limit=2"]
)
async def test_bad_page_parameters_are_refused(service: Service, query: str) -> None:
    """Naming the parameter, instead of quietly showing something else."""
    answer = await service.get(f"/credits/history?{query}", status=400)
    assert (answer["code"], answer["field"]) == ("invalid_request", query.partition("=")[0])


@pytest.mark.parametrize("cursor", ["9" * 18, "9" * 19, "9" * 40, "%F0%9D%9F%99", "1%00"])
async def test_a_cursor_that_no_page_gave_is_refused_or_harmless(service: Service, cursor: str) -> None:
    """Numbers that the database cannot hold never reach it."""
    status = 200 if cursor == "9" * 18 else 400
    await service.get(f"/credits/history?cursor={cursor}", status=status)

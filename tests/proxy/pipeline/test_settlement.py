"""What a hold ends with: measured, quoted or nothing, and how it is told."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any, cast

import pytest

from config.routes import Route
from policies.evaluate import Allow
from policies.holds import HoldState
from policies.limiting import Counted
from policies.terms import MICRO, AccountId, Funding, HoldId, Price
from proxy.limiting import Pass
from proxy.pipeline.exchange import Admitted, Asked, Body, Held, Incoming, Routed
from proxy.pipeline.routing import CompiledRoute
from proxy.pipeline.settlement import abort_verb, credits_text, funding_headers, headers_of, measure, settle_verb
from proxy.pipeline.usage import Passed, wanted_of
from proxy.upstream.client import Upstream
from store.verbs import Ended, Hold, Refused, Release, Settle
from tests.policies.samples import caller, catalogue, compiled, decide, model

RULES = "rules: [{id: all, allow: use, model: '*'}]"
PASSED = Passed([], 0, 0, Decimal(0))
PRICE = Price(MICRO, {"tokens": Decimal(100_000), "seconds": Decimal(MICRO)})


async def _nothing() -> None:
    """What a call without limits undoes."""


def held(
    *,
    usage: Mapping[str, str] | None = None,
    units: Mapping[str, Decimal] | None = None,
    funding: Funding = Funding.CREDITS,
    on_abort: str = "delivered",
) -> Held:
    """A hold of a request on a route whose answers state these units at these places."""
    values: dict[str, Any] = {"id": "r", "match": "POST /", "upstream": "u", "app": "shop", "model": {"const": "m"}}
    stated = {name: {"json": pointer} for name, pointer in (usage or {}).items()}
    route = Route.model_validate(values | {"usage": stated, "on_abort": on_abort})
    routed = Routed(cast(Incoming, None), CompiledRoute(route, cast(Upstream, None), False, wanted_of(route.usage)), {})
    rulebook = compiled(RULES, catalogue(model("shop:m", price=PRICE)))
    asked = Asked(routed, Body(b"", complete=True), "shop:m", units or {})
    allow = decide(rulebook, caller(), "shop:m", units)
    assert isinstance(allow, Allow), allow
    hold = Hold(HoldId(7), AccountId(1), funding, allow.quote.credits, 50)
    return Held(
        Admitted(asked, caller(), allow, rulebook, Pass(Counted({}, {}, (), ()), lambda: None, _nothing)), hold, 0.0
    )


# Measured.


def test_without_usage_the_quote_is_exact() -> None:
    """A route whose answers state nothing charges what was quoted, and that is no estimate."""
    measured = measure(held(units={"tokens": Decimal(20)}), [{"usage": {"tokens": 1}}], PASSED, complete=True)
    assert (measured.amount, measured.units, measured.estimated) == (None, {"tokens": "20"}, False)


def test_stated_usage_replaces_the_quoted_units() -> None:
    """The charge follows what the answer states, and keeps the units that only the request tells."""
    asked = held(usage={"tokens": "/usage/tokens"}, units={"tokens": Decimal(90), "seconds": Decimal(2)})
    measured = measure(asked, [{"usage": {"tokens": 15}}], PASSED, complete=True)
    assert measured.amount == 15 * 100_000 + 2 * MICRO
    assert (measured.units, measured.estimated) == ({"tokens": "15", "seconds": "2"}, False)


@pytest.mark.parametrize("stated", [0, Decimal("0.5"), 10])
def test_a_charge_is_never_below_the_base(stated: object) -> None:
    """An answer that states nothing used, or little, costs the base of the price."""
    measured = measure(held(usage={"tokens": "/t"}), [{"t": stated}], PASSED, complete=True)
    assert measured.amount == MICRO


@pytest.mark.parametrize("documents", [[], [{}], [{"t": -1}], [{"t": "5"}], [{"t": None}], [5], ["x"], [[]]])
@pytest.mark.parametrize("complete", [True, False])
def test_unusable_usage_settles_the_quote(documents: list[object], complete: bool) -> None:
    """Missing or unbelievable usage is charged as it was quoted, and marked as an estimate."""
    measured = measure(held(usage={"tokens": "/t"}, units={"tokens": Decimal(20)}), documents, PASSED, complete)
    assert (measured.amount, measured.units, measured.estimated) == (None, {"tokens": "20"}, True)


def test_quota_is_flat() -> None:
    """A hold of quota units is not priced by usage; the units are recorded all the same."""
    measured = measure(held(usage={"tokens": "/t"}, funding=Funding.QUOTA), [{"t": 5}], PASSED, complete=True)
    assert (measured.amount, measured.units, measured.estimated) == (None, {"tokens": "5"}, False)


# The abort rule.


@pytest.mark.parametrize(
    ("rule", "documents", "amount", "estimated"),
    [
        ("delivered", [{"t": 50}], 50 * 100_000, False),
        ("delivered", [], None, True),
        ("quote", [{"t": 50}], None, True),
        ("quote", [], None, True),
    ],
)
def test_what_a_client_that_leaves_owes(
    rule: str, documents: list[object], amount: int | None, estimated: bool
) -> None:
    """By the route's rule: what was measured so far, else the quote."""
    asked = held(usage={"tokens": "/t"}, on_abort=rule)
    verb = abort_verb(asked, measure(asked, documents, PASSED, complete=False), 200, timedelta(milliseconds=1234.9))
    assert isinstance(verb, Settle)
    assert (verb.hold_id, verb.amount, verb.reason) == (7, amount, "aborted")
    assert (verb.usage.estimated, verb.usage.upstream_status, verb.usage.latency_ms) == (estimated, 200, 1234)


def test_a_route_may_forgive_those_who_leave() -> None:
    """`release` gives everything back, whatever was delivered."""
    asked = held(usage={"tokens": "/t"}, on_abort="release")
    verb = abort_verb(asked, measure(asked, [{"t": 50}], PASSED, complete=False), 200, timedelta())
    assert verb == Release(HoldId(7), AccountId(1), "aborted")


def test_a_settlement_records_how_it_came_about() -> None:
    """The usage event has the units, the backend's status and the whole milliseconds it took."""
    asked = held(usage={"tokens": "/t"})
    verb = settle_verb(asked, measure(asked, [{"t": 5}], PASSED, complete=True), 201, timedelta(seconds=2), "answered")
    assert (verb.account_id, verb.amount, verb.reason) == (1, MICRO, "answered")
    assert (verb.usage.units, verb.usage.upstream_status, verb.usage.latency_ms) == ({"tokens": "5"}, 201, 2000)


# What the caller is told.


@pytest.mark.parametrize(
    ("outcome", "headers"),
    [
        (
            Hold(HoldId(1), AccountId(1), Funding.CREDITS, 2 * MICRO, 98 * MICRO),
            {"Funding": "credits", "Reserved": "2", "Credits-Remaining": "98"},
        ),
        (
            Ended(HoldId(1), HoldState.SETTLED, Funding.CREDITS, 1_500_000, 10, True),
            {"Funding": "credits", "Charged": "1.5", "Credits-Remaining": "0.00001"},
        ),
        (
            Ended(HoldId(1), HoldState.RELEASED, Funding.CREDITS, 0, 10**15, True),
            {"Funding": "credits", "Charged": "0", "Credits-Remaining": "1000000000"},
        ),
        (
            Hold(HoldId(1), AccountId(1), Funding.QUOTA, 3, 47),
            {"Funding": "quota", "Reserved": "3", "Quota-Remaining": "47"},
        ),
        (
            Ended(HoldId(1), HoldState.SETTLED, Funding.QUOTA, 3, 0, False),
            {"Funding": "quota", "Charged": "3", "Quota-Remaining": "0"},
        ),
    ],
)
def test_funding_headers(outcome: Hold | Ended, headers: dict[str, str]) -> None:
    """Who paid, how much is charged or still reserved, and what is left, in credits or in quota units."""
    assert funding_headers(outcome) == [(f"X-Farebox-{name}", value) for name, value in headers.items()]
    assert headers_of(outcome) == funding_headers(outcome)


def test_a_hold_that_is_not_found_has_nothing_to_show() -> None:
    assert headers_of(Refused.UNKNOWN_HOLD) == []


@pytest.mark.parametrize(
    ("micro", "text"),
    [
        (0, "0"),
        (1, "0.000001"),
        (10, "0.00001"),
        (999_999, "0.999999"),
        (MICRO, "1"),
        (100 * MICRO, "100"),
        (1_100_000, "1.1"),
        (123_456_789_000_001, "123456789.000001"),
        (10**15, "1000000000"),
        (-1_500_000, "-1.5"),
    ],
)
def test_credits_as_text(micro: int, text: str) -> None:
    """Exact decimals without an exponent or zeros at the end."""
    assert credits_text(micro) == text

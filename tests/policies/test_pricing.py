"""What a call costs: max(base, rate x units), rounded up, in whole micro-credits, whatever the numbers are."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.pricing import cost, round_up, to_credits, to_micro
from policies.terms import MAX_AMOUNT, MICRO, Price
from tests.policies.samples import LAW

_amounts = st.integers(0, MAX_AMOUNT)
_rates = st.decimals(0, 10**6, allow_nan=False, allow_infinity=False, places=9)
_units = st.decimals(0, 10**12, allow_nan=False, allow_infinity=False, places=12)


def _seed(base: int, unit: str = "", rate: str = "0") -> Price:
    """A price as the seeds write it, in credits."""
    rates = {unit: Decimal(rate) * MICRO} if unit else {}
    return Price(base * MICRO, rates, round_up_to=MICRO)


@pytest.mark.parametrize(
    ("price", "units", "credits"),
    [
        (_seed(5, "seconds", "1.0"), {}, 5),
        (_seed(5, "seconds", "1.0"), {"seconds": 1}, 5),
        (_seed(5, "seconds", "1.0"), {"seconds": 6}, 6),
        (_seed(10, "seconds", "2.0"), {"seconds": 5}, 10),
        (_seed(10, "seconds", "2.0"), {"seconds": 10}, 20),
        (_seed(20, "seconds", "3.0"), {"seconds": 5}, 20),
        (_seed(20, "seconds", "3.0"), {"seconds": 10}, 30),
        (_seed(50, "seconds", "5.0"), {"seconds": 5}, 50),
        (_seed(50, "seconds", "5.0"), {"seconds": 20}, 100),
        (_seed(3, "pixels", "0.000001"), {}, 3),
        (_seed(3, "pixels", "0.000001"), {"pixels": 1024**2}, 3),
        (_seed(3, "pixels", "0.000001"), {"pixels": 2048**2}, 5),
        (_seed(3, "pixels", "0.000001"), {"pixels": 4096**2}, 17),
        (_seed(10, "pixels", "0.000003"), {"pixels": 2048**2}, 13),
        (_seed(10, "pixels", "0.000003"), {"pixels": 4096**2}, 51),
        (_seed(5, "seconds", "1.0"), {"seconds": "0.001"}, 5),
        (_seed(5, "seconds", "1.0"), {"seconds": "5.000001"}, 6),
        (_seed(5, "seconds", "1.0"), {"pixels": 10**9}, 5),
        (_seed(0), {"seconds": 100}, 0),
    ],
)
def test_the_seeded_prices(price: Price, units: dict[str, object], credits: int) -> None:
    """The origin's cost vectors, without its bugs: a unit never lowers a price, and a pixel is a pixel."""
    assert cost(price, {name: Decimal(str(value)) for name, value in units.items()}) == credits * MICRO


def test_the_rates_of_several_units_add_up() -> None:
    """Input and output tokens of one call are one sum, and the base is its lower bound, not an addend."""
    price = Price(10_000, {"input_tokens": Decimal("0.15"), "output_tokens": Decimal("0.6")})
    assert cost(price, {"input_tokens": Decimal(100_000), "output_tokens": Decimal(1)}) == 15_001
    assert cost(price, {"output_tokens": Decimal(3)}) == 10_000


@LAW
@given(_amounts, _rates, _units, st.integers(1, 10**7))
def test_a_cost_is_exact_arithmetic_rounded_up(base: int, rate: Decimal, units: Decimal, step: int) -> None:
    """Never less than base or rate x units, less than one step above, and never over the largest amount."""
    exact = max(Fraction(base), Fraction(rate) * Fraction(units))
    expected = ceil(exact / step) * step
    assert cost(Price(base, {"u": rate}, step), {"u": units}) == min(expected, MAX_AMOUNT)


@LAW
@given(_amounts, _rates, _units, _units)
def test_more_units_never_cost_less(base: int, rate: Decimal, some: Decimal, more: Decimal) -> None:
    """The cost grows with its units, so that understating them is the only way to pay less."""
    price = Price(base, {"u": rate})
    assert cost(price, {"u": min(some, more)}) <= cost(price, {"u": max(some, more)})


@LAW
@given(st.decimals(allow_nan=False, allow_infinity=False), st.decimals(0, 1, places=20))
def test_a_cost_is_never_negative_or_below_the_base(units: Decimal, rate: Decimal) -> None:
    """Whatever finite number comes through, also a negative one: at least the base, at most the bound."""
    assert 7 <= cost(Price(7, {"u": rate}), {"u": units}) <= MAX_AMOUNT


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        ("1e-999999", 1),
        ("1e999999", MAX_AMOUNT),
        ("9" * 5_000, MAX_AMOUNT),
        ("1." + "0" * 500 + "1", 2),
        ("0." + "3" * 1_000, 1),
        ("-1e999999", 0),
    ],
)
def test_absurd_numbers_have_a_price(units: str, expected: int) -> None:
    """Numbers of a thousand digits are rounded up like any other, and take no noticeable time."""
    assert cost(Price(0, {"u": Decimal(1)}), {"u": Decimal(units)}) == expected


@pytest.mark.parametrize("units", ["NaN", "sNaN", "-NaN"])
def test_what_is_not_a_number_has_no_price(units: str) -> None:
    """NaN is a fault of whoever read it: it raises instead of comparing as whatever."""
    with pytest.raises(ArithmeticError):
        cost(Price(5, {"u": Decimal(1)}), {"u": Decimal(units)})


@pytest.mark.parametrize(
    "fields",
    [
        {"base": -1},
        {"base": MAX_AMOUNT + 1},
        {"base": 1, "round_up_to": 0},
        {"base": 1, "round_up_to": -1_000_000},
        {"base": 1, "round_up_to": MAX_AMOUNT + 1},
        {"base": 1, "rates": {"u": Decimal("-0.1")}},
        {"base": 1, "rates": {"u": Decimal("NaN")}},
        {"base": 1, "rates": {"u": Decimal("Infinity")}},
        {"base": 1, "rates": {"u": Decimal(MAX_AMOUNT + 1)}},
    ],
)
def test_a_negative_or_endless_price_does_not_exist(fields: dict[str, object]) -> None:
    """A price that could hand out credits, or that no amount can hold, cannot be made."""
    with pytest.raises(ValueError, match="from"):
        Price(**fields)  # type: ignore[arg-type]


@LAW
@given(st.decimals(0, 10**12, places=15), st.integers(1, 10**9))
def test_rounding_up_is_the_smallest_multiple(amount: Decimal, step: int) -> None:
    """The law of `round_up`: a multiple of the step, not below the amount, and less than a step above it."""
    rounded = round_up(amount, step)
    assert rounded % step == 0
    assert amount <= rounded < amount + step


@LAW
@given(st.integers(-MAX_AMOUNT, MAX_AMOUNT))
def test_credits_and_micro_credits_round_trip(micro: int) -> None:
    """Every amount survives the way through a JSON number and back, exactly."""
    number = json.dumps(to_credits(micro))
    assert to_micro(Decimal(number)) == micro
    assert micro % MICRO or "." not in number


@pytest.mark.parametrize(
    ("micro", "credits"),
    [(100_000_000, 100), (0, 0), (1, 0.000001), (1_500_000, 1.5), (-500_000, -0.5), (-1_000_000, -1)],
)
def test_whole_credits_are_integers(micro: int, credits: float) -> None:
    """The origin's clients expect `{"balance": 100}`, not 100.0."""
    assert to_credits(micro) == credits
    assert type(to_credits(micro)) is type(credits)


@pytest.mark.parametrize("credits", ["0.0000001", "1e-7", "1e-999999", "0." + "1" * 100, "123456.12345678901234567890"])
def test_less_than_a_micro_credit_is_refused(credits: str) -> None:
    """More decimals than six are somebody's mistake, and are not rounded away, however many they are."""
    with pytest.raises(ValueError, match="more than six decimals"):
        to_micro(Decimal(credits))


@pytest.mark.parametrize(
    "credits", ["1000000000.000001", "-1000000001", "1e30", "1e999999", "NaN", "Infinity", "9" * 200]
)
def test_amounts_out_of_range_are_refused(credits: str) -> None:
    """A thousand million credits is the most, in both directions; what is no number is out of range."""
    with pytest.raises(ValueError, match="out of range"):
        to_micro(Decimal(credits))


@pytest.mark.parametrize(
    ("credits", "micro"),
    [("1000000000", MAX_AMOUNT), ("-1000000000", -MAX_AMOUNT), ("-0", 0), ("1.50000000", 1_500_000)],
)
def test_amounts_at_the_edge(credits: str, micro: int) -> None:
    """The largest amount is an amount, zero has no sign, and zeros at the end are no decimals."""
    assert to_micro(Decimal(credits)) == micro

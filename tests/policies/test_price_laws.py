"""Laws of every price, whatever it is made of: it is an amount, never below its base, and no unit lowers it."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.pricing import cost, quota_cost, share
from policies.terms import MAX_AMOUNT, Price, Range, Term
from store.price_rows import price_of, rates_of, terms_of
from tests.policies.samples import model

UNITS = ("a", "b", "c")
names = st.sampled_from(UNITS)
amounts = st.integers(0, MAX_AMOUNT) | st.integers(0, 1000)
numbers = st.decimals(0, 10**6, places=6) | st.integers(0, 1000).map(Decimal)
units = st.dictionaries(names, st.decimals(0, 10**15, places=15) | st.integers(0, 100).map(Decimal), max_size=3)


@st.composite
def _range(draw: st.DrawFn) -> Range:
    least = draw(numbers)
    return least, draw(st.none() | numbers.map(lambda more: least + more))


def _terms(*, percent: bool, conditions: bool) -> st.SearchStrategy[Term]:
    return st.builds(
        Term,
        amount=numbers,
        unit=st.none() | names,
        step=st.none() | st.decimals("0.000001", 10**6, places=6),
        above=numbers,
        when=st.dictionaries(names, _range(), max_size=2) if conditions else st.just({}),
        percent=st.booleans() if percent else st.just(False),
    )


def prices(*, conditions: bool = True) -> st.SearchStrategy[Price]:
    return st.builds(
        Price,
        base=amounts,
        rates=st.dictionaries(names, numbers, max_size=3),
        round_up_to=st.integers(1, 10**9),
        fixed=amounts,
        steps=st.lists(_terms(percent=False, conditions=False), max_size=3).map(tuple),
        surcharges=st.lists(_terms(percent=True, conditions=conditions), max_size=3).map(tuple),
        times=st.lists(names, max_size=4).map(tuple),
    )


@given(prices(), units)
def test_a_price_is_an_amount(price: Price, given_: dict[str, Decimal]) -> None:
    """An integer from its base to the largest amount, a multiple of its step below that; nothing raises."""
    found = cost(price, given_)
    assert isinstance(found, int)
    assert min(price.base, MAX_AMOUNT) <= found <= MAX_AMOUNT
    assert found == MAX_AMOUNT or found % price.round_up_to == 0


@given(prices(conditions=False), units, names, numbers)
def test_more_never_costs_less(price: Price, given_: dict[str, Decimal], unit: str, more: Decimal) -> None:
    """Without conditions a price only grows with its units; so asking for more is no way to pay less."""
    given_ = {unit: Decimal(1), **given_}
    assert cost(price, {**given_, unit: given_[unit] + more}) >= cost(price, given_)


@given(prices(), units)
def test_a_price_is_its_formula(price: Price, given_: dict[str, Decimal]) -> None:
    """Exactly, in fractions: nothing is rounded on the way, and once at the end, upwards."""

    def amount(term: Term) -> Fraction:
        for unit, (least, most) in term.when.items():
            if unit not in given_ or not least <= given_[unit] or (most is not None and given_[unit] > most):
                return Fraction(0)
        if term.unit is None:
            return Fraction(term.amount)
        beyond = max(Fraction(given_.get(term.unit, 0)) - Fraction(term.above), Fraction(0))
        return Fraction(term.amount) * (beyond if term.step is None else ceil(beyond / Fraction(term.step)))

    each = Fraction(price.fixed) + sum(Fraction(rate) * Fraction(given_.get(u, 0)) for u, rate in price.rates.items())
    each += sum(map(amount, price.steps))
    whole = each * (100 + sum(amount(term) for term in price.surcharges if term.percent)) / 100
    whole += sum(amount(term) for term in price.surcharges if not term.percent)
    for unit in price.times:
        whole *= Fraction(given_.get(unit, 1))
    exact = min(max(Fraction(price.base), whole), Fraction(MAX_AMOUNT))
    assert cost(price, given_) == min(ceil(exact / price.round_up_to) * price.round_up_to, MAX_AMOUNT)


@given(prices())
def test_a_stored_price_is_the_same_price(price: Price) -> None:
    """What the catalogue writes down it reads again."""
    rates, terms = json.loads(json.dumps([rates_of(price), terms_of(price)]))
    assert price_of(price.base, rates, price.round_up_to, price.version, terms) == price


@given(prices(), units)
def test_quota_is_priced_alike(price: Price, given_: dict[str, Decimal]) -> None:
    """By its own price where there is one, else flat."""
    assert quota_cost(model("a:b", quota_cost=3), given_) == 3
    assert quota_cost(model("a:b", quota_cost=3, quota_price=price), given_) == cost(price, given_)


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount": Decimal(-1)},
        {"amount": Decimal("NaN")},
        {"amount": Decimal("Infinity")},
        {"amount": Decimal(1), "above": Decimal(-1)},
        {"amount": Decimal(1), "step": Decimal(0)},
        {"amount": Decimal(1), "step": Decimal(-1)},
        {"amount": Decimal(1), "when": {"a": (Decimal(0), Decimal("NaN"))}},
        {"amount": Decimal(1), "when": {"a": (Decimal(-1), None)}},
    ],
)
def test_a_term_that_could_be_negative_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="of a price"):
        Term(**wrong)  # type: ignore[arg-type]


def test_a_price_that_could_be_negative_is_refused() -> None:
    """And so are percents where they have no meaning."""
    with pytest.raises(ValueError, match="fixed"):
        Price(1, fixed=-1)
    with pytest.raises(ValueError, match="percents"):
        Price(1, steps=(Term(Decimal(1), percent=True),))


@given(st.integers(0, MAX_AMOUNT), st.integers(0, 1000), st.integers(1, 1000))
def test_a_share_is_a_part_rounded_up(amount: int, done: int, of: int) -> None:
    """None of it is nothing, all of it is all, and two parts are together at least the whole."""
    if done > of:
        with pytest.raises(ValueError, match="no share"):
            share(amount, done, of)
        return
    assert share(amount, done, of) == ceil(Fraction(amount * done, of))
    assert share(amount, 0, of) == 0
    assert share(amount, of, of) == amount
    assert amount <= share(amount, done, of) + share(amount, of - done, of) <= amount + 1


@pytest.mark.parametrize(("done", "of"), [(-1, 2), (0, 0), (1, 0), (3, 2), (0, -1), (-2, -1)])
def test_what_is_no_share_is_refused(done: int, of: int) -> None:
    with pytest.raises(ValueError, match="no share"):
        share(10, done, of)

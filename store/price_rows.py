"""Prices as the catalogue stores them: base, rates and step in columns of their own, the rest in one JSON text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from policies.terms import Price, Range, Term


def price_of(base: int, rates: Mapping[str, str], step: int, version: int, terms: Mapping[str, Any]) -> Price:
    """The price whose parts were stored like this; see `terms_of`."""
    return Price(
        base=base,
        rates={unit: Decimal(rate) for unit, rate in rates.items()},
        round_up_to=step,
        version=version,
        fixed=terms.get("fixed", 0),
        steps=_terms(terms.get("steps", ())),
        surcharges=_terms(terms.get("surcharges", ())),
        times=tuple(terms.get("times", ())),
    )


def quota_price_of(base: int, terms: Mapping[str, Any]) -> Price | None:
    """What a call takes of a quota; None where that is just the base."""
    return price_of(base, terms.get("rates", {}), 1, 1, terms) if terms else None


def terms_of(price: Price) -> dict[str, Any]:
    """What has no column of its own; empty for a price that is only a base, rates and a step."""
    parts: dict[str, Any] = {
        "fixed": price.fixed,
        "steps": [_stored(term) for term in price.steps],
        "surcharges": [_stored(term) for term in price.surcharges],
        "times": list(price.times),
    }
    return {name: part for name, part in parts.items() if part}


def rates_of(price: Price) -> dict[str, str]:
    return {unit: _text(rate) for unit, rate in price.rates.items()}


def quota_terms_of(price: Price) -> dict[str, Any]:
    """Everything of a quota's price but its base."""
    rates = {"rates": rates_of(price)} if price.rates else {}
    return rates | terms_of(price)


def _stored(term: Term) -> dict[str, Any]:
    parts: dict[str, Any] = {
        "amount": _text(term.amount),
        "unit": term.unit,
        "step": None if term.step is None else _text(term.step),
        "above": _text(term.above) if term.above else None,
        "when": {
            unit: [_text(least), None if most is None else _text(most)] for unit, (least, most) in term.when.items()
        },
        "percent": term.percent,
    }
    return {name: part for name, part in parts.items() if part}


def _terms(stored: Sequence[Mapping[str, Any]]) -> tuple[Term, ...]:
    return tuple(
        Term(
            amount=Decimal(term["amount"]),
            unit=term.get("unit"),
            step=Decimal(term["step"]) if "step" in term else None,
            above=Decimal(term.get("above", 0)),
            when={unit: _range(*limits) for unit, limits in term.get("when", {}).items()},
            percent=term.get("percent", False),
        )
        for term in stored
    )


def _range(least: str, most: str | None) -> Range:
    return Decimal(least), None if most is None else Decimal(most)


def _text(number: Decimal) -> str:
    return format(number.normalize(), "f")

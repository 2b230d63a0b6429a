"""What a call costs: the quote before it, the true cost after it. The same function, with the units known by then.

    each  = fixed + rate x units + ... + steps
    whole = (each x (100 % + percents) + surcharges) x times
    price = max(base, whole), rounded up to the step of the price

No number in it is negative, and no price is below its base; a call without units costs the base, or what is fixed.
Everything is exact: integers and decimals, rounded once, upwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import ROUND_CEILING, Context, Decimal, Inexact, InvalidOperation

from policies.terms import MAX_AMOUNT, MICRO, Funding, Model, Price, Range, Term

# Exact for anything that is not absurd; a unit of a hundred digits rounds up like everything else, and costs no time.
_UPWARDS = Context(prec=80, rounding=ROUND_CEILING, Emin=-10_000, Emax=10_000, traps=[InvalidOperation])

# Inexact raises instead of rounding behind our back.
_EXACT = Context(prec=80, traps=[Inexact])

_MOST = Decimal(MAX_AMOUNT)

Units = Mapping[str, Decimal]


def cost(price: Price, units: Units) -> int:
    """The cost in micro-credits of a call that consumed `units`, at most `MAX_AMOUNT`.

    Units that the price has no rate for cost nothing. `units` are validated where they are read: finite and not
    negative.
    """
    metered = Decimal(price.fixed)
    for unit, rate in price.rates.items():
        if unit in units:
            metered = _UPWARDS.add(metered, _UPWARDS.multiply(rate, units[unit]))
    if price.steps or price.surcharges or price.times:
        metered = _composed(price, metered, units)
    exact = min(max(Decimal(price.base), metered), _MOST)
    return min(round_up(exact, price.round_up_to), MAX_AMOUNT)


def quota_cost(model: Model, units: Units) -> int:
    """What a call that consumed `units` takes of a quota."""
    return model.quota_cost if model.quota_price is None else cost(model.quota_price, units)


def true_cost(model: Model, units: Units, funding: Funding) -> int | None:
    """What a call that consumed `units` costs in what pays for it; None where that does not depend on units."""
    if funding is Funding.CREDITS:
        return cost(model.price, units)
    return quota_cost(model, units) if funding is Funding.QUOTA and model.quota_price is not None else None


def _composed(price: Price, each: Decimal, units: Units) -> Decimal:
    """`each` with everything that is not a plain rate."""
    each = _sum([each, *(_amount(term, units) for term in price.steps)])
    percents = _sum([Decimal(100), *(_amount(term, units) for term in price.surcharges if term.percent)])
    surcharges = [_amount(term, units) for term in price.surcharges if not term.percent]
    whole = _sum([_UPWARDS.scaleb(_UPWARDS.multiply(each, percents), -2), *surcharges])
    for unit in price.times:
        whole = _UPWARDS.multiply(whole, units.get(unit, Decimal(1)))
    return whole


def _amount(term: Term, units: Units) -> Decimal:
    """What a term adds, where it counts: nothing for a unit that is not given."""
    if not all(unit in units and _is_in(units[unit], limits) for unit, limits in term.when.items()):
        return Decimal(0)
    if term.unit is None:
        return term.amount
    beyond = _UPWARDS.subtract(units.get(term.unit, Decimal(0)), term.above)
    if beyond <= 0:
        return Decimal(0)
    if term.step is not None:
        beyond = _UPWARDS.divide(beyond, term.step).to_integral_value(ROUND_CEILING)
    return _UPWARDS.multiply(term.amount, beyond)


def _is_in(value: Decimal, limits: Range) -> bool:
    least, most = limits
    return least <= value and (most is None or value <= most)


def _sum(parts: Iterable[Decimal]) -> Decimal:
    total = Decimal(0)
    for part in parts:
        total = _UPWARDS.add(total, part)
    return total


def round_up(micro_credits: Decimal, step: int) -> int:
    """The smallest multiple of `step` that is not below `micro_credits`: the one rounding rule of prices."""
    numerator, denominator = micro_credits.as_integer_ratio()
    return -(-numerator // (denominator * step)) * step


def share(amount: int, done: int, of: int) -> int:
    """What `done` of `of` items come to, of an amount for all of them: rounded up, like every price.

    Raises ValueError for what is no share, so that nobody is charged by a number that a backend got wrong.
    """
    if not 0 <= done <= of or of == 0:
        raise ValueError(f"{done} of {of} is no share")
    return -(-amount * done // of)


def to_micro(credits: Decimal) -> int:
    """Credits as micro-credits. Raises ValueError for more than six decimals or an amount out of range."""
    if not credits.is_finite() or credits.copy_abs() > MAX_AMOUNT // MICRO:
        raise ValueError(f"{credits} is out of range; the largest amount is {MAX_AMOUNT // MICRO}")
    try:
        micro = _EXACT.multiply(credits, Decimal(MICRO))
    except Inexact:
        micro = None
    if micro is None or micro != micro.to_integral_value():
        raise ValueError(f"{credits} has more than six decimals")
    return int(micro)


def exact_credits(micro_credits: int) -> Decimal:
    """Micro-credits as credits with all six decimals, for books: nothing is rounded, and nothing left out."""
    return Decimal(micro_credits).scaleb(-6, _EXACT)


def to_credits(micro_credits: int) -> int | float:
    """Micro-credits as the JSON number that clients expect: an integer when whole, else at most six decimals."""
    whole, rest = divmod(micro_credits, MICRO)
    return whole if rest == 0 else float(Decimal(micro_credits).scaleb(-6))

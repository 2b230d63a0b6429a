"""What a call costs: the quote before it, the true cost after it. The same function, with the units known by then.

The price of a call is `max(base, rate x units + ...)`, rounded up to the step of the price. A unit can therefore
raise a price and never lower it below the base, and no unit given means the base.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Context, Decimal, Inexact

from policies.terms import MAX_AMOUNT, MICRO, Price

# Wide enough for the product of any accepted rate and unit; Inexact raises instead of rounding behind our back.
_EXACT = Context(prec=80, traps=[Inexact])

Units = Mapping[str, Decimal]


def cost(price: Price, units: Units) -> int:
    """The cost in micro-credits of a call that consumed `units`, at most `MAX_AMOUNT`.

    Units that the price has no rate for cost nothing. `units` are validated where they are read: finite and not
    negative.
    """
    metered = Decimal(0)
    for unit, rate in price.rates.items():
        if unit in units:
            metered = _EXACT.add(metered, _EXACT.multiply(rate, units[unit]))
    return min(round_up(max(Decimal(price.base), metered), price.round_up_to), MAX_AMOUNT)


def round_up(micro_credits: Decimal, step: int) -> int:
    """The smallest multiple of `step` that is not below `micro_credits`: the one rounding rule of prices."""
    numerator, denominator = micro_credits.as_integer_ratio()
    return -(-numerator // (denominator * step)) * step


def to_micro(credits: Decimal) -> int:
    """Credits as micro-credits. Raises ValueError for more than six decimals or an amount out of range."""
    micro = _EXACT.multiply(credits, Decimal(MICRO))
    if micro != micro.to_integral_value():
        raise ValueError(f"{credits} has more than six decimals")
    if abs(micro) > MAX_AMOUNT:
        raise ValueError(f"{credits} is out of range; the largest amount is {MAX_AMOUNT // MICRO}")
    return int(micro)


def to_credits(micro_credits: int) -> int | float:
    """Micro-credits as the JSON number that clients expect: an integer when whole, else at most six decimals."""
    whole, rest = divmod(micro_credits, MICRO)
    return whole if rest == 0 else float(Decimal(micro_credits).scaleb(-6))

"""The arithmetic of rates: how many calls come through, and when the next one may."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.rates import Admitted, Limited, Rate, admit, fair_use_of, rate_of
from policies.terms import Metric
from tests.policies.samples import LAW

SECOND = 1_000_000


def rate(text: str) -> Rate:
    return rate_of(text)


def test_a_whole_rate_may_come_at_once_and_then_waits() -> None:
    """Sixty in a minute: sixty at once, and from then on one each second."""
    empty_at, now = 0, 1_000 * SECOND
    for left in reversed(range(60)):
        answer = admit(empty_at, rate("60/minute"), now)
        assert isinstance(answer, Admitted)
        assert answer.left == left
        empty_at = answer.empty_at
    assert admit(empty_at, rate("60/minute"), now) == Limited(SECOND)
    assert admit(empty_at, rate("60/minute"), now + SECOND - 1) == Limited(1)
    assert isinstance(admit(empty_at, rate("60/minute"), now + SECOND), Admitted)


@pytest.mark.parametrize("text", ["0/day", "-1/day", "1.5/day", "60 / minute", "60/min", "60", "/day", 60, None])
def test_a_rate_has_a_number_and_a_time(text: object) -> None:
    """Anything else is an error, and a rate of nothing is a deny rule."""
    with pytest.raises(ValueError, match="such as 60/minute"):
        rate_of(text)


def test_fair_use_is_by_day_or_month() -> None:
    """The windows in which the ledger counts."""
    assert (fair_use_of("500/day").calls, fair_use_of("9/month").period) == (500, Metric.MONTHLY)
    with pytest.raises(ValueError, match="such as 500/day"):
        fair_use_of("500/hour")


@LAW
@given(
    st.builds("{}/{}".format, st.integers(1, 50), st.sampled_from(["second", "minute"])),
    st.lists(st.integers(0, 20 * SECOND), min_size=1, max_size=150),
)
def test_no_span_of_time_has_more_than_the_rate_allows(text: str, gaps: list[int]) -> None:
    """For any arrivals: in no span that begins with an admitted call are there more than n, and one for each step."""
    limit, empty_at, now = rate(text), 0, 0
    times: list[int] = []
    for gap in gaps:
        now += gap
        answer = admit(empty_at, limit, now)
        if isinstance(answer, Admitted):
            empty_at = answer.empty_at
            times.append(now)
        else:
            assert isinstance(admit(empty_at, limit, now + answer.wait), Admitted), "who waits as told is let through"
    for first, start in enumerate(times):
        for last in range(first, len(times)):
            assert last - first + 1 <= limit.calls + (times[last] - start) // limit.step

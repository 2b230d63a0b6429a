"""Which window counts, what it allows, and what is carried into it: rules without a database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from fractions import Fraction
from math import ceil
from zoneinfo import ZoneInfo

from hypothesis import assume, given
from hypothesis import strategies as st

from policies.proration import quote_change
from policies.quota import QuotaTerms, QuotaWindow, open_window, own_limit, quota_terms
from policies.subscription import add_cycles, resolve, start
from policies.subscription_acts import change_plan, pay
from policies.terms import AccountId, Cycle, Metric, Plan, QuotaMonth, QuotaRules
from policies.windows import Calendar, Window, window_at
from tests.policies.samples import LAW, TIERS, plan

NOON = datetime(2025, 3, 10, 12, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
JAKARTA = Calendar(ZoneInfo("Asia/Jakarta"))
ZONES = ["UTC", "Asia/Jakarta", "America/Santiago", "Asia/Kathmandu", "Pacific/Chatham", "Africa/Cairo"]

moments = st.datetimes(datetime(2025, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))
calendars = st.builds(
    Calendar,
    st.sampled_from(ZONES).map(ZoneInfo),
    st.sampled_from([time(0), time(6), time(23, 30)]),
    st.none() | moments,
)


def _terms(daily: int = 10, monthly: int | None = None, **more: object) -> QuotaTerms:
    return QuotaTerms(daily, monthly, 1, **more)  # type: ignore[arg-type]


def _opened(
    terms: QuotaTerms, now: datetime, last: QuotaWindow | None = None, metric: Metric = Metric.DAILY
) -> QuotaWindow:
    return open_window(metric, dict(terms.limits())[metric], terms, last, now)


# Short windows.


def test_a_calendar_that_changes_waits_for_the_window_that_runs() -> None:
    """From UTC to Jakarta, whose day began at 17:00: the next window begins at midnight UTC and ends with that day."""
    last = _opened(_terms(), NOON)
    short = _opened(_terms(240, calendar=JAKARTA), NOON + DAY - HOUR, last)
    assert (short.window.start, short.window.end) == (last.window.end, last.window.end + 17 * HOUR)
    assert short.regular_start == last.window.end - 7 * HOUR
    following = _opened(_terms(240, calendar=JAKARTA), short.window.end, short)
    assert (following.regular_start, following.window) == (None, window_at(Metric.DAILY, JAKARTA, short.window.end))


def test_a_short_window_gives_its_share() -> None:
    """Seventeen hours of twenty-four, rounded up to a unit; nothing of nothing."""
    end = datetime(2025, 3, 11, 17, tzinfo=UTC)
    shares = [own_limit(limit, end - 17 * HOUR, end - DAY, end) for limit in (240, 100, 10, 1, 0)]
    assert shares == [170, 71, 8, 1, 0]
    assert own_limit(10, end - DAY, None, end) == 10


@LAW
@given(st.lists(calendars, min_size=1, max_size=4), st.sampled_from(Metric), moments, st.data())
def test_windows_never_overlap_and_changing_calendars_gains_nothing(
    plans: list[Calendar], metric: Metric, begin: datetime, data: st.DataObject
) -> None:
    """Going to and fro between calendars gives what the time is worth, and at most a unit more for each window."""
    limit, now, last = data.draw(st.integers(0, 500)), begin, None
    got, pieces, first = 0, 0, begin
    for _ in range(12):
        calendar = data.draw(st.sampled_from(plans))
        opened = open_window(metric, limit, _terms(calendar=calendar), last, now)
        assert opened.window.start <= now < opened.window.end
        if last is None:
            first = opened.window.start
        else:
            assert opened.window.start == last.window.end
        got, pieces, last = got + opened.left(limit), pieces + 1, opened
        # The first moment of the next window: whoever wants to gain something does not wait.
        now = opened.window.end
    shortest = timedelta(hours=23) if metric is Metric.DAILY else timedelta(days=27, hours=23)
    assert (
        got
        <= ceil(
            limit * Fraction((now - first) / timedelta(microseconds=1)) / Fraction(shortest / timedelta(microseconds=1))
        )
        + pieces
    )


# Rollover.


def _used(window: QuotaWindow, used: int, held: int = 0) -> QuotaWindow:
    return replace(window, used=used, held=held)


def test_what_was_left_is_carried_up_to_the_cap() -> None:
    """Less what was used and what is still held."""
    terms = _terms(10, daily_rollover=20)
    today = _opened(terms, NOON)
    assert today.carried == 0
    assert _opened(terms, NOON + DAY, _used(today, 3, 2)).carried == 5
    tomorrow = _opened(terms, NOON + DAY, today)
    assert (tomorrow.carried, tomorrow.left(10)) == (10, 20)
    assert _opened(terms, NOON + 2 * DAY, tomorrow).carried == 20
    assert _opened(terms, NOON + 3 * DAY, _opened(terms, NOON + 2 * DAY, tomorrow)).carried == 20


def test_a_plan_without_rollover_carries_nothing() -> None:
    """Whatever was left, and whatever was carried into the window before."""
    last = replace(_opened(_terms(), NOON), carried=50)
    assert _opened(_terms(), NOON + DAY, last).carried == 0


def test_the_month_has_a_rollover_of_its_own() -> None:
    """By its own limit and its own cap."""
    terms = _terms(10, 100, monthly_rollover=30)
    last = _used(_opened(terms, NOON, metric=Metric.MONTHLY), 85)
    assert _opened(terms, NOON + 31 * DAY, last, Metric.MONTHLY).carried == 15
    assert _opened(terms, NOON + 62 * DAY, last, Metric.MONTHLY).carried == 30


def test_a_window_that_was_overdrawn_by_a_downgrade_carries_nothing() -> None:
    """More was used than the plan allows: that is no debt either."""
    terms = _terms(10, daily_rollover=20)
    assert _opened(terms, NOON + DAY, _used(_opened(terms, NOON), 25)).carried == 0
    assert _opened(terms, NOON + 2 * DAY, _used(_opened(terms, NOON), 25)).carried == 10


def test_nothing_is_carried_from_before_the_present_plan() -> None:
    """Not from windows that ended before it began; of the window in which it began, what it left by the new limit."""
    terms = _terms(10, daily_rollover=100, since=NOON)
    assert _opened(terms, NOON).carried == 0
    assert _opened(terms, NOON + DAY).carried == 10
    assert _opened(terms, NOON + 3 * DAY).carried == 30
    yesterday, today = _opened(_terms(50), NOON - DAY), _used(_opened(_terms(50), NOON), 4)
    assert _opened(terms, NOON, yesterday).carried == 0
    assert _opened(terms, NOON + DAY, yesterday).carried == 10
    assert _opened(terms, NOON + DAY, today).carried == 6
    assert _opened(terms, NOON + 2 * DAY, today).carried == 16


@LAW
@given(
    calendar=calendars,
    metric=st.sampled_from(Metric),
    limit=st.integers(0, 50),
    cap=st.integers(0, 200),
    ended=st.none() | st.tuples(calendars, st.integers(0, 60), st.integers(0, 60)),
    since=st.none() | moments,
    begin=moments,
    idle=st.integers(0, 40),
)
def test_windows_that_passed_count_as_if_they_had_been_opened(
    calendar: Calendar,
    metric: Metric,
    limit: int,
    cap: int,
    ended: tuple[Calendar, int, int] | None,
    since: datetime | None,
    begin: datetime,
    idle: int,
) -> None:
    """One step over any number of them carries what opening each of them would have."""
    assume(since <= begin if since is not None else ended is not None)
    terms = QuotaTerms(limit, limit, 1, calendar, cap, cap, since)
    last = None
    if ended is not None:
        before, used, carried = ended
        last = QuotaWindow(window_at(metric, before, begin), None, carried, used)
        begin = last.window.end
    # Whoever has opened none yet begins with the window in which the plan began.
    first = since if since is not None and (last is None or since >= last.window.end) else begin
    opened = open_window(metric, limit, terms, last, first)
    for _ in range(idle):
        opened = open_window(metric, limit, terms, opened, opened.window.end)
    assert open_window(metric, limit, terms, last, opened.window.start) == opened
    assert 0 <= opened.carried <= cap


@LAW
@given(calendars, st.integers(1, 50), moments, st.integers(0, 60), st.integers(0, 30))
def test_after_the_windows_that_may_be_carried_nothing_before_them_matters(
    calendar: Calendar, limit: int, begin: datetime, used: int, more: int
) -> None:
    """Thirty unused days and one unused month fill any rollover, so that older windows need not be remembered."""
    for metric, windows, wait in ((Metric.DAILY, 30, 35 * DAY), (Metric.MONTHLY, 1, 64 * DAY)):
        cap = windows * limit
        terms = QuotaTerms(limit, limit, 1, calendar, cap, cap, begin - 400 * DAY)
        last = QuotaWindow(window_at(metric, calendar, begin), None, 0, used)
        now = last.window.end + wait + more * DAY
        assert open_window(metric, limit, terms, last, now).carried == cap
        assert open_window(metric, limit, terms, None, now).carried == cap


# Terms.


def _plan(version: int, price: int = 0, **rules: object) -> Plan:
    quota_rules = QuotaRules(**rules)  # type: ignore[arg-type]
    return plan(
        f"plan-{version}",
        price,
        version_id=version,
        daily_quota=10 * version,
        monthly_quota=300,
        quota_rules=quota_rules,
    )


def test_the_terms_are_those_of_the_plan_and_the_subscription() -> None:
    """The zone and the hour come from the plan, the anchor from the subscription where the plan says so."""
    rules = {"zone": ZoneInfo("Asia/Jakarta"), "day_starts": time(6), "daily_rollover": 20}
    row = start(1, AccountId(1), _plan(1, month=QuotaMonth.SUBSCRIPTION, **rules), NOON, None)
    calendar = Calendar(ZoneInfo("Asia/Jakarta"), time(6), NOON)
    assert quota_terms(row) == QuotaTerms(10, 300, 1, calendar, daily_rollover=20, since=NOON)
    assert quota_terms(start(1, AccountId(1), _plan(1, **rules), NOON, None)).calendar.month_anchor is None


def test_a_plan_counts_from_when_it_entitles() -> None:
    """From the payment of a subscription; from an upgrade; from the period end of a downgrade; not from a renewal."""
    row, _ = pay(start(1, AccountId(1), _plan(1, 100), NOON, None), NOON + HOUR)
    assert quota_terms(row).since == NOON + HOUR
    upgrade = quote_change(row, _plan(2, 200), TIERS, NOON + DAY)
    row, _ = pay(change_plan(row, upgrade, NOON + DAY)[0], NOON + 2 * DAY)
    assert (quota_terms(row).plan_version_id, quota_terms(row).since) == (2, NOON + 2 * DAY)
    renewed, _ = pay(resolve(row, row.period_end)[0], row.period_end)
    assert quota_terms(renewed).since == NOON + 2 * DAY
    downgrade = quote_change(row, _plan(1, 100), TIERS, NOON + 3 * DAY)
    later, _ = resolve(change_plan(row, downgrade, NOON + 3 * DAY)[0], row.period_end)
    assert (quota_terms(later).plan_version_id, quota_terms(later).since) == (1, row.period_end)


def test_a_free_plan_counts_from_its_subscription_on() -> None:
    """Also after it has renewed itself."""
    row = start(1, AccountId(1), _plan(1), NOON, None)
    later, _ = resolve(row, add_cycles(NOON, Cycle.MONTHLY, 3))
    assert quota_terms(later).since == NOON


def test_a_window_of_a_plan_with_less_has_nothing_left_rather_than_less_than_nothing() -> None:
    """A downgrade in the middle of a window owes nothing."""
    window = QuotaWindow(Window(Metric.DAILY, NOON, NOON + DAY), None, 5, used=40, held=2)
    assert (window.left(50), window.left(10)) == (13, 0)

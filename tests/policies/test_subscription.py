"""The life of a subscription, one promise at a time. Moments are in UTC, prices in minor units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.subscription import (
    CHECKOUT_TIME,
    CURRENT,
    ENTITLED,
    GRACE_DEFAULT,
    MOVES,
    Event,
    NotPossible,
    Status,
    Subscription,
    add_cycles,
    cancel,
    change_plan,
    pay,
    quote_change,
    resolve,
    start,
)
from policies.terms import AccountId, Cycle, Plan, Tier
from tests.policies.samples import LAW, plan

BEGIN = datetime(2025, 3, 1, tzinfo=UTC)
END = datetime(2025, 4, 1, tzinfo=UTC)
TIERS = (Tier("free"), Tier("basic"), Tier("pro"), Tier("enterprise"))
TICK = timedelta(microseconds=1)

FREE = plan("free", 0, version_id=1, daily_quota=10)
BASIC = plan("basic", 99_000, version_id=2, daily_quota=50)
PRO = plan("pro", 299_000, version_id=3, daily_quota=100)
PRO_NEW_PRICE = plan("pro", 310_000, version_id=13, daily_quota=100)
PRO_YEARLY = plan("pro", 2_870_000, version_id=4, daily_quota=100, cycle=Cycle.YEARLY)
ENTERPRISE = plan("enterprise", 999_000, version_id=5, daily_quota=500)


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _paid(entitling: Plan, at: datetime = BEGIN) -> Subscription:
    """A subscription that is active from `at`."""
    row = start(1, AccountId(1), entitling, at, None)
    return row if entitling.is_free else pay(row, at)[0]


def _changed(row: Subscription, to: Plan, now: datetime) -> Subscription:
    return change_plan(row, quote_change(row, to, TIERS, now), now)[0]


def _at(row: Subscription, now: datetime) -> Subscription:
    return resolve(row, now)[0]


# Periods.


@pytest.mark.parametrize(
    ("anchor", "cycle", "ends"),
    [
        ("2025-01-31", Cycle.MONTHLY, ["2025-02-28", "2025-03-31", "2025-04-30", "2025-05-31"]),
        ("2024-01-31", Cycle.MONTHLY, ["2024-02-29", "2024-03-31", "2024-04-30"]),
        ("2025-01-30", Cycle.MONTHLY, ["2025-02-28", "2025-03-30", "2025-04-30"]),
        ("2025-11-15T10:30:00", Cycle.MONTHLY, ["2025-12-15T10:30:00", "2026-01-15T10:30:00"]),
        ("2024-02-29", Cycle.YEARLY, ["2025-02-28", "2026-02-28", "2027-02-28", "2028-02-29"]),
        ("2025-12-31", Cycle.YEARLY, ["2026-12-31", "2027-12-31"]),
    ],
)
def test_periods_count_from_the_anchor(anchor: str, cycle: Cycle, ends: list[str]) -> None:
    """A short month does not shorten the months after it: Jan 31, Feb 28, Mar 31."""
    row = _paid(replace(PRO, cycle=cycle), _utc(anchor))
    assert row.period_end == _utc(ends[0])
    for before, end in pairwise(ends):
        row, event = pay(_at(row, _utc(before)), _utc(before) + timedelta(hours=3))
        assert (event, row.period_start, row.period_end) == (Event.PAID, _utc(before), _utc(end))


@LAW
@given(
    st.datetimes(datetime(1999, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
    st.sampled_from(Cycle),
    st.integers(0, 60),
)
def test_cycles_clamp_to_the_last_day_and_grow(anchor: datetime, cycle: Cycle, count: int) -> None:
    """n cycles after the anchor: the right month, its own day or the last one there is, and later than n - 1."""
    end = add_cycles(anchor, cycle, count)
    months = (end.year - anchor.year) * 12 + end.month - anchor.month
    assert months == count * (12 if cycle is Cycle.YEARLY else 1)
    assert end.time() == anchor.time()
    assert end.day == anchor.day or (end.day < anchor.day and (end + timedelta(days=1)).day == 1)
    assert add_cycles(anchor, cycle, count + 1) > end


def test_a_free_plan_renews_itself() -> None:
    """Without any payment and however late somebody looks: active, in the period that `now` is in."""
    row, events = resolve(_paid(FREE, _utc("2025-01-31")), _utc("2026-05-01"))
    assert (row.status, row.period_start, row.period_end) == (Status.ACTIVE, _utc("2026-04-30"), _utc("2026-05-31"))
    assert events == [Event.RENEWED] * 15


# Before the first payment.


def test_nobody_rides_before_paying() -> None:
    """A paid plan starts incomplete, with its price due; a free one is active at once."""
    row = start(1, AccountId(1), PRO, BEGIN, None)
    assert (row.status, row.entitled, row.current, row.amount_due) == (Status.INCOMPLETE, False, True, 299_000)
    assert start(1, AccountId(1), FREE, BEGIN, None).entitled


def test_the_first_period_begins_with_the_payment() -> None:
    """Not with the request: who pays a day later loses nothing."""
    row, event = pay(start(1, AccountId(1), PRO, BEGIN, None), BEGIN + timedelta(hours=23))
    assert (event, row.status, row.amount_due) == (Event.PAID, Status.ACTIVE, 0)
    assert row.anchor == row.period_start == BEGIN + timedelta(hours=23)
    assert row.period_end == _utc("2025-04-01T23:00:00")


def test_what_is_never_paid_lapses() -> None:
    """After the checkout time an incomplete subscription has expired, at that moment, and owes nothing."""
    row = start(1, AccountId(1), PRO, BEGIN, None)
    assert _at(row, BEGIN + CHECKOUT_TIME - TICK) == row
    lapsed, events = resolve(row, BEGIN + timedelta(days=100))
    assert (lapsed.status, lapsed.ended_at, lapsed.amount_due) == (Status.EXPIRED, BEGIN + CHECKOUT_TIME, 0)
    assert events == [Event.LAPSED]


# Renewals.


def test_an_unpaid_renewal_has_its_grace_and_not_more() -> None:
    """Entitled until period end + grace, to the microsecond, and then pay-as-you-go again."""
    row = _paid(PRO)
    late = _at(row, END)
    assert (late.status, late.entitled, late.amount_due) == (Status.PAST_DUE, True, 299_000)
    assert _at(row, END + GRACE_DEFAULT - TICK).entitled
    lapsed = _at(row, END + GRACE_DEFAULT)
    assert (lapsed.status, lapsed.entitled, lapsed.current) == (Status.EXPIRED, False, False)
    assert lapsed.ended_at == END + GRACE_DEFAULT


def test_a_late_payment_pays_for_the_period_that_was_due() -> None:
    """Paying on the sixth day of the grace gives no six days for free."""
    row, _ = pay(_at(_paid(PRO), END + timedelta(days=6)), END + timedelta(days=6))
    assert (row.status, row.period_start, row.period_end) == (Status.ACTIVE, END, _utc("2025-05-01"))


def test_a_long_grace_does_not_make_time_run_twice() -> None:
    """With 90 days of grace, one payment after 80 days covers the first due month, and the next is due already."""
    row = replace(_paid(PRO), grace=timedelta(days=90))
    late = END + timedelta(days=80)
    paid, _ = pay(_at(row, late), late)
    again = _at(paid, late)
    assert (again.status, again.period_end, again.amount_due) == (Status.PAST_DUE, _utc("2025-05-01"), 299_000)


def test_paying_twice_pays_once() -> None:
    """The second payment finds nothing due, in every state that a subscription can be paid in."""
    for row in (start(1, AccountId(1), PRO, BEGIN, None), _changed(_paid(BASIC), PRO, BEGIN), _at(_paid(PRO), END)):
        paid, _ = pay(row, END)
        with pytest.raises(NotPossible, match="Nothing is due"):
            pay(paid, END)


@pytest.mark.parametrize("ended", [Status.CANCELED, Status.EXPIRED])
def test_what_has_ended_stays_ended(ended: Status) -> None:
    """No payment, cancellation, plan or passing of time revives it."""
    row = replace(_paid(PRO), status=ended, ended_at=END)
    with pytest.raises(NotPossible):
        pay(row, END)
    with pytest.raises(NotPossible):
        cancel(row, END, immediately=True, reason=None)
    with pytest.raises(NotPossible):
        quote_change(row, ENTERPRISE, TIERS, END)
    assert resolve(row, END + timedelta(days=4_000)) == (row, [])


# Cancelling.


def test_a_cancellation_keeps_access_until_the_period_ends() -> None:
    """And not a microsecond longer: there is no grace after a cancellation."""
    row, event = cancel(_paid(PRO), BEGIN + timedelta(days=3), immediately=False, reason="too dear")
    assert (event, row.status, row.cancel_at, row.cancel_reason) == (
        Event.CANCEL_REQUESTED,
        Status.ACTIVE,
        END,
        "too dear",
    )
    assert _at(row, END - TICK).entitled
    ended = _at(row, END)
    assert (ended.status, ended.entitled, ended.ended_at) == (Status.CANCELED, False, END)


def test_a_cancellation_may_be_immediate() -> None:
    """Then access ends now."""
    now = BEGIN + timedelta(days=3)
    row, event = cancel(_paid(PRO), now, immediately=True, reason=None)
    assert (event, row.status, row.entitled, row.ended_at) == (Event.CANCELED, Status.CANCELED, False, now)


@pytest.mark.parametrize("immediately", [True, False])
@pytest.mark.parametrize("status", [Status.INCOMPLETE, Status.PAST_DUE])
def test_what_is_not_paid_is_canceled_at_once(status: Status, immediately: bool) -> None:
    """There is no paid time to keep, and nothing is due any more."""
    row = start(1, AccountId(1), PRO, BEGIN, None) if status is Status.INCOMPLETE else _at(_paid(PRO), END)
    canceled, event = cancel(row, END, immediately, None)
    assert (row.status, event) == (status, Event.CANCELED)
    assert (canceled.status, canceled.amount_due, canceled.ended_at) == (Status.CANCELED, 0, END)


def test_a_cancellation_drops_what_was_planned() -> None:
    """Neither a scheduled downgrade nor an upgrade that waits for its payment outlives it."""
    downgrading = _changed(_paid(PRO), BASIC, BEGIN)
    upgrading = _changed(_paid(BASIC), PRO, BEGIN)
    for row in (downgrading, upgrading):
        canceled, _ = cancel(row, BEGIN, immediately=False, reason=None)
        assert (canceled.scheduled_plan, canceled.pending_plan, canceled.amount_due) == (None, None, 0)


def test_a_cancellation_can_be_taken_back_until_the_period_ends() -> None:
    """By choosing the present plan again; then the subscription goes on as if nothing had been said."""
    canceled, _ = cancel(_paid(PRO), BEGIN, immediately=False, reason="a mistake")
    assert _changed(canceled, PRO, END - TICK) == _paid(PRO)


def test_who_pays_for_another_plan_goes_on() -> None:
    """A year that is paid after a cancellation is not cut off at the old period's end."""
    canceled, _ = cancel(_paid(PRO), BEGIN, immediately=False, reason=None)
    now = BEGIN + timedelta(days=10)
    asked = _changed(canceled, PRO_YEARLY, now)
    assert asked.cancel_at == END
    paid, _ = pay(asked, now)
    assert _at(paid, END + timedelta(days=200)).entitled
    scheduled = _changed(canceled, BASIC, now)
    assert _at(scheduled, END).plan == BASIC


# Changing the plan.


def test_an_upgrade_waits_for_its_payment() -> None:
    """Until the difference is paid the old plan is in force; afterwards the new one, in the same period."""
    now = BEGIN + timedelta(days=15, hours=12)
    asked = _changed(_paid(BASIC), PRO, now)
    assert (asked.plan, asked.pending_plan, asked.amount_due) == (BASIC, PRO, 100_000)
    paid, event = pay(asked, now + timedelta(days=1))
    assert (event, paid.plan, paid.pending_plan, paid.amount_due) == (Event.PLAN_CHANGED, PRO, None, 0)
    assert (paid.period_start, paid.period_end) == (BEGIN, END)


@pytest.mark.parametrize(
    ("old", "new", "day", "due"),
    [
        (BASIC, PRO, 0, 200_000),
        (BASIC, PRO, 31, 0),
        (BASIC, PRO, 30, 6_452),
        (BASIC, ENTERPRISE, 0, 900_000),
        (FREE, BASIC, 0, 99_000),
        (FREE, BASIC, 30, 99_000),
        (PRO, PRO_YEARLY, 0, 2_571_000),
        (PRO, PRO_YEARLY, 30, 2_860_355),
        (FREE, PRO_YEARLY, 10, 2_870_000),
        (PRO, PRO_NEW_PRICE, 0, 11_000),
    ],
)
def test_an_upgrade_costs_the_difference_for_the_time_that_is_left(old: Plan, new: Plan, day: int, due: int) -> None:
    """Pro rata within a period, rounded up to a minor unit; from a free plan or to another cycle a new period."""
    change = quote_change(_paid(old), new, TIERS, BEGIN + timedelta(days=day))
    assert (change.upgrade, change.applies_at, change.amount_due) == (True, None, due)


def test_an_upgrade_from_a_free_plan_begins_a_period() -> None:
    """What is paid for a month is a month."""
    now = BEGIN + timedelta(days=20)
    paid, _ = pay(_changed(_paid(FREE), PRO, now), now)
    assert (paid.anchor, paid.period_start, paid.period_end) == (now, now, _utc("2025-04-21"))


def test_an_unpaid_upgrade_ends_with_its_period() -> None:
    """Then the renewal of the old plan is due, and not the difference."""
    row = _at(_changed(_paid(BASIC), PRO, BEGIN), END)
    assert (row.status, row.plan, row.pending_plan, row.amount_due) == (Status.PAST_DUE, BASIC, None, 99_000)


def test_a_cheap_difference_does_not_outlive_its_period() -> None:
    """Asked for in the last second of a paid month, an upgrade costs one unit: for that second, not for a month.

    With a downgrade to a free plan scheduled, nothing else would be due at the period's end to take its place.
    """
    row = _changed(_paid(PRO), FREE, BEGIN)
    row = _changed(row, ENTERPRISE, END - timedelta(seconds=1))
    assert row.amount_due == 1
    after = _at(row, END)
    assert (after.plan, after.pending_plan, after.amount_due) == (FREE, None, 0)
    with pytest.raises(NotPossible):
        pay(after, END)


def test_a_downgrade_waits_for_the_period_end() -> None:
    """What is paid stays until then, and costs nothing; afterwards the price of the smaller plan is due."""
    now = BEGIN + timedelta(days=10)
    change = quote_change(_paid(PRO), BASIC, TIERS, now)
    assert (change.upgrade, change.applies_at, change.amount_due) == (False, END, 0)
    row = change_plan(_paid(PRO), change, now)[0]
    assert _at(row, END - TICK).plan == PRO
    due = _at(row, END)
    assert (due.status, due.plan, due.amount_due, due.scheduled_plan) == (Status.PAST_DUE, BASIC, 99_000, None)


def test_a_downgrade_to_a_free_plan_needs_no_payment() -> None:
    """It takes over by itself at the period's end, and renews from there."""
    row = _at(_changed(_paid(PRO, _utc("2025-01-31")), FREE, _utc("2025-02-01")), _utc("2025-03-01"))
    assert (row.status, row.plan, row.amount_due) == (Status.ACTIVE, FREE, 0)
    assert (row.period_start, row.period_end) == (_utc("2025-02-28"), _utc("2025-03-31"))


def test_a_downgrade_to_another_cycle_counts_from_its_own_beginning() -> None:
    """From a year to months: the months count from the end of the year."""
    row = _changed(_paid(PRO_YEARLY, _utc("2024-02-29")), BASIC, _utc("2024-06-01"))
    row, _ = pay(_at(row, _utc("2025-02-28")), _utc("2025-03-01"))
    assert (row.anchor, row.period_end) == (_utc("2025-02-28"), _utc("2025-03-28"))


def test_a_scheduled_downgrade_is_replaceable() -> None:
    """By another one, by an upgrade, or by the present plan, which withdraws it."""
    scheduled = _changed(_paid(PRO), BASIC, BEGIN)
    assert _changed(scheduled, FREE, BEGIN).scheduled_plan == FREE
    assert _changed(scheduled, PRO, BEGIN) == _paid(PRO)
    upgraded, _ = pay(_changed(scheduled, ENTERPRISE, BEGIN), BEGIN)
    assert (upgraded.plan, upgraded.scheduled_plan) == (ENTERPRISE, None)


def test_the_same_plan_again_is_no_change() -> None:
    """There is nothing to withdraw, so there is nothing to do."""
    with pytest.raises(NotPossible, match="on Pro already"):
        quote_change(_paid(PRO), PRO, TIERS, BEGIN)


@pytest.mark.parametrize("row", [start(1, AccountId(1), PRO, BEGIN, None), _at(_paid(PRO), END)])
def test_only_an_active_subscription_changes_its_plan(row: Subscription) -> None:
    """Before the first payment and in the grace time there is no plan to count from."""
    with pytest.raises(NotPossible, match="cannot be changed"):
        quote_change(row, ENTERPRISE, TIERS, BEGIN)


def test_a_plan_of_a_lost_tier_can_be_left() -> None:
    """A plan no longer on sale may be of a tier that the policy has lost: everything on the ladder is above it."""
    row = _paid(replace(PRO, tier=Tier("gold"), version_id=99))
    assert quote_change(row, BASIC, TIERS, BEGIN).upgrade


# The table.


def test_every_ended_state_is_final() -> None:
    """The table has no move out of `canceled` and `expired`, and none into `incomplete`."""
    assert {state for state, _ in MOVES} == CURRENT
    assert Status.INCOMPLETE not in MOVES.values()
    assert ENTITLED < CURRENT


def test_every_move_of_the_table_is_made_by_some_verb() -> None:
    """What the table allows, the functions do; together with the law that they do nothing else it is the truth."""
    active, incomplete, late = _paid(PRO), start(1, AccountId(1), PRO, BEGIN, None), _at(_paid(PRO), END)
    upgrading = _changed(_paid(BASIC), PRO, BEGIN)
    made: dict[tuple[Status, Event], Callable[[], Subscription]] = {
        (Status.INCOMPLETE, Event.PAID): lambda: pay(incomplete, BEGIN)[0],
        (Status.INCOMPLETE, Event.LAPSED): lambda: _at(incomplete, END),
        (Status.INCOMPLETE, Event.CANCELED): lambda: cancel(incomplete, BEGIN, True, None)[0],
        (Status.ACTIVE, Event.RENEWED): lambda: _at(_paid(FREE), END),
        (Status.ACTIVE, Event.RENEWAL_UNPAID): lambda: _at(active, END),
        (Status.ACTIVE, Event.CANCEL_REQUESTED): lambda: cancel(active, BEGIN, False, None)[0],
        (Status.ACTIVE, Event.CANCELED): lambda: cancel(active, BEGIN, True, None)[0],
        (Status.ACTIVE, Event.PLAN_CHANGE_REQUESTED): lambda: upgrading,
        (Status.ACTIVE, Event.PLAN_CHANGED): lambda: pay(upgrading, BEGIN)[0],
        (Status.PAST_DUE, Event.PAID): lambda: pay(late, END)[0],
        (Status.PAST_DUE, Event.LAPSED): lambda: _at(late, END + GRACE_DEFAULT),
        (Status.PAST_DUE, Event.CANCELED): lambda: cancel(late, END, True, None)[0],
    }
    assert {move: verb().status for move, verb in made.items()} == MOVES

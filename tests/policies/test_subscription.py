"""The life of a subscription, one promise at a time. Moments are in UTC, prices in minor units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.proration import quote_change
from policies.subscription import (
    BEGINNINGS,
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
    resolve,
)
from policies.subscription_acts import cancel, pay, resume
from policies.terms import Cycle
from tests.policies.samples import LAW
from tests.policies.subscribers import (
    BASIC,
    BEGIN,
    END,
    ENTERPRISE,
    FREE,
    PRO,
    PRO_YEARLY,
    TICK,
    TIERS,
    TRIED,
    active,
    at,
    changed,
    unpaid,
    utc,
)

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
    row = active(replace(PRO, cycle=cycle), utc(anchor))
    assert row.period_end == utc(ends[0])
    for before, end in pairwise(ends):
        row, event = pay(at(row, utc(before)), utc(before) + timedelta(hours=3))
        assert (event, row.period_start, row.period_end) == (Event.PAID, utc(before), utc(end))


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
    row, events = resolve(active(FREE, utc("2025-01-31")), utc("2026-05-01"))
    assert (row.status, row.period_start, row.period_end) == (Status.ACTIVE, utc("2026-04-30"), utc("2026-05-31"))
    assert events == [Event.RENEWED] * 15


# Before the first payment.


def test_nobody_rides_before_paying() -> None:
    """A paid plan starts incomplete, with its price due; a free one is active at once."""
    row = unpaid(PRO)
    assert (row.status, row.entitled, row.current, row.amount_due) == (Status.INCOMPLETE, False, True, 299_000)
    assert unpaid(FREE).entitled


def test_the_first_period_begins_with_the_payment() -> None:
    """Not with the request: who pays a day later loses nothing."""
    row, event = pay(unpaid(PRO), BEGIN + timedelta(hours=23))
    assert (event, row.status, row.amount_due) == (Event.PAID, Status.ACTIVE, 0)
    assert row.anchor == row.period_start == BEGIN + timedelta(hours=23)
    assert row.period_end == utc("2025-04-01T23:00:00")


def test_what_is_never_paid_lapses() -> None:
    """After the checkout time an incomplete subscription has expired, at that moment, and owes nothing."""
    row = unpaid(PRO)
    assert at(row, BEGIN + CHECKOUT_TIME - TICK) == row
    lapsed, events = resolve(row, BEGIN + timedelta(days=100))
    assert (lapsed.status, lapsed.ended_at, lapsed.amount_due) == (Status.EXPIRED, BEGIN + CHECKOUT_TIME, 0)
    assert events == [Event.LAPSED]


# Renewals.


def test_an_unpaid_renewal_has_its_grace_and_not_more() -> None:
    """Entitled until period end + grace, to the microsecond, and then pay-as-you-go again."""
    row = active(PRO)
    late = at(row, END)
    assert (late.status, late.entitled, late.amount_due) == (Status.PAST_DUE, True, 299_000)
    assert at(row, END + GRACE_DEFAULT - TICK).entitled
    lapsed = at(row, END + GRACE_DEFAULT)
    assert (lapsed.status, lapsed.entitled, lapsed.current) == (Status.EXPIRED, False, False)
    assert lapsed.ended_at == END + GRACE_DEFAULT


def test_a_late_payment_pays_for_the_period_that_was_due() -> None:
    """Paying on the sixth day of the grace gives no six days for free."""
    row, _ = pay(at(active(PRO), END + timedelta(days=6)), END + timedelta(days=6))
    assert (row.status, row.period_start, row.period_end) == (Status.ACTIVE, END, utc("2025-05-01"))


def test_a_long_grace_does_not_make_time_run_twice() -> None:
    """With 90 days of grace, one payment after 80 days covers the first due month, and the next is due already."""
    row = replace(active(PRO), grace=timedelta(days=90))
    late = END + timedelta(days=80)
    paid, _ = pay(at(row, late), late)
    again = at(paid, late)
    assert (again.status, again.period_end, again.amount_due) == (Status.PAST_DUE, utc("2025-05-01"), 299_000)


def test_paying_twice_pays_once() -> None:
    """The second payment finds nothing due, in every state that a subscription can be paid in."""
    trial = unpaid(TRIED, trial=True)
    for row in (unpaid(PRO), trial, changed(active(BASIC), PRO, BEGIN), at(active(PRO), END)):
        done, _ = pay(row, BEGIN)
        with pytest.raises(NotPossible, match="Nothing is due"):
            pay(done, BEGIN)


@pytest.mark.parametrize("ended", [Status.CANCELED, Status.EXPIRED])
def test_what_has_ended_stays_ended(ended: Status) -> None:
    """No payment, cancellation, plan or passing of time revives it."""
    row = replace(active(PRO), status=ended, ended_at=END)
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
    row, event = cancel(active(PRO), BEGIN + timedelta(days=3), immediately=False, reason="too dear")
    assert (event, row.status, row.cancel_at, row.cancel_reason) == (
        Event.CANCEL_REQUESTED,
        Status.ACTIVE,
        END,
        "too dear",
    )
    assert at(row, END - TICK).entitled
    ended = at(row, END)
    assert (ended.status, ended.entitled, ended.ended_at) == (Status.CANCELED, False, END)


def test_a_cancellation_may_be_immediate() -> None:
    """Then access ends now."""
    now = BEGIN + timedelta(days=3)
    row, event = cancel(active(PRO), now, immediately=True, reason=None)
    assert (event, row.status, row.entitled, row.ended_at) == (Event.CANCELED, Status.CANCELED, False, now)


@pytest.mark.parametrize("immediately", [True, False])
@pytest.mark.parametrize("status", [Status.INCOMPLETE, Status.PAST_DUE])
def test_what_is_not_paid_is_canceled_at_once(status: Status, immediately: bool) -> None:
    """There is no paid time to keep, and nothing is due any more."""
    row = unpaid(PRO) if status is Status.INCOMPLETE else at(active(PRO), END)
    canceled, event = cancel(row, END, immediately, None)
    assert (row.status, event) == (status, Event.CANCELED)
    assert (canceled.status, canceled.amount_due, canceled.ended_at) == (Status.CANCELED, 0, END)


def test_a_cancellation_drops_what_was_planned() -> None:
    """Neither a scheduled downgrade nor an upgrade that waits for its payment outlives it."""
    downgrading = changed(active(PRO), BASIC, BEGIN)
    upgrading = changed(active(BASIC), PRO, BEGIN)
    for row in (downgrading, upgrading):
        canceled, _ = cancel(row, BEGIN, immediately=False, reason=None)
        assert (canceled.scheduled_plan, canceled.pending_plan, canceled.amount_due) == (None, None, 0)


def test_a_cancellation_can_be_taken_back_until_the_period_ends() -> None:
    """By resuming, or by choosing the present plan again; then it goes on as if nothing had been said."""
    canceled, _ = cancel(active(PRO), BEGIN, immediately=False, reason="a mistake")
    assert resume(at(canceled, END - TICK)) == (active(PRO), Event.RESUMED)
    assert changed(canceled, PRO, END - TICK) == active(PRO)
    for row in (at(canceled, END), active(PRO), unpaid(PRO), at(active(PRO), END)):
        with pytest.raises(NotPossible, match="no cancellation to take back"):
            resume(row)


def test_who_resumes_keeps_an_upgrade_that_waits() -> None:
    """It was asked for after the cancellation, and its price still stands."""
    canceled, _ = cancel(active(PRO), BEGIN, immediately=False, reason=None)
    asked = changed(canceled, ENTERPRISE, BEGIN)
    resumed, _ = resume(asked)
    assert (resumed.cancel_at, resumed.pending_plan, resumed.amount_due) == (None, ENTERPRISE, 700_000)


def test_who_pays_for_another_plan_goes_on() -> None:
    """A year that is paid after a cancellation is not cut off at the old period's end."""
    canceled, _ = cancel(active(PRO), BEGIN, immediately=False, reason=None)
    now = BEGIN + timedelta(days=10)
    asked = changed(canceled, PRO_YEARLY, now)
    assert asked.cancel_at == END
    done, _ = pay(asked, now)
    assert at(done, END + timedelta(days=200)).entitled
    scheduled = changed(canceled, BASIC, now)
    assert at(scheduled, END).plan == BASIC


# The trial.


def test_a_trial_entitles_at_once_and_expires_unpaid() -> None:
    """To the microsecond, without any grace: nobody has paid for anything yet."""
    row = unpaid(TRIED, trial=True)
    assert (row.status, row.entitled, row.amount_due) == (Status.TRIALING, True, 299_000)
    assert row.trial_end == row.period_end == BEGIN + timedelta(days=14)
    assert at(row, row.period_end - TICK) == row
    ended, events = resolve(row, END)
    assert (events, ended.status, ended.ended_at, ended.amount_due) == (
        [Event.LAPSED],
        Status.EXPIRED,
        row.trial_end,
        0,
    )


def test_a_payment_during_the_trial_keeps_the_rest_of_it() -> None:
    """The first paid period starts at the trial's end, and is as long as any; the anchor is there too."""
    row = unpaid(TRIED, utc("2025-01-17"), trial=True)
    done, event = pay(at(row, utc("2025-01-20")), utc("2025-01-20"))
    assert (event, done.status, done.entitled, done.amount_due) == (Event.PAID, Status.ACTIVE, True, 0)
    assert done.anchor == done.period_start == utc("2025-01-31")
    assert done.period_end == utc("2025-02-28")
    assert at(done, utc("2025-02-27")).status is Status.ACTIVE
    renewed, _ = pay(at(done, utc("2025-03-01")), utc("2025-03-01"))
    assert renewed.period_end == utc("2025-03-31")


def test_who_upgrades_before_a_paid_period_has_begun_pays_the_whole_difference() -> None:
    """Nothing of the period is used yet; another cycle does not begin before the trial has ended either."""
    done, _ = pay(unpaid(TRIED, trial=True), BEGIN)
    now = BEGIN + timedelta(days=3)
    assert changed(done, ENTERPRISE, now).amount_due == 700_000
    yearly, _ = pay(changed(done, PRO_YEARLY, now), now)
    assert (yearly.period_start, yearly.period_end) == (utc("2025-03-15"), utc("2026-03-15"))


def test_no_trial_without_an_offer_a_price_and_a_right_to_one() -> None:
    """The plan has to offer it, the account has to be allowed one, and something has to be there to pay."""
    assert unpaid(TRIED, trial=False).status is Status.INCOMPLETE
    assert unpaid(PRO, trial=True).status is Status.INCOMPLETE
    free = unpaid(replace(FREE, trial_days=14), trial=True)
    assert (free.status, free.trial_end) == (Status.ACTIVE, None)


def test_a_trial_is_canceled_for_its_end_or_now() -> None:
    """Canceled for its end it goes on until then and cannot be paid meanwhile; resumed, it can."""
    row = unpaid(TRIED, trial=True)
    canceled, event = cancel(row, BEGIN, immediately=False, reason=None)
    assert (event, canceled.status, canceled.cancel_at) == (Event.CANCEL_REQUESTED, Status.TRIALING, row.trial_end)
    assert canceled.entitled
    with pytest.raises(NotPossible, match="Nothing is due"):
        pay(canceled, BEGIN)
    assert resume(canceled) == (row, Event.RESUMED)
    assert at(canceled, row.period_end).status is Status.CANCELED
    now, event = cancel(row, BEGIN, immediately=True, reason=None)
    assert (event, now.status, now.entitled) == (Event.CANCELED, Status.CANCELED, False)


def test_the_plan_is_not_changed_during_a_trial() -> None:
    """There is nothing paid to count from; who has paid for the trial's plan changes as everybody does."""
    with pytest.raises(NotPossible, match="while the subscription is trialing"):
        quote_change(unpaid(TRIED, trial=True), ENTERPRISE, TIERS, BEGIN)


# Time that comes late, or goes back.


def test_every_payment_is_for_one_period_however_late() -> None:
    """Three periods late within a long grace, three payments bring it up to date, and none of them shifts a period."""
    row, now = replace(active(PRO), grace=timedelta(days=120)), utc("2025-06-10")
    ends = []
    while (row := at(row, now)).status is Status.PAST_DUE:
        row, _ = pay(row, now)
        ends.append(row.period_end)
    assert ends == [utc("2025-05-01"), utc("2025-06-01"), utc("2025-07-01")]


def test_a_clock_that_steps_back_takes_nothing_away() -> None:
    """A row that was stored at a later moment is not undone at an earlier one, and pays and cancels as it is."""
    stored = at(active(PRO), END)
    assert at(stored, BEGIN) == stored
    done, _ = pay(stored, END - timedelta(hours=3))
    assert (done.period_start, at(done, END - timedelta(hours=3))) == (END, done)
    assert changed(done, ENTERPRISE, END - timedelta(hours=3)).amount_due == 700_000


# The table.


def test_every_ended_state_is_final() -> None:
    """The table has no move out of `canceled` and `expired`, and none into a state of the beginning from another."""
    assert {state for state, _ in MOVES} == CURRENT
    for beginning in (Status.INCOMPLETE, Status.TRIALING):
        assert {state for (state, _), to in MOVES.items() if to is beginning} <= {beginning}
    assert BEGINNINGS < CURRENT
    assert ENTITLED < CURRENT


def test_every_move_of_the_table_is_made_by_some_verb() -> None:
    """What the table allows, the functions do; together with the law that they do nothing else it is the truth."""
    row, incomplete, late = active(PRO), unpaid(PRO), at(active(PRO), END)
    trial, upgrading = unpaid(TRIED, trial=True), changed(active(BASIC), PRO, BEGIN)
    ending, trial_ending = (cancel(each, BEGIN, False, None)[0] for each in (row, trial))
    made: dict[tuple[Status, Event], Callable[[], Subscription]] = {
        (Status.INCOMPLETE, Event.PAID): lambda: pay(incomplete, BEGIN)[0],
        (Status.INCOMPLETE, Event.LAPSED): lambda: at(incomplete, END),
        (Status.INCOMPLETE, Event.CANCELED): lambda: cancel(incomplete, BEGIN, True, None)[0],
        (Status.TRIALING, Event.PAID): lambda: pay(trial, BEGIN)[0],
        (Status.TRIALING, Event.LAPSED): lambda: at(trial, END),
        (Status.TRIALING, Event.CANCEL_REQUESTED): lambda: trial_ending,
        (Status.TRIALING, Event.RESUMED): lambda: resume(trial_ending)[0],
        (Status.TRIALING, Event.CANCELED): lambda: cancel(trial, BEGIN, True, None)[0],
        (Status.ACTIVE, Event.PAID): lambda: pay(upgrading, BEGIN)[0],
        (Status.ACTIVE, Event.RENEWED): lambda: at(active(FREE), END),
        (Status.ACTIVE, Event.RENEWAL_UNPAID): lambda: at(row, END),
        (Status.ACTIVE, Event.CANCEL_REQUESTED): lambda: ending,
        (Status.ACTIVE, Event.RESUMED): lambda: resume(ending)[0],
        (Status.ACTIVE, Event.CANCELED): lambda: cancel(row, BEGIN, True, None)[0],
        (Status.ACTIVE, Event.PLAN_CHANGE_REQUESTED): lambda: upgrading,
        (Status.ACTIVE, Event.PLAN_CHANGE_WITHDRAWN): lambda: changed(upgrading, BASIC, BEGIN),
        (Status.ACTIVE, Event.PLAN_CHANGE_LAPSED): lambda: at(upgrading, BEGIN + CHECKOUT_TIME),
        (Status.ACTIVE, Event.PLAN_CHANGED): lambda: changed(active(PRO_YEARLY), ENTERPRISE, BEGIN),
        (Status.PAST_DUE, Event.PAID): lambda: pay(late, END)[0],
        (Status.PAST_DUE, Event.LAPSED): lambda: at(late, END + GRACE_DEFAULT),
        (Status.PAST_DUE, Event.CANCELED): lambda: cancel(late, END, True, None)[0],
    }
    assert {move: verb().status for move, verb in made.items()} == MOVES

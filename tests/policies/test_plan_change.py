"""Changing the plan: what it costs, when it applies, and what becomes of what was paid."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from policies.proration import Direction, expect, quote_change, unused
from policies.subscription import CHECKOUT_TIME, Event, NotPossible, Status, Subscription, resolve, start
from policies.subscription_acts import cancel, change_plan, migrate, pay
from policies.terms import AccountId, Plan, Tier
from tests.policies.subscribers import (
    BASIC,
    BEGIN,
    DAY,
    END,
    ENTERPRISE,
    FREE,
    HOUR,
    PRO,
    PRO_PLUS,
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


def test_an_upgrade_waits_for_its_payment() -> None:
    """Until the difference is paid the old plan is in force; afterwards the new one, in the same period."""
    now = BEGIN + timedelta(days=15, hours=12)
    asked = changed(active(BASIC), PRO, now)
    assert (asked.plan, asked.pending_plan, asked.amount_due) == (BASIC, PRO, 100_000)
    paid, event = pay(asked, now + timedelta(days=1))
    assert (event, paid.plan, paid.pending_plan, paid.amount_due) == (Event.PAID, PRO, None, 0)
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
        (PRO, PRO_PLUS, 0, 11_000),
    ],
)
def test_an_upgrade_costs_the_difference_for_the_time_that_is_left(old: Plan, new: Plan, day: int, due: int) -> None:
    """Pro rata within a period, rounded up to a minor unit; from a free plan or to another cycle a new period."""
    change = quote_change(active(old), new, TIERS, BEGIN + timedelta(days=day))
    assert (change.direction, change.applies_at) == (Direction.UPGRADE, None)
    assert (change.amount_due, change.carried) == (due, 0)


def test_an_upgrade_from_a_free_plan_begins_a_period() -> None:
    """What is paid for a month is a month."""
    now = BEGIN + timedelta(days=20)
    paid, _ = pay(changed(active(FREE), PRO, now), now)
    assert (paid.anchor, paid.period_start, paid.period_end) == (now, now, utc("2025-04-21"))


def test_an_unpaid_upgrade_ends_with_its_period() -> None:
    """Then the renewal of the old plan is due, and not the difference."""
    row = at(changed(active(BASIC), PRO, BEGIN), END)
    assert (row.status, row.plan, row.pending_plan, row.amount_due) == (Status.PAST_DUE, BASIC, None, 99_000)


def test_a_cheap_difference_does_not_outlive_its_period() -> None:
    """Asked for in the last second of a paid month, an upgrade costs one hour of it, and not a month.

    With a downgrade to a free plan scheduled, nothing else would be due at the period's end to take its place.
    """
    row = changed(active(PRO), FREE, BEGIN)
    row = changed(row, ENTERPRISE, END - timedelta(seconds=1))
    assert row.amount_due == -(-700_000 // (31 * 24))
    after = at(row, END)
    assert (after.plan, after.pending_plan, after.amount_due) == (FREE, None, 0)
    with pytest.raises(NotPossible):
        pay(after, END)


def test_a_downgrade_waits_for_the_period_end() -> None:
    """What is paid stays until then, and costs nothing; afterwards the price of the smaller plan is due."""
    now = BEGIN + timedelta(days=10)
    change = quote_change(active(PRO), BASIC, TIERS, now)
    assert (change.direction, change.applies_at, change.amount_due) == (Direction.DOWNGRADE, END, 0)
    row = change_plan(active(PRO), change, now)[0]
    assert at(row, END - TICK).plan == PRO
    due = at(row, END)
    assert (due.status, due.plan, due.amount_due, due.scheduled_plan) == (Status.PAST_DUE, BASIC, 99_000, None)


def test_a_downgrade_to_a_free_plan_needs_no_payment() -> None:
    """It takes over by itself at the period's end, and renews from there."""
    row = at(changed(active(PRO, utc("2025-01-31")), FREE, utc("2025-02-01")), utc("2025-03-01"))
    assert (row.status, row.plan, row.amount_due) == (Status.ACTIVE, FREE, 0)
    assert (row.period_start, row.period_end) == (utc("2025-02-28"), utc("2025-03-31"))


def test_a_downgrade_to_another_cycle_counts_from_its_own_beginning() -> None:
    """From a year to months: the months count from the end of the year."""
    row = changed(active(PRO_YEARLY, utc("2024-02-29")), BASIC, utc("2024-06-01"))
    row, _ = pay(at(row, utc("2025-02-28")), utc("2025-03-01"))
    assert (row.anchor, row.period_end) == (utc("2025-02-28"), utc("2025-03-28"))


def test_a_scheduled_downgrade_is_replaceable() -> None:
    """By another one, by an upgrade, or by the present plan, which withdraws it."""
    scheduled = changed(active(PRO), BASIC, BEGIN)
    assert changed(scheduled, FREE, BEGIN).scheduled_plan == FREE
    assert changed(scheduled, PRO, BEGIN) == active(PRO)
    upgraded, _ = pay(changed(scheduled, ENTERPRISE, BEGIN), BEGIN)
    assert (upgraded.plan, upgraded.scheduled_plan) == (ENTERPRISE, None)


def test_the_same_plan_again_is_no_change() -> None:
    """There is nothing to withdraw, so there is nothing to do."""
    with pytest.raises(NotPossible, match="on Pro already"):
        quote_change(active(PRO), PRO, TIERS, BEGIN)


@pytest.mark.parametrize("row", [unpaid(PRO), at(active(PRO), END)])
def test_only_an_active_subscription_changes_its_plan(row: Subscription) -> None:
    """Before the first payment and in the grace time there is no plan to count from."""
    with pytest.raises(NotPossible, match="cannot be changed"):
        quote_change(row, ENTERPRISE, TIERS, BEGIN)


def test_a_plan_of_a_lost_tier_can_be_left() -> None:
    """A plan no longer on sale may be of a tier that the policy has lost: everything on the ladder is above it."""
    row = active(replace(PRO, tier=Tier("gold"), version_id=99))
    assert quote_change(row, BASIC, TIERS, BEGIN).direction is Direction.UPGRADE


# The quote as a number that stands.


@pytest.mark.parametrize("now", [BEGIN, BEGIN + HOUR - TICK, BEGIN + HOUR, BEGIN + 9 * DAY + TICK, END - TICK])
@pytest.mark.parametrize(("old", "new"), [(BASIC, PRO), (PRO, PRO_YEARLY), (PRO_YEARLY, ENTERPRISE)])
def test_a_quote_stands_until_it_says(old: Plan, new: Plan, now: datetime) -> None:
    """To the microsecond: until then the amount and the credit are those that were shown, and afterwards others."""
    row = active(old)
    quote = quote_change(row, new, TIERS, now)
    assert now < quote.stands_until <= now + HOUR
    assert quote_change(row, new, TIERS, quote.stands_until - TICK) == quote
    after = quote_change(row, new, TIERS, quote.stands_until)
    assert (after.amount_due, after.carried) != (quote.amount_due, quote.carried)


def test_what_does_not_count_on_time_stands_for_the_period() -> None:
    """A downgrade, an upgrade from a free plan, and a withdrawal cost the same until the period ends."""
    for row, plan in ((active(PRO), BASIC), (active(FREE), PRO), (changed(active(PRO), BASIC, BEGIN), PRO)):
        quote = quote_change(row, plan, TIERS, BEGIN)
        assert quote.stands_until == END
        assert quote_change(row, plan, TIERS, END - TICK) == quote


def test_another_amount_than_expected_is_refused_with_both() -> None:
    """Who insists on what was shown is told what it would be by now, also when it has become cheaper."""
    quote = quote_change(active(BASIC), PRO, TIERS, BEGIN + DAY)
    expect(quote, None)
    expect(quote, quote.amount_due)
    for other in (quote.amount_due + 1, quote.amount_due - 1, 0):
        with pytest.raises(NotPossible, match=f"193549 IDR would be due, and not {other}") as refused:
            expect(quote, other)
        assert refused.value.fields == {"expected": other, "amount": 193_549, "currency": "IDR"}


def test_an_upgrade_keeps_its_price_for_a_day() -> None:
    """Paid by then it costs what was quoted; later it has lapsed, and is asked for again at the price of that day."""
    row = changed(active(BASIC), PRO, BEGIN)
    waiting = at(row, BEGIN + CHECKOUT_TIME - TICK)
    assert (waiting, pay(waiting, BEGIN + CHECKOUT_TIME - TICK)[0].plan) == (row, PRO)
    lapsed, events = resolve(row, BEGIN + CHECKOUT_TIME)
    assert (lapsed, events) == (active(BASIC), [Event.PLAN_CHANGE_LAPSED])
    with pytest.raises(NotPossible, match="Nothing is due"):
        pay(lapsed, BEGIN + CHECKOUT_TIME)


def test_a_lapsed_upgrade_leaves_what_was_planned_before_it() -> None:
    """The downgrade that was scheduled takes over as if nobody had asked for anything else."""
    scheduled = changed(active(PRO), BASIC, BEGIN)
    assert at(changed(scheduled, ENTERPRISE, BEGIN), BEGIN + CHECKOUT_TIME) == scheduled


def test_an_upgrade_from_a_free_plan_outlives_the_free_period() -> None:
    """Its price does not count on that period, so the renewal of what costs nothing is no reason to refuse it."""
    now = END - HOUR
    row = at(changed(active(FREE), PRO, now), END + HOUR)
    assert (row.period_start, row.pending_plan, row.amount_due) == (END, PRO, 299_000)
    assert pay(row, END + HOUR)[0].plan == PRO
    assert at(row, now + CHECKOUT_TIME).pending_plan is None


def test_currencies_are_not_counted_against_each_other() -> None:
    """A paid plan in another currency is refused both ways; one that costs nothing has no currency to speak of."""
    dollars, gift = replace(ENTERPRISE, currency="USD"), replace(FREE, currency="USD")
    for row, plan in ((active(PRO), dollars), (active(dollars), PRO), (replace(active(FREE), carried=1), dollars)):
        with pytest.raises(NotPossible, match="priced in"):
            quote_change(row, plan, TIERS, BEGIN)
    assert quote_change(active(gift), PRO, TIERS, BEGIN).amount_due == 299_000
    assert quote_change(active(PRO), gift, TIERS, BEGIN).direction is Direction.DOWNGRADE


# What was paid and is not used up.


def test_the_rest_of_a_year_is_a_credit() -> None:
    """From a year to a dearer month: the months that are left pay for the new plan until they are used up."""
    now = BEGIN + 100 * DAY
    quote = quote_change(active(PRO_YEARLY), ENTERPRISE, TIERS, now)
    assert (quote.direction, quote.amount_due, quote.carried) == (Direction.UPGRADE, 0, 1_084_698)
    row, event = change_plan(active(PRO_YEARLY), quote, now)
    assert (event, row.plan, row.carried, row.period_end) == (
        Event.PLAN_CHANGED,
        ENTERPRISE,
        1_084_698,
        utc("2025-07-09"),
    )
    row, events = resolve(row, utc("2025-07-09"))
    assert (events, row.carried, row.next_amount) == ([Event.RENEWED], 85_698, 913_302)
    row, events = resolve(row, utc("2025-08-09"))
    assert (events, row.status, row.amount_due) == ([Event.RENEWAL_UNPAID], Status.PAST_DUE, 913_302)
    row, _ = pay(row, utc("2025-08-10"))
    assert (row.carried, row.next_amount) == (0, 999_000)


def test_a_credit_reduces_what_an_upgrade_costs() -> None:
    """What is due is the difference less the credit; the payment uses all of it up, and nothing else does."""
    row = replace(active(BASIC), carried=50_000)
    asked = changed(row, PRO, BEGIN)
    assert (asked.amount_due, asked.carried) == (150_000, 50_000)
    assert at(asked, BEGIN + CHECKOUT_TIME) == row
    assert pay(asked, BEGIN)[0].carried == 0
    covered = changed(replace(row, carried=250_000), PRO, BEGIN)
    assert (covered.plan, covered.amount_due, covered.carried) == (PRO, 0, 50_000)


def test_a_credit_that_covers_a_renewal_drops_an_upgrade_of_the_old_period() -> None:
    """The paid plan goes on by its credit, and a price that counted on the period before is not kept for the next."""
    row = changed(replace(active(BASIC), carried=150_000), ENTERPRISE, END - HOUR)
    assert row.amount_due == 0, "an hour costs less than the credit"
    row = changed(replace(active(BASIC), carried=99_000), ENTERPRISE, BEGIN + DAY)
    row = at(replace(row, pending_until=None), END)
    assert (row.status, row.plan, row.pending_plan, row.amount_due, row.carried) == (Status.ACTIVE, BASIC, None, 0, 0)


def test_a_cheaper_plan_of_the_same_worth_gives_the_difference_back() -> None:
    """As a credit: nothing that was paid is lost by changing."""
    row = changed(active(PRO_PLUS), PRO, BEGIN)
    assert (row.plan, row.carried, row.period_end) == (PRO, 11_000, END)
    assert at(row, END).amount_due == 288_000


def test_a_credit_waits_for_the_next_subscription() -> None:
    """It outlives a cancellation, and is counted once: with another currency there is nothing to count it against."""
    ended, _ = cancel(replace(active(PRO), carried=120_000), BEGIN, immediately=True, reason=None)
    again = start(2, AccountId(1), PRO, BEGIN, ended)
    assert (again.previous_id, again.status, again.amount_due) == (1, Status.INCOMPLETE, 179_000)
    assert pay(again, BEGIN)[0].carried == 0
    covered = start(2, AccountId(1), BASIC, BEGIN, ended, trial=True)
    assert (covered.status, covered.amount_due, covered.carried) == (Status.ACTIVE, 0, 21_000)
    assert start(2, AccountId(1), replace(PRO, currency="USD"), BEGIN, ended).amount_due == 299_000


@pytest.mark.parametrize(
    ("row", "now", "rest"),
    [
        (active(PRO), BEGIN, 299_000),
        (active(PRO), BEGIN + TICK, 299_000 * (31 * 24 - 1) // (31 * 24)),
        (active(PRO), BEGIN + 15 * DAY + 12 * HOUR, 149_500),
        (active(PRO), END - TICK, 0),
        (at(active(PRO), END), END + DAY, 0),
        (unpaid(PRO), BEGIN, 0),
        (unpaid(TRIED, trial=True), BEGIN + DAY, 0),
        (active(FREE), BEGIN, 0),
        (pay(unpaid(TRIED, trial=True), BEGIN + DAY)[0], BEGIN + 2 * DAY, 299_000),
    ],
    ids=["at once", "a moment later", "half-way", "at the end", "past due", "unpaid", "trial", "free", "paid trial"],
)
def test_the_unused_rest_is_a_number(row: Subscription, now: datetime, rest: int) -> None:
    """The whole hours that are left of what was paid; nothing of what was not."""
    assert unused(row, now) == rest
    forfeited, _ = cancel(row, now, immediately=True, reason=None)
    assert forfeited.refund_quoted == 0
    refunded, _ = cancel(replace(row, carried=7), now, immediately=True, reason=None, refund=True)
    assert (refunded.refund_quoted, refunded.carried) == (rest + 7, 0), "paid back or kept as credit, not both"


# Versions.


def test_a_subscriber_keeps_the_version_of_the_plan() -> None:
    """Choosing the plan that one has is staying on one's own version, whatever is on sale under its name by now."""
    newer = replace(PRO, version_id=99, version=2, price=399_000)
    scheduled = changed(active(PRO), BASIC, BEGIN)
    quote = quote_change(scheduled, newer, TIERS, BEGIN)
    assert (quote.direction, quote.plan, quote.amount_due) == (Direction.STAY, PRO, 0)
    row, event = change_plan(scheduled, quote, BEGIN)
    assert (row, event) == (active(PRO), Event.PLAN_CHANGE_WITHDRAWN)
    with pytest.raises(NotPossible, match="on Pro already"):
        quote_change(row, newer, TIERS, BEGIN)
    assert at(row, END).amount_due == 299_000


def test_a_migration_takes_the_newest_version_at_the_period_end() -> None:
    """Not before, and at the new price; the subscriber may withdraw it like any other change."""
    newer = replace(PRO, version_id=99, version=2, price=399_000)
    row, event = migrate(active(PRO), newer)
    assert (event, row.plan, row.scheduled_plan) == (Event.PLAN_CHANGE_REQUESTED, PRO, newer)
    assert (at(row, END).plan, at(row, END).amount_due) == (newer, 399_000)
    assert changed(row, newer, BEGIN) == active(PRO)
    newest = replace(newer, version_id=100, version=3)
    assert migrate(row, newest)[0].scheduled_plan == newest


def test_a_migration_overrides_nobody() -> None:
    """Neither a downgrade that was chosen nor a cancellation; and the newest version has nowhere to go."""
    newer = replace(PRO, version_id=99, version=2)
    canceled, _ = cancel(active(PRO), BEGIN, immediately=False, reason=None)
    for row, version, why in (
        (changed(active(PRO), BASIC, BEGIN), newer, "has chosen to change to Basic"),
        (canceled, newer, "about to end"),
        (at(active(PRO), END), newer, "past_due"),
        (active(PRO), PRO, "newest version of Pro already"),
        (active(PRO), replace(newer, currency="USD"), "priced in USD"),
    ):
        with pytest.raises(NotPossible, match=why):
            migrate(row, version)

"""Subscriptions and their payments as rows: one transaction each, every payment once, on both databases."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
import pytest_asyncio
import sqlalchemy as sa
from sqlalchemy import Connection

from policies.subscription import GRACE_DEFAULT, Event, NotPossible, Status, Subscription
from policies.subscription_acts import Purpose, pay
from store import subscriptions, tables
from store.engine import AlreadyExists
from store.subscription_rows import values_of
from tests.store.subscribing import DAY, Office
from tests.store.till import NOON, Till

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def office(till: Till) -> Office:
    """Its till checks every law of the ledger after each test."""
    office = Office(till)
    await office.open()
    return office


async def test_a_payment_is_booked_with_what_was_due(office: Office) -> None:
    """Start, upgrade and renewal: each with its purpose, its amount and the version that it paid for."""
    account = await office.till.account()
    await office.subscribe(account, "basic")
    await office.confirm(account, "one")
    await office.change(account, "pro")
    await office.confirm(account, "two", 200_000)
    office.now = NOON + 31 * DAY
    await office.confirm(account, "three")
    booked = [(row.key, row.purpose, row.amount, row.currency, row.plan_id) for row in await office.payments(account)]
    assert booked == [
        ("one", Purpose.START, 99_000, "IDR", "basic"),
        ("two", Purpose.UPGRADE, 200_000, "IDR", "pro"),
        ("three", Purpose.RENEW, 299_000, "IDR", "pro"),
    ]
    assert [event for event, _, _ in await office.history(account)] == [
        "subscribed", "paid", "plan_change_requested", "paid", "renewal_unpaid", "paid"
    ]  # fmt: skip


async def test_the_same_key_twice_is_one_payment(office: Office) -> None:
    """The second answer names the same payment and the subscription as it is now, and nothing has happened."""
    account = await office.till.account()
    await office.subscribe(account, "basic")
    first = await office.confirm(account, "invoice", 99_000)
    office.now += 40 * DAY
    again = await office.confirm(account, "invoice", 99_000)
    assert (first.changed, again.changed) == (True, False)
    assert (again.payment, again.row.status) == (first.payment, Status.EXPIRED)
    assert len(await office.payments(account)) == 1
    assert len(await office.history(account)) == 2, "asking again writes nothing down"


async def test_simultaneous_confirmations_of_one_key_pay_once(office: Office) -> None:
    """Ten deliveries of one notification: one payment, ten answers that name it."""
    account = await office.till.account()
    await office.subscribe(account, "basic")
    answers = await asyncio.gather(*(office.confirm(account, "invoice") for _ in range(10)))
    assert sum(answer.changed for answer in answers) == 1
    assert len({answer.payment.payment_id for answer in answers}) == 1


async def test_simultaneous_confirmations_of_other_keys_pay_once(office: Office) -> None:
    """Two people confirm the same money: the second finds nothing due."""
    account = await office.till.account()
    await office.subscribe(account, "basic")
    answers = await asyncio.gather(
        *(office.confirm(account, f"key {number}") for number in range(5)), return_exceptions=True
    )
    assert sum(isinstance(answer, NotPossible) for answer in answers) == 4
    assert len(await office.payments(account)) == 1


async def test_a_key_names_one_payment_of_all_accounts(office: Office) -> None:
    """An invoice is paid by one: it is told whose it was, also of two accounts at the same moment."""
    one, other = await office.till.account(), await office.till.account()
    for account in (one, other):
        await office.subscribe(account, "basic")
    answers = await asyncio.gather(
        office.confirm(one, "invoice"), office.confirm(other, "invoice"), return_exceptions=True
    )
    assert sum(isinstance(answer, NotPossible | AlreadyExists) for answer in answers) == 1
    loser = other if isinstance(answers[1], Exception) else one
    with pytest.raises(NotPossible, match=f"for a payment of account {one if loser == other else other}"):
        await office.confirm(loser, "invoice")
    assert (await office.latest(loser)).status is Status.INCOMPLETE


async def test_another_amount_is_refused_with_both(office: Office) -> None:
    """Too little and too much alike; and a key stays the key of the amount that it was used for."""
    account = await office.till.account()
    await office.subscribe(account, "basic")
    for amount in (98_999, 99_001):
        with pytest.raises(NotPossible, match=f"99000 IDR would be due, and not {amount}") as refused:
            await office.confirm(account, "invoice", amount)
        assert refused.value.fields == {"expected": amount, "amount": 99_000, "currency": "IDR"}
    await office.confirm(account, "invoice", 99_000)
    with pytest.raises(NotPossible, match="has been used for a payment of 99000 IDR"):
        await office.confirm(account, "invoice", 5)


async def test_nothing_due_is_nothing_to_confirm(office: Office) -> None:
    """Neither without a subscription, nor on a free or paid one, nor after it has ended."""
    account = await office.till.account()
    with pytest.raises(NotPossible, match="There is no subscription"):
        await office.confirm(account, "key")
    await office.subscribe(account, "free")
    with pytest.raises(NotPossible, match="Nothing is due"):
        await office.confirm(account, "key")
    await office.cancel(account, immediately=True)
    with pytest.raises(NotPossible, match="has ended: it is canceled"):
        await office.confirm(account, "key")
    assert await office.payments(account) == []


async def test_an_immediate_payment_is_one_transaction_with_what_it_pays(office: Office) -> None:
    """When the payment cannot be booked there is no subscription, and no change, without it."""
    one, other = await office.till.account(), await office.till.account()
    await office.subscribe(one, "basic", key="taken")
    with pytest.raises(AlreadyExists):
        await office.subscribe(other, "basic", key="taken")
    with pytest.raises(NotPossible, match="There is no subscription"):
        await office.cancel(other)
    before = await office.latest(one)
    with pytest.raises(AlreadyExists):
        await office.change(one, "pro", key="taken")
    assert await office.latest(one) == before
    assert (await office.change(one, "pro", key="free to use")).plan.plan_id == "pro"
    assert [event for event, _, _ in await office.history(one)] == [
        "subscribed", "paid", "plan_change_requested", "paid"
    ]  # fmt: skip


async def test_a_payment_has_no_way_around_the_book(office: Office) -> None:
    """A decision that pays is not stored as any other change."""
    account = await office.till.account()
    await office.subscribe(account, "basic")
    with pytest.raises(AssertionError, match="booked by"):
        await office.till.database.write(subscriptions.change, account, lambda row: pay(row, NOON), "user", NOON)


async def test_what_is_not_in_the_table_of_moves_is_not_stored(office: Office) -> None:
    """A decision that would bring an unpaid subscription to life is a mistake of ours."""
    account = await office.till.account()
    await office.subscribe(account, "basic")

    def revive(row: Subscription) -> tuple[Subscription, Event]:
        return replace(row, status=Status.ACTIVE), Event.RESUMED

    with pytest.raises(AssertionError, match="does not lead from incomplete to active"):
        await office.till.database.write(subscriptions.change, account, revive, "user", NOON)
    assert (await office.latest(account)).status is Status.INCOMPLETE


async def test_a_payment_that_is_a_period_late_leaves_the_next_one_due(office: Office) -> None:
    """What time has done since is in the answer and in the rows: the account is not told that all is paid."""
    account = await office.till.account()
    await office.subscribe(account, "basic", key="start")
    arguments = (account, office.plans["basic"], timedelta(days=60), "user", NOON)
    await office.cancel(account, immediately=True)
    await office.till.database.write(subscriptions.subscribe, *arguments, payment_key="again")
    office.now = NOON + 65 * DAY
    late = await office.confirm(account, "late")
    assert (late.row.status, late.row.amount_due) == (Status.PAST_DUE, 99_000)
    assert late.row == await office.latest(account)
    assert (await office.confirm(account, "later")).row.status is Status.ACTIVE


async def test_an_account_has_one_trial(office: Office) -> None:
    """The database knows whether there was one, whatever the subscription before was."""
    account = await office.till.account()
    assert (await office.subscribe(account, "tried")).status is Status.TRIALING
    await office.cancel(account, immediately=True)
    await office.subscribe(account, "free")
    await office.cancel(account, immediately=True)
    row = await office.subscribe(account, "tried")
    assert (row.status, row.trial_end) == (Status.INCOMPLETE, None)


async def test_simultaneous_subscriptions_get_one_trial(office: Office) -> None:
    """The index of current subscriptions counts those on trial."""
    account = await office.till.account()
    answers = await asyncio.gather(*(office.subscribe(account, "tried") for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(answer, NotPossible) for answer in answers) == 4
    rows = await office.till.rows("SELECT status FROM subscriptions")
    assert [row["status"] for row in rows] == ["trialing"]
    with pytest.raises(AlreadyExists):
        await office.till.database.write(_insert_second, account)


def _insert_second(connection: Connection, account: int) -> None:
    """As if the lock had been forgotten."""
    row = subscriptions.current(connection, account)
    assert row is not None
    connection.execute(sa.insert(tables.subscriptions).values(values_of(row)))


async def test_what_lapses_is_found_by_the_job(office: Office) -> None:
    """A trial that ended unpaid, and an upgrade that was not paid within its day, each at its own moment."""
    trial, upgrade = await office.till.account(), await office.till.account()
    await office.subscribe(trial, "tried")
    await office.subscribe(upgrade, "basic", key="start")
    await office.change(upgrade, "pro")
    office.now = NOON + 20 * DAY
    due, _ = await office.till.database.read(subscriptions.due_accounts, office.now, 0, 10)
    assert due == [trial, upgrade]
    assert await office.store_due(trial) == [Event.LAPSED]
    assert await office.store_due(upgrade) == [Event.PLAN_CHANGE_LAPSED]
    assert (await office.history(trial))[-1] == ("lapsed", "expired", NOON + 14 * DAY)
    assert (await office.history(upgrade))[-1] == ("plan_change_lapsed", "active", NOON + DAY)
    assert (await office.till.database.read(subscriptions.due_accounts, office.now, 0, 10))[0] == []


async def test_a_credit_is_carried_from_row_to_row(office: Office) -> None:
    """Out of a year into months, over renewals that nobody wrote down for long, into the next subscription."""
    account = await office.till.account()
    await office.subscribe(account, "pro-yearly", key="year")
    office.now = NOON + 100 * DAY
    row = await office.change(account, "top")
    assert (row.plan.plan_id, row.carried) == ("top", 1_084_698)
    office.now = NOON + 150 * DAY
    await office.cancel(account, immediately=True)
    assert [event for event, _, _ in await office.history(account)][2:] == ["plan_changed", "renewed", "canceled"]
    again = await office.subscribe(account, "basic")
    assert (again.status, again.amount_due, again.carried) == (Status.INCOMPLETE, 13_302, 85_698)
    assert (await office.confirm(account, "rest", 13_302)).row.carried == 0


async def test_two_schedulers_write_every_event_once(office: Office) -> None:
    """At the same moment and one after the other: the history is that of one."""
    account = await office.till.account()
    await office.subscribe(account, "basic", key="start")
    office.now = NOON + 100 * DAY
    stored = await asyncio.gather(*(office.store_due(account) for _ in range(5)))
    assert sorted(stored, key=len)[-1] == [Event.RENEWAL_UNPAID, Event.LAPSED]
    assert sum(map(len, stored)) == 2
    assert [event for event, _, _ in await office.history(account)] == [
        "subscribed", "paid", "renewal_unpaid", "lapsed"
    ]  # fmt: skip
    assert (await office.latest(account)).ended_at == NOON + 31 * DAY + GRACE_DEFAULT


# Verification of the book.


async def test_every_breach_of_the_book_is_found(office: Office) -> None:
    """Another amount, another version, somebody else's, a missing payment, and one that nothing was due for."""
    account = await office.till.account()
    other = await office.till.account()
    await office.subscribe(account, "basic", key="start")
    await office.change(account, "pro", key="upgrade")
    number = (await office.latest(account)).subscription_id
    first, second = f"subscription {number}: event 2", f"subscription {number}: event 4"
    columns = "account_id, subscription_id, purpose, amount, currency, plan_version_id, actor, at"
    copy = f"INSERT INTO payments ({columns}, seq, key) SELECT {columns}, 1, 'more' FROM payments WHERE seq = 2"
    for statement, found in {
        "UPDATE payments SET amount = 1 WHERE seq = 2": f"{first}: due 99000, paid 1",
        f"UPDATE payments SET account_id = {other} WHERE seq = 4": f"{second}: due 200000, paid 200000",
        "UPDATE payments SET plan_version_id = plan_version_id - 1 WHERE seq = 4": f"{second}: due 200000, paid 200000",
        "DELETE FROM payments WHERE seq = 4": f"{second}: due 200000, paid None",
        copy: f"subscription {number}: event 1: due None, paid 99000",
    }.items():
        assert await office.till.breaches_after(statement) == {"payments": [found]}
    breaches = await office.till.breaches_after("UPDATE subscription_events SET amount_due = 5 WHERE seq = 3")
    assert breaches == {"payments": [f"{second}: due 5, paid 200000"]}

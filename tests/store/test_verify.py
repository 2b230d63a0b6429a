"""Verification finds what breaks a law, says where, and finds nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import pytest
import pytest_asyncio

import store.findings
import store.verify
from policies.subscription import GRACE_DEFAULT
from policies.subscription_acts import cancel
from policies.terms import AccountId, OnLate, Overrun
from store import catalogue, subscriptions
from store.ids import id_text
from store.verbs import Hold
from store.verify import LAWS, verify
from tests.store.till import NOON, QUOTA, Till, terms

pytestmark = pytest.mark.asyncio(loop_scope="session")

PLAN = {
    "tier": "basic",
    "name": "Basic",
    "description": "",
    "price": 0,
    "currency": "USD",
    "cycle": "monthly",
    "daily_quota": 100,
    "monthly_quota": None,
    "max_model_tier": "basic",
    "features": {},
}

AVAILABLE = "accounts.ck_accounts_available"

REVISION = 3
"""Of the account of the scene, whose subscription has changed three times."""


@dataclass
class Scene:
    """An account with something of everything: grants, holds in every state, windows, a subscription with events."""

    till: Till
    account: AccountId
    settled: Hold
    open: Hold
    released: Hold
    quota: Hold

    async def after(self, *statements: str, without: str | None = None) -> dict[str, list[str]]:
        """Breaches after these statements, in which names of the scene stand for its ids."""
        holds = {name: getattr(self, name).hold_id for name in ("settled", "open", "released", "quota")}
        names = {"account": self.account, **holds}
        return await self.till.breaches_after(*(text.format(**names) for text in statements), without=without)


@pytest_asyncio.fixture(loop_scope="session")
async def scene(till: Till) -> Scene:
    account = await till.account(100, 50)
    released = await till.hold(account, 5)
    await till.release(released)
    settled = await till.settled(account, 30)
    await till.refund(settled, 10)
    quota = await till.settled(account, 0, quota=4, fundings=QUOTA, terms=terms(10, 100))
    await till.hold(account, quota=2, fundings=QUOTA, terms=terms(10, 100))
    still_open = await till.hold(account, 20)
    await till.database.write(catalogue.put_plan, "basic", PLAN, 1, True, NOON)
    (plan,) = (await till.database.read(catalogue.load)).plans
    await till.database.write(subscriptions.subscribe, account, plan, GRACE_DEFAULT, "user", NOON)
    await till.database.write(subscriptions.change, account, lambda row: cancel(row, NOON, False, None), "user", NOON)
    await till.database.write(subscriptions.store_due, account, NOON + timedelta(days=60))
    return Scene(till, account, settled, still_open, released, quota)


async def test_a_sound_database_breaks_no_law(scene: Scene) -> None:
    """Every law is reported with its sentence and with how much it was checked on."""
    checks = await scene.till.database.read(verify)
    assert [(check.name, check.sentence) for check in checks] == list(LAWS.items())
    assert {check.name: check.checked for check in checks} == {
        "balances": 1,
        "entries": 4,
        "available": 1,
        "grants": 1,
        "provenance": 1,
        "spending": 2,
        "windows": 2,
        "rollover": 2,
        "charges": 1,
        "holds": 5,
        "usage": 5,
        "keys": 1,
        "rollup": 1,
        "subscriptions": 1,
        "payments": 0,
    }
    assert not any(check.breaches for check in checks)


async def test_an_empty_database_breaks_no_law(till: Till) -> None:
    """There is nothing to check, which is said."""
    assert {check.checked for check in await till.database.read(verify)} == {0}


async def test_a_changed_balance_is_found(scene: Scene) -> None:
    """The breach says what the balance is and what it should be."""
    breaches = await scene.after("UPDATE credit_grants SET unspent = unspent + 1 WHERE amount = 100")
    assert breaches["balances"] == [f"account {scene.account}: grants have 131 left, entries 130"]
    assert set(breaches) == {"balances", "spending"}


async def test_a_deleted_entry_is_found(scene: Scene) -> None:
    """In the middle it leaves a gap, and at the end it is missing in the sum."""
    assert "entries" in await scene.after("DELETE FROM ledger_entries WHERE version = 2")
    assert "balances" in await scene.after("DELETE FROM ledger_entries WHERE version = 4")


async def test_a_changed_entry_is_found(scene: Scene) -> None:
    """Also when another one is changed to make the sum right again."""
    breaches = await scene.after(
        "UPDATE ledger_entries SET amount = amount + 1 WHERE version = 1",
        "UPDATE ledger_entries SET amount = amount - 1 WHERE version = 2",
    )
    assert breaches["entries"] == [f"account {scene.account}: entry 1", f"account {scene.account}: entry 2"]
    assert "balances" not in breaches


async def test_an_overdrawn_account_is_found(scene: Scene) -> None:
    """Holds that have taken more than there is, each of which the account could pay by itself."""
    grant = f"(SELECT min(id) FROM credit_grants WHERE account_id = {scene.account})"
    breaches = await scene.after(
        f"UPDATE credit_grants SET unspent = 10 WHERE id = {grant}",
        f"UPDATE ledger_entries SET amount = amount - 70 WHERE grant_id = {grant}",
    )
    (breach,) = breaches["provenance"]
    assert breach.endswith("has 10 left, open holds have taken 20")


@pytest.mark.parametrize(
    "change",
    [
        "kind = 'gift'",
        "kind = 'adjust'",
        "kind = 'late'",
        "kind = 'expire'",
        "hold_id = NULL",
        "grant_id = 1",
        "amount = 0, balance_after = balance_after + 30",
    ],
)
async def test_an_entry_that_is_about_something_else_is_found(scene: Scene, change: str) -> None:
    """Every kind of entry names what it is about, and has its sign."""
    breaches = await scene.after(f"UPDATE ledger_entries SET {change} WHERE kind = 'usage'")
    assert {"entries", "charges"} & set(breaches)


async def test_a_debt_without_an_overrun_is_found(scene: Scene) -> None:
    """What is owed was lent by an overrun that is booked."""
    breaches = await scene.after("UPDATE accounts SET overdrawn = 10")
    assert breaches["available"] == [f"account {scene.account}: overdrawn 10, overruns 0"]
    assert "balances" in breaches


async def test_a_grant_that_was_never_booked_is_found(scene: Scene) -> None:
    """Credits from nowhere, also when they are spent already."""
    columns = "id, account_id, key, source, amount, unspent, spent, priority, effective_at, description, created_at"
    values = "4711, {account}, 'stolen', 'bonus', 5, 0, TRUE, 1, 0, '', 0"
    breaches = await scene.after(f"INSERT INTO credit_grants ({columns}) VALUES ({values})")
    assert breaches == {
        "grants": ["grant 4711: not booked once with its amount"],
        "spending": [f"account {scene.account}: grants lost 5, deducted and repaid 0"],
    }


async def test_a_balance_that_was_below_zero_is_found(scene: Scene) -> None:
    """Also long ago, and although it is right again now: nothing was lent to this account."""
    breaches = await scene.after(
        "UPDATE ledger_entries SET balance_after = -1, amount = amount - 111 WHERE version = 3",
        "UPDATE ledger_entries SET amount = amount + 111 WHERE version = 4",
    )
    assert breaches["available"] == [f"account {scene.account}: entry 3"]


async def test_an_overrun_and_a_late_charge_are_right(scene: Scene) -> None:
    """What is owed was booked as such, what came late was charged once, and repayments and refunds add up."""
    till, now = scene.till, {"revision": REVISION}
    owing = await till.hold(scene.account, 10, overrun=Overrun.OVERDRAFT, **now)
    late = await till.hold(scene.account, 10, on_late=OnLate.CHARGE, **now)
    till.now += timedelta(hours=1)
    await till.expire(late)
    await till.settle(late, 15)
    await till.settle(owing, 300)
    await till.grant(scene.account, 50)
    assert await scene.after() == {}
    await till.refund(owing, 250)
    await till.refund(late, 5)
    assert await scene.after() == {}


async def test_a_debt_that_was_forgiven_by_hand_is_found(scene: Scene) -> None:
    """What an account owes is what was lent to it and not repaid."""
    await scene.till.settle(await scene.till.hold(scene.account, 1, overrun=Overrun.OVERDRAFT, revision=REVISION), 500)
    breaches = await scene.after("UPDATE accounts SET overdrawn = overdrawn - 1")
    assert set(breaches) == {"balances", "spending"}


async def test_a_late_charge_without_its_mark_is_found(scene: Scene) -> None:
    """It could be charged again."""
    late = await scene.till.hold(scene.account, 10, on_late=OnLate.CHARGE, revision=REVISION)
    scene.till.now += timedelta(hours=1)
    await scene.till.expire(late)
    await scene.till.settle(late)
    breaches = await scene.after(f"UPDATE holds SET late_at = NULL WHERE id = {late.hold_id}")
    assert set(breaches) == {"charges", "holds", "usage"}
    breaches = await scene.after(f"UPDATE holds SET on_late = 'none' WHERE id = {late.hold_id}")
    assert breaches == {"holds": [f"hold {id_text(late.hold_id)}: expired, 10 of 10"]}


async def test_a_part_of_another_grant_is_found(scene: Scene) -> None:
    """A settled hold that claims to have spent what it has not."""
    other = await scene.till.account(5)
    (grant,) = await scene.till.rows("SELECT id FROM credit_grants WHERE account_id = :id", id=other)
    taken = f"""'{{{{"grants":[[{grant["id"]},30]]}}}}'"""
    breaches = await scene.after(f"UPDATE holds SET taken = {taken} WHERE id = {{settled}}")
    assert f"grant {grant['id']}: spent and lapsed 20 more than is gone" in breaches["spending"]
    assert set(breaches) == {"spending"}


async def test_credits_that_lapsed_before_their_time_are_found(scene: Scene) -> None:
    """What an account loses by the clock, it loses at its moment."""
    await scene.till.grant(scene.account, 5, expires_at=scene.till.now + timedelta(hours=1))
    scene.till.now += timedelta(hours=2)
    await scene.till.release(scene.open)
    assert await scene.after() == {}
    breaches = await scene.after("UPDATE credit_grants SET expires_at = expires_at * 2 WHERE amount = 5")
    assert breaches == {"spending": [f"account {scene.account}: entry 6 lets credits lapse before their time"]}


async def test_a_key_with_two_grants_is_found(scene: Scene) -> None:
    """Should the constraint that forbids it ever be lost: a payment that was counted twice."""
    breaches = await scene.after(
        "CREATE TABLE unguarded AS SELECT * FROM credit_grants",
        "ALTER TABLE credit_grants RENAME TO away",
        "ALTER TABLE unguarded RENAME TO credit_grants",
        "UPDATE credit_grants SET key = 'twice'",
    )
    assert breaches == {"keys": [f"account {scene.account}: more than one grant with the key 'twice'"]}


async def test_a_job_with_two_holds_is_found(scene: Scene) -> None:
    """Should the index that forbids it ever be lost: whoever settles one would settle the other with it."""
    breaches = await scene.after("DROP INDEX uq_holds_job", "UPDATE holds SET job_id = 'j' WHERE amount >= 20")
    assert breaches == {"keys": ["route route: more than one hold of the job 'j'"]}


async def test_a_hold_that_took_from_a_spent_grant_is_found(scene: Scene) -> None:
    """A hold has taken from a grant that has something left."""
    nowhere = """UPDATE holds SET taken = '{{"grants":[[4711,20]]}}' WHERE id = {open}"""
    assert await scene.after(nowhere) == {"provenance": ["grant 4711: has 0 left, open holds have taken 20"]}


async def test_a_hold_whose_parts_are_not_its_amount_is_found(scene: Scene) -> None:
    """The provenance of a hold is exact."""
    breaches = await scene.after("""UPDATE holds SET taken = '{{"grants":[]}}' WHERE id = {open}""")
    assert f"hold {id_text(scene.open.hold_id)}: its parts are not its amount" in breaches["provenance"]


async def test_a_hold_that_does_not_say_what_it_took_is_found(scene: Scene) -> None:
    """Whatever stands there instead: a finding like any other, after which everything else is still looked at."""
    breaches = await scene.after("UPDATE holds SET taken = '{{}}' WHERE state <> 'released'")
    assert f"hold {id_text(scene.open.hold_id)}: its parts are not its amount" in breaches["provenance"]
    assert f"account {scene.account}: holds say {{}} instead of their windows" in breaches["windows"]


@pytest.mark.parametrize("metric", ["daily", "monthly"])
async def test_a_changed_window_is_found(scene: Scene, metric: str) -> None:
    """Each window by itself."""
    breaches = await scene.after(f"UPDATE quota_windows SET used = 9 WHERE metric = '{metric}'")
    (breach,) = breaches.pop("windows")
    assert breach.startswith(f"account {scene.account}: {metric} window of 2025-03-")
    assert breach.endswith("used 9, holds 4")
    assert not breaches


@pytest.mark.parametrize(("metric", "cap"), [("daily", 5), ("monthly", 7)])
async def test_a_window_that_has_carried_too_much_is_found(scene: Scene, metric: str, cap: int) -> None:
    """More than the plan version allows that opened it, whatever the one says that was seen in it last."""
    plan = f"UPDATE plan_versions SET {metric}_rollover = {cap}"
    other = "UPDATE quota_windows SET plan_version_id = 999, opened_by = (SELECT min(id) FROM plan_versions)"
    carry = f"UPDATE quota_windows SET carried = {{}} WHERE metric = '{metric}'"
    assert await scene.after(plan, other, carry.format(cap)) == {}
    breaches = await scene.after(plan, other, carry.format(cap + 1))
    day = "10" if metric == "daily" else "01"
    carried = f"{metric} window of 2025-03-{day}: carried {cap + 1}, at most {cap}"
    assert breaches == {"rollover": [f"account {scene.account}: {carried}"]}
    unknown = f"UPDATE quota_windows SET opened_by = 999, carried = 1 WHERE metric = '{metric}'"
    assert "rollover" in await scene.after(unknown)


async def test_a_window_that_was_dropped_too_early_is_found(scene: Scene) -> None:
    """A window with something held in it cannot go."""
    breaches = await scene.after("DELETE FROM quota_windows WHERE metric = 'daily'")
    assert breaches == {"windows": [f"account {scene.account}: daily window of 2025-03-10: missing, holds 2"]}


async def test_a_settled_hold_made_to_look_released_is_found(scene: Scene) -> None:
    """It would be charged and say that it is not."""
    breaches = await scene.after("UPDATE holds SET state = 'released' WHERE id = {settled}")
    assert set(breaches) == {"holds", "usage"}


async def test_an_end_without_a_moment_is_found(scene: Scene) -> None:
    """An open hold has no end, an ended one has."""
    assert set(await scene.after("UPDATE holds SET ended_at = NULL WHERE id = {settled}")) == {"holds"}
    assert set(await scene.after("UPDATE holds SET ended_at = 1 WHERE id = {open}")) == {"holds"}


async def test_an_unknown_state_is_found(scene: Scene) -> None:
    """A state that is not in the table."""
    assert "holds" in await scene.after("UPDATE holds SET state = 'lost' WHERE id = {released}")


async def test_a_hold_settled_above_what_it_took_is_found(scene: Scene) -> None:
    """More than its amount is right only with the parts of the overrun recorded."""
    breaches = await scene.after("UPDATE holds SET settled_amount = 31 WHERE id = {settled}")
    assert breaches["holds"] == [f"hold {id_text(scene.settled.hold_id)}: settled, 31 of 30"]


async def test_a_recorded_overrun_is_right(scene: Scene) -> None:
    """Verification knows the one way to settle for more."""
    await scene.till.settle(scene.open, 45)
    assert await scene.after() == {}


async def test_a_hold_of_nobody_is_found(scene: Scene) -> None:
    """Every hold has an account."""
    breaches = await scene.after("UPDATE holds SET account_id = 123456789 WHERE id = {released}")
    assert set(breaches) == {"holds"}


async def test_a_charge_without_an_entry_is_found(scene: Scene) -> None:
    """A settled hold that was never booked."""
    await scene.till.settled(scene.account, 7, revision=REVISION)
    breaches = await scene.after(
        "DELETE FROM ledger_entries WHERE version = 5",
        "UPDATE credit_grants SET unspent = unspent + 7 WHERE amount = 100",
    )
    assert breaches == {"charges": [f"account {scene.account}: charged 30, usage 37"]}


async def test_an_entry_of_the_wrong_hold_is_found(scene: Scene) -> None:
    """Charges name their hold."""
    breaches = await scene.after("UPDATE ledger_entries SET hold_id = {released} WHERE hold_id = {settled}")
    assert breaches["charges"] == [f"hold {id_text(scene.released.hold_id)}: its entries have other amounts"]
    assert set(breaches) == {"charges", "spending"}


async def test_a_refund_that_the_hold_does_not_know_is_found(scene: Scene) -> None:
    """Otherwise it could be refunded again."""
    breaches = await scene.after("UPDATE holds SET refunded_amount = 0 WHERE id = {settled}")
    assert breaches["charges"] == [f"hold {id_text(scene.settled.hold_id)}: its entries have other amounts"]
    assert set(breaches) == {"charges", "spending"}


async def test_a_missing_usage_event_is_found(scene: Scene) -> None:
    """Every settled hold has one."""
    breaches = await scene.after("DELETE FROM usage_events WHERE id = {settled}")
    assert breaches["usage"] == [f"hold {id_text(scene.settled.hold_id)}"]


async def test_a_usage_event_of_an_unsettled_hold_is_found(scene: Scene) -> None:
    """Only settled holds have one."""
    breaches = await scene.after("UPDATE usage_events SET id = {released} WHERE id = {quota}")
    assert len(breaches["usage"]) == 2


async def test_a_usage_event_without_a_hold_is_found(scene: Scene) -> None:
    """Usage that nobody reserved."""
    breaches = await scene.after("UPDATE usage_events SET id = 123456789 WHERE id = {quota}")
    assert f"usage event {id_text(123456789)}: without a hold" in breaches["usage"]


async def test_a_usage_event_of_another_amount_is_found(scene: Scene) -> None:
    """The sum of usage is the sum of what was settled."""
    breaches = await scene.after("UPDATE usage_events SET charged = charged + 1 WHERE id = {settled}")
    assert set(breaches) == {"usage", "charges"}


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM subscription_events WHERE seq = 1",
        "DELETE FROM subscription_events WHERE seq = 2",
        "DELETE FROM subscription_events WHERE seq = 3",
        "DELETE FROM subscription_events",
        "UPDATE subscription_events SET event = 'lapsed' WHERE seq = 2",
        "UPDATE subscription_events SET event = 'unheard of' WHERE seq = 2",
        "UPDATE subscription_events SET event = 'paid' WHERE seq = 1",
        "UPDATE subscription_events SET plan_version_id = 0 WHERE seq = 3",
        "UPDATE subscription_events SET amount_due = 1 WHERE seq = 3",
        "UPDATE subscription_events SET carried = 1 WHERE seq = 3",
        "UPDATE subscriptions SET carried = 1",
        "UPDATE subscriptions SET status = 'active'",
    ],
)
async def test_a_subscription_that_its_history_does_not_explain_is_found(scene: Scene, statement: str) -> None:
    """The events, applied one by one, lead to the row."""
    (breach,) = (await scene.after(statement))["subscriptions"]
    assert breach.endswith("its events do not lead to its row")


async def test_two_current_subscriptions_are_found(scene: Scene) -> None:
    """Should the index that forbids them ever be lost."""
    columns = "account_id, plan_version_id, created_at, anchor, period_start, period_end, amount_due, grace_s"
    copy = f"INSERT INTO subscriptions ({columns}, status) SELECT {columns}, 'active' FROM subscriptions LIMIT 1"
    breaches = await scene.after("DROP INDEX uq_subscriptions_current", copy, copy)
    assert f"account {scene.account}: more than one is current" in breaches["subscriptions"]


async def test_every_row_is_seen_whatever_the_size_of_a_chunk(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """A breach on either side of a chunk's edge is found once, and everything is counted once."""
    monkeypatch.setattr(store.verify, "ACCOUNTS_AT_ONCE", 2)
    monkeypatch.setattr(store.verify, "ROWS_AT_ONCE", 2)
    accounts = [await till.account(10) for _ in range(5)]
    for account in accounts:
        await till.settled(account, 3)
    checked = {check.name: check.checked for check in await till.database.read(verify)}
    assert (checked["balances"], checked["entries"], checked["holds"], checked["usage"]) == (5, 10, 5, 5)
    breaches = await till.breaches_after("UPDATE credit_grants SET unspent = unspent + 1")
    assert breaches["balances"] == [f"account {account}: grants have 8 left, entries 7" for account in accounts]


async def test_progress_is_told_table_by_table(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """How far it has come, and how far it has to go."""
    monkeypatch.setattr(store.verify, "ACCOUNTS_AT_ONCE", 2)
    for _ in range(3):
        await till.settled(await till.account(10), 3)
    told: list[tuple[str, int, int]] = []
    await till.database.read(verify, lambda *step: told.append(step))
    assert told == [("accounts", 2, 3), ("accounts", 3, 3), ("holds", 3, 3), ("usage_events", 3, 3)]


async def test_a_broken_database_does_not_fill_the_memory(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of breaches ends somewhere."""
    monkeypatch.setattr(store.findings, "MAX_LISTED", 3)
    for _ in range(5):
        await till.account(10)
    breaches = await till.breaches_after("UPDATE credit_grants SET unspent = unspent - 1")
    assert len(breaches["balances"]) == 3

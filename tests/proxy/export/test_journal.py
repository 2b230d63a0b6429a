"""The journal is bookkeeping: every entry balances, every assertion holds, and its sums are those of the ledger."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from decimal import Decimal

import pytest

from policies.terms import AccountId, OnLate, Overrun
from proxy.export.journal import JournalWriter
from store.export import Exported, Selection, export
from store.verbs import GrantCredits, GrantSource
from tests.proxy.export.hledger import Journal, read
from tests.store.till import NOON, QUOTA, Till, terms

pytestmark = pytest.mark.asyncio(loop_scope="session")

DAY = timedelta(days=1)
MICRO = Decimal(1_000_000)


EVERYTHING = Selection()


async def _text(till: Till, selection: Selection = EVERYTHING) -> str:
    writer, parts = JournalWriter(), list[str]()
    await till.database.read(export, Exported.ENTRIES, selection, lambda rows: parts.append(writer.rows(rows)))
    return "".join(parts) + writer.end()


async def _journal(till: Till, selection: Selection = EVERYTHING) -> Journal:
    return read(await _text(till, selection))


async def a_story(till: Till) -> AccountId:
    """Everything that can happen to credits, over several days."""
    account = await till.account()
    for source in GrantSource:
        await till.grant(account, 10, source=source)
    await till.grant(account, 25, expires_at=till.now + DAY, source=GrantSource.PROMO)
    hold = await till.settled(account, 30)
    await till.refund(hold, 12)
    await till.settled(account, 0, quota=2, fundings=QUOTA, terms=terms(5))
    late = await till.hold(account, 7, on_late=OnLate.CHARGE)
    till.now += 2 * DAY
    await till.expire(late)
    await till.settle(late)
    await till.deduct(account, 3)
    await till.settle(await till.hold(account, 5, overrun=Overrun.OVERDRAFT), 1_000_003)
    till.now += DAY
    await till.grant(account, 2_000_000)
    await till.hold(account, 4)
    return account


async def test_a_journal_balances_and_tells_the_ledgers_balance(till: Till) -> None:
    """Every entry once, with its balance asserted; what accounts have is what is owed to them."""
    accounts = [await a_story(till) for _ in range(3)]
    journal = await _journal(till)
    assert len(journal.transactions) == sum([len(await till.entries(account)) for account in accounts])
    assert {transaction.description.split()[0] for transaction in journal.transactions} == {
        "grant", "usage", "overrun", "late", "refund", "expire", "adjust",
    }  # fmt: skip
    for account in accounts:
        balance = await till.balance(account)
        assert journal.balances[f"liabilities:credits:{account}"] * MICRO == -balance.posted
    assert sum(journal.balances.values()) == 0


async def test_every_kind_of_entry_has_its_account(till: Till) -> None:
    """Purchases are assets, gifts are expenses, what was spent is revenue, what lapsed is breakage."""
    account = await a_story(till)
    query = "SELECT e.kind, g.source, e.amount FROM ledger_entries e LEFT JOIN credit_grants g ON g.id = e.grant_id"
    sums: Counter[str] = Counter()
    for row in await till.rows(query):
        sums[f"grant {row['source']}" if row["kind"] == "grant" else row["kind"]] += row["amount"]
    balances = {name: int(value * MICRO) for name, value in (await _journal(till)).balances.items()}
    assert balances == {
        f"liabilities:credits:{account}": -sum(sums.values()),
        "assets:sales": sums["grant purchase"],
        "assets:plans": sums["grant plan"],
        "expenses:bonus": sums["grant bonus"],
        "expenses:promo": sums["grant promo"],
        "expenses:goodwill": sums["grant refund"],
        "equity:adjustments": sums["grant adjust"] + sums["adjust"],
        "revenue:credits": sums["usage"] + sums["overrun"] + sums["late"],
        "revenue:refunds": sums["refund"],
        "revenue:breakage": sums["expire"],
    }
    assert all(sums.values()), "the story has everything"


async def test_a_period_begins_with_what_was_there(till: Till) -> None:
    """And its assertions hold all the same."""
    account = await a_story(till)
    other = await till.account(5)
    whole = await _journal(till)
    days = sorted({transaction.day for transaction in whole.transactions})
    since = NOON.replace(hour=0) + 2 * DAY
    part = await _journal(till, Selection(since=since, until=since + DAY))
    assert {transaction.day for transaction in part.transactions} == {days[1]}
    opening, *rest = part.transactions
    assert (opening.description, opening.postings[1].account) == ("opening balance", "equity:opening")
    assert [one.tags for one in rest] == [one.tags for one in whole.transactions if one.day == days[1]]
    assert f"liabilities:credits:{other}" not in part.accounts
    one = await _journal(till, Selection(account_id=account))
    assert one.balances[f"liabilities:credits:{account}"] == whole.balances[f"liabilities:credits:{account}"]


async def test_a_clock_that_was_set_back_does_not_mix_up_the_days(till: Till) -> None:
    """Entries stay in the order in which they happened; the moment of the clock is in the tags."""
    hold = await till.hold(await till.account(100), 30)
    till.now -= 3 * DAY
    await till.settle(hold)
    first, second = (await _journal(till)).transactions
    assert first.day == second.day
    assert second.tags["at"].startswith("2025-03-07T12:00:00")


@pytest.mark.parametrize("description", ["; not a comment", "a\nb", "(code) | note", "* !", "ünïcödé 🪙", " ", "="])
async def test_no_description_breaks_the_journal(till: Till, description: str) -> None:
    """Whatever an operator has written."""
    account = await till.account()
    await till.run(GrantCredits(1, account, 5, GrantSource.BONUS, "key", description))
    (transaction,) = (await _journal(till)).transactions
    assert transaction.tags["entry"] == "1"


async def test_an_empty_ledger_is_a_journal(till: Till) -> None:
    """With the accounts that there will be."""
    journal = await _journal(till)
    assert (journal.transactions, "revenue:credits" in journal.accounts) == ([], True)


async def test_an_entry_that_was_changed_by_hand_is_seen_by_the_reader(till: Till) -> None:
    """The judge is one: a balance that does not follow, or an amount that is booked on one side only, fails."""
    await till.settled(await till.account(100), 30)
    text = await _text(till)
    read(text)
    for old, new in (
        ("= -0.000070 credits", "= -0.000071 credits"),
        ("  -0.000030 credits\n", "  -0.000031 credits\n"),
    ):
        assert text.count(old) == 1
        with pytest.raises(AssertionError):
            read(text.replace(old, new))


async def test_chunks_leave_no_seam(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal is the same whatever the size of a chunk."""
    for _ in range(2):
        await a_story(till)
    whole = await _text(till)
    monkeypatch.setattr("store.export.ROWS_AT_ONCE", 3)
    assert await _text(till) == whole

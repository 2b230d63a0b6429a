"""The ledger as CSV and JSON: exact, complete, of one moment, and harmless in a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.pricing import exact_credits, to_micro
from policies.terms import MAX_AMOUNT
from proxy.export.tables import FORMULA, CsvWriter, JsonWriter
from store.export import Exported, Selection, export
from store.ids import id_text
from store.verbs import GrantCredits, GrantSource, Usage
from tests.proxy.export.test_journal import a_story
from tests.store.till import NOON, QUOTA, Till, terms

STORY = pytest.mark.asyncio(loop_scope="session")
EVERYTHING = Selection()


async def _csv(till: Till, what: Exported, selection: Selection = EVERYTHING) -> list[dict[str, str]]:
    text = await _text(till, CsvWriter(what), what, selection)
    return list(csv.DictReader(io.StringIO(text, newline="")))


async def _json(till: Till, what: Exported) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(await _text(till, JsonWriter(what), what, EVERYTHING))
    return found


async def _text(till: Till, writer: CsvWriter | JsonWriter, what: Exported, selection: Selection) -> str:
    parts: list[str] = []
    await till.database.read(export, what, selection, lambda rows: parts.append(writer.rows(rows)))
    return "".join(parts) + writer.end()


@given(st.integers(-MAX_AMOUNT * 1000, MAX_AMOUNT * 1000))
def test_credits_are_exact(micro: int) -> None:
    """All six decimals, for amounts far beyond what a float holds."""
    text = format(exact_credits(micro), "f")
    whole, _, decimals = text.partition(".")
    assert len(decimals) == 6
    assert int(whole + decimals) == micro
    if abs(micro) <= MAX_AMOUNT:
        assert to_micro(exact_credits(micro)) == micro


@STORY
async def test_entries_are_what_the_ledger_says(till: Till) -> None:
    """Row by row, in both formats; in JSON amounts are texts, so that no reader makes floats of them."""
    account = await a_story(till)
    told = [(row["kind"], row["credits"], row["balance"]) for row in await _csv(till, Exported.ENTRIES)]
    assert told == [
        (kind, format(exact_credits(amount), "f"), format(exact_credits(balance), "f"))
        for kind, amount, balance in await till.entries(account)
    ]
    assert [(row["kind"], row["credits"], row["balance"]) for row in await _json(till, Exported.ENTRIES)] == told
    first = (await _json(till, Exported.ENTRIES))[0]
    assert first == {
        "account": account,
        "entry": 1,
        "at": "2025-03-10T12:00:00.000Z",
        "kind": "grant",
        "source": "purchase",
        "credits": "0.000010",
        "balance": "0.000010",
        "hold": None,
        "grant": first["grant"],
        "description": "top-up",
    }


@STORY
async def test_grants_add_up_to_the_balance(till: Till) -> None:
    """What is left and held of each, less what is owed."""
    account = await a_story(till)
    rows = await _csv(till, Exported.GRANTS)
    left = sum(int(row[name].replace(".", "")) for row in rows for name in ("remaining", "held"))
    assert left == (await till.balance(account)).posted
    assert {row["source"] for row in rows} == set(GrantSource)


@STORY
async def test_holds_and_usage_are_told_in_what_they_are_made_of(till: Till) -> None:
    """Credits with six decimals, quota as whole units; a hold and its usage have one id."""
    account = await till.account(100)
    by_credits = await till.settled(account, 30)
    await till.refund(by_credits, 10)
    by_quota = await till.hold(account, quota=3, fundings=QUOTA, terms=terms(5))
    await till.settle(by_quota, usage=Usage({"seconds": "4"}, True, 200, 12))
    holds, usage = await _csv(till, Exported.HOLDS), await _csv(till, Exported.USAGE)
    assert [(row["funding"], row["reserved"], row["charged"], row["refunded"]) for row in holds] == [
        ("credits", "0.000030", "0.000030", "0.000010"),
        ("quota", "3", "3", "0"),
    ]
    assert [(row["request"], row["charged"], row["refunded"], row["estimated"]) for row in usage] == [
        (id_text(by_credits.hold_id), "0.000030", "0.000010", "false"),
        (id_text(by_quota.hold_id), "3", "0", "true"),
    ]
    assert usage[1]["units"] == '{"seconds": "4"}'
    assert [row["units"] for row in await _json(till, Exported.USAGE)] == [{}, {"seconds": "4"}]


@STORY
async def test_a_selection_is_of_one_account_and_of_one_period(till: Till) -> None:
    """From the first moment on, and before the second; every table."""
    accounts = [await till.account(100) for _ in range(2)]
    for _ in range(3):
        for account in accounts:
            await till.grant(account, 5)
            await till.settled(account, 10)
        till.now += timedelta(days=1)
    for what, each in ((Exported.HOLDS, 3), (Exported.USAGE, 3), (Exported.GRANTS, 4), (Exported.ENTRIES, 7)):
        assert len(await _csv(till, what)) == 2 * each
        one = await _csv(till, what, Selection(account_id=accounts[1]))
        assert ({row["account"] for row in one}, len(one)) == ({str(accounts[1])}, each)
        second = Selection(None, NOON + timedelta(days=1), NOON + timedelta(days=2))
        assert len(await _csv(till, what, second)) == (4 if what is Exported.ENTRIES else 2)


@STORY
@pytest.mark.parametrize("what", list(Exported))
async def test_an_empty_table_is_one(till: Till, what: Exported) -> None:
    """A header without rows, an array without objects."""
    text = await _text(till, CsvWriter(what), what, EVERYTHING)
    assert text.count("\n") == 1
    assert '"account"' in text.split(",")
    assert await _json(till, what) == []


@STORY
@pytest.mark.parametrize("what", list(Exported))
async def test_chunks_leave_no_seam(till: Till, what: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row once, whatever the size of a chunk; and how far it has come is told."""
    for _ in range(2):
        await a_story(till)
    whole = await _csv(till, what)
    monkeypatch.setattr("store.export.ROWS_AT_ONCE", 2)
    assert await _csv(till, what) == whole
    told: list[tuple[str, int, int]] = []
    await till.database.read(export, what, EVERYTHING, lambda rows: None, lambda *step: told.append(step))
    assert [done for _, done, _ in told] == [*range(2, len(whole) + 1, 2)] + [len(whole)] * (len(whole) % 2)
    assert {(table, total) for table, _, total in told} == {(what, len(whole))}


@STORY
@pytest.mark.parametrize("first", FORMULA)
async def test_a02_a_text_is_never_a_formula(till: Till, first: str) -> None:
    """Descriptions come from strangers: a spreadsheet must not run them; amounts stay numbers."""
    account, text = await till.account(), f"{first}cmd|' /C calc'!A0"
    await till.run(GrantCredits(1, account, 5, GrantSource.BONUS, "key", text))
    await till.deduct(account, 2)
    rows = await _csv(till, Exported.ENTRIES)
    assert rows[0]["description"] == f"'{text}"
    assert rows[1]["credits"] == "-0.000002"
    assert (await _json(till, Exported.ENTRIES))[0]["description"] == text


@STORY
@pytest.mark.parametrize("text", ['a "quoted", text', "two\nlines", "a\rb", "ünïcödé 🪙", " ", "'"])
async def test_a_text_comes_out_as_it_went_in(till: Till, text: str) -> None:
    """Quotes, commas and line ends are those of RFC 4180."""
    account = await till.account()
    await till.run(GrantCredits(1, account, 5, GrantSource.BONUS, "key", text))
    assert (await _csv(till, Exported.ENTRIES))[0]["description"] == text
    assert (await _json(till, Exported.ENTRIES))[0]["description"] == text

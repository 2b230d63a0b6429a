"""Verification stays exact when rows have left: what was archived is known, and what is missing besides is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.clock import utc_now
from store.ids import id_text
from tests.archive.archives import FEBRUARY, MARCH, archive, used_account
from tests.store.till import Till
from tests.store.usages import use

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def _archived(till: Till, folder: Path) -> int:
    """An account with February in an archive, a refund among it, and March and April still here."""
    account = await used_account(till)
    hold = await use(till, account, FEBRUARY, "a:0", 50, funding="credits")
    await till.refund(hold, 20)
    await archive(till.database, folder, before=MARCH)
    return account


async def test_what_was_archived_breaks_no_law(till: Till, tmp_path: Path) -> None:
    """Its entries are still here, without their holds."""
    account = await _archived(till, tmp_path)
    await till.check()
    (row,) = await till.rows("SELECT * FROM archived_usage WHERE funding = 'credits'")
    assert row == {"account_id": account, "funding": "credits", "calls": 3, "charges": 2, "charged": 52, "refunded": 20}


@pytest.mark.parametrize("column", ["charges", "charged", "refunded"])
async def test_archived_sums_that_were_changed_are_found(till: Till, tmp_path: Path, column: str) -> None:
    """They are compared with the entries whose hold is not here."""
    account = await _archived(till, tmp_path)
    breaches = await till.breaches_after(f"UPDATE archived_usage SET {column} = {column} + 1")
    assert any(what.startswith(f"account {account}: charges, charged and") for what in breaches["charges"])


async def test_a_hold_that_is_missing_and_was_not_archived_is_found(till: Till, tmp_path: Path) -> None:
    """Older than the archives it is missing in the sums; younger, it is named."""
    account = await _archived(till, tmp_path)
    old, young = [
        await use(till, account, at, "a:0", 7, funding="credits", after=utc_now() - at) for at in (FEBRUARY, MARCH)
    ]
    for hold in (old, young):
        gone = (f"DELETE FROM {table} WHERE id = {hold.hold_id}" for table in ("holds", "usage_events"))
        breaches = await till.breaches_after(*gone)
        sums = f"account {account}: charges, charged and refunded (3, 59, 20) without a hold, archived (2, 52, 20)"
        assert sums in breaches["charges"]
        named = f"hold {id_text(hold.hold_id)}: it has entries, and is neither here nor archived"
        assert (named in breaches["charges"]) == (hold is young)


async def test_sums_by_day_that_were_changed_are_found(till: Till, tmp_path: Path) -> None:
    """Of an account, and of everybody together."""
    account = await _archived(till, tmp_path)
    change = "UPDATE usage_daily SET charged = charged + 5 WHERE funding = 'quota' AND account_id"
    both = await till.breaches_after(f"{change} >= 0")
    wrong = f"account {account}: quota usage by day lacks charged -30"
    assert both == {"rollup": [wrong]}
    one = await till.breaches_after(f"{change} = {account}")
    assert wrong in one["rollup"]
    everybody = await till.breaches_after(f"{change} = 0")
    assert everybody["rollup"][0] == "2025-02-08: quota usage of a:1 by all is not that of each account"


async def test_a_row_that_was_archived_without_being_counted_is_found(till: Till, tmp_path: Path) -> None:
    """The roll-up would lack it for ever."""
    account = await _archived(till, tmp_path)
    breaches = await till.breaches_after(
        f"DELETE FROM usage_daily WHERE account_id IN (0, {account}) AND model_key = 'a:0'"
    )
    assert breaches == {
        "rollup": [f"account {account}: credits usage by day lacks calls +7, charged +80, refunded +20"]
    }

"""The decision log as it is stored."""

from __future__ import annotations

import pytest

from store import decisions
from store.decisions import Row
from tests.store.till import NOON, Till

pytestmark = pytest.mark.asyncio(loop_scope="session")


def row(number: int, rule: str) -> Row:
    details = {"ask": {"model": "tässä:1", "units": {"images": "1"}}, "held": None}
    plain = {"code": None, "revision": "r1", "model_key": "chat:one", "route_id": "chat", "details": details}
    return {"id": number, "account_id": 7, "at": NOON, "allowed": True, "rule": rule, **plain}


async def test_what_is_written_is_found(till: Till) -> None:
    rows = [row(number, "first") for number in range(1, 200)]
    await till.database.write(decisions.write, rows)
    assert await till.database.read(decisions.page, limit=500) == rows[::-1]


async def test_a_request_that_is_decided_anew_keeps_its_last_row(till: Till) -> None:
    """Whether both decisions are written at once or one after the other."""
    await till.database.write(decisions.write, [row(1, "old"), row(2, "other"), row(1, "new")])
    await till.database.write(decisions.write, [row(2, "newer")])
    assert [found["rule"] for found in await till.database.read(decisions.page, limit=9)] == ["newer", "new"]

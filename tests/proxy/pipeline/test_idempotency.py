"""The right to act for an idempotency key is certain for a part of its patience only: then another may take it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import cast

import pytest

from policies.terms import AccountId, HoldId
from proxy.pipeline.idempotency import Keeper, Watching
from proxy.pipeline.metering import JsonReader
from proxy.services import Services
from store.idempotency import Claim


def keeper(patience: timedelta) -> Keeper:
    claim = Claim(AccountId(1), "key", "same", HoldId(1), timedelta(days=1), patience)
    return Keeper(cast(Services, None), claim)


@pytest.mark.parametrize(("waited_s", "in_time"), [(0, True), (89, True), (91, False), (100, False)])
async def test_who_was_too_slow_gives_the_key_up(waited_s: int, in_time: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before others may take it, by the event loop's clock, which nobody sets back; then nothing is forwarded."""
    claimed, loop = keeper(timedelta(seconds=100)), asyncio.get_running_loop()
    now = loop.time() + waited_s
    with monkeypatch.context() as later:
        later.setattr(loop, "time", lambda: now)
        assert claimed.in_time is in_time


@pytest.mark.parametrize(("size", "kept"), [(0, True), (9, True), (10, True), (11, False), (1000, False)])
@pytest.mark.parametrize("piece", [1, 3, 1000])
def test_what_passes_is_remembered_up_to_a_bound(size: int, piece: int, kept: bool) -> None:
    """All of it or nothing, however it is cut; and the reader behind it sees everything."""
    body = (b'{"a": 1}' + b" " * size)[:size]
    reader = JsonReader(2000)
    watching = Watching(reader, 10)
    for at in range(0, size, piece):
        watching.feed(body[at : at + piece])
    assert watching.body == (body if kept else None)
    assert watching.documents() == reader.documents()
    assert bool(watching.documents()) == (size >= 8)

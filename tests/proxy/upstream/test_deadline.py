"""A deadline that moves: late exactly when nothing moved it, and never before. The loop's clock is the test's."""

from __future__ import annotations

import asyncio
from math import inf

import pytest

from proxy.upstream.deadline import Deadline


class Watch:
    """Counts how often a deadline comes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.loop = asyncio.get_running_loop()
        self.came = 0
        self.now = self.loop.time()
        monkeypatch.setattr(self.loop, "time", lambda: self.now)
        self.deadline = Deadline(self._late)

    def _late(self) -> None:
        self.came += 1

    async def pass_(self, seconds: float) -> None:
        self.now += seconds
        for _ in range(3):
            await asyncio.sleep(0)


@pytest.fixture
async def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    return Watch(monkeypatch)


async def test_it_comes_once_when_nothing_moves_it(watch: Watch) -> None:
    """After its time, and not again."""
    watch.deadline.wait(10)
    await watch.pass_(9)
    assert watch.came == 0
    await watch.pass_(2)
    await watch.pass_(100)
    assert watch.came == 1


async def test_it_does_not_come_while_it_is_moved(watch: Watch) -> None:
    """Each piece gives it its whole time again; and it can be moved to an earlier moment."""
    for _ in range(10):
        watch.deadline.wait(10)
        await watch.pass_(9)
    assert watch.came == 0
    watch.deadline.wait(2)
    await watch.pass_(3)
    assert watch.came == 1


async def test_moving_it_sets_no_timer(watch: Watch) -> None:
    """A thousand pieces take one timer of the loop."""
    before = len(watch.loop._scheduled)  # type: ignore[attr-defined]
    for _ in range(1000):
        watch.deadline.wait(10)
        watch.now += 0.001
    assert len(watch.loop._scheduled) == before + 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("seconds", [100.0, inf])
async def test_nothing_goes_beyond_the_cut(watch: Watch, seconds: float) -> None:
    """Whatever is waited for, and also when nothing is."""
    watch.deadline.cut_at = watch.now + 10
    watch.deadline.wait(seconds)
    await watch.pass_(9)
    assert (watch.came, watch.deadline.is_cut) == (0, False)
    await watch.pass_(2)
    assert (watch.came, watch.deadline.is_cut) == (1, True)


@pytest.mark.parametrize("how", ["stop", "close"])
async def test_what_was_stopped_does_not_come(watch: Watch, how: str) -> None:
    """Though the timer may fire; afterwards it can be used again."""
    watch.deadline.wait(10)
    getattr(watch.deadline, how)()
    await watch.pass_(20)
    assert watch.came == 0
    watch.deadline.wait(10)
    await watch.pass_(11)
    assert watch.came == 1

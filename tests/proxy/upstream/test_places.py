"""So many at once and no more; the others wait in line, fairly, and not for ever."""

from __future__ import annotations

import asyncio

import pytest

from proxy.upstream.exchange import UpstreamBusy
from proxy.upstream.places import Places


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


def waiting(places: Places, count: int) -> list[asyncio.Task[None]]:
    return [asyncio.create_task(places.take()) for _ in range(count)]


async def test_a_place_goes_to_who_waits_longest() -> None:
    """First come, first served; nobody overtakes the line."""
    places = Places("x", 1, 10, 10)
    await places.take()
    tasks = waiting(places, 3)
    await settle()
    for index in range(3):
        places.give_back()
        await settle()
        assert [task.done() for task in tasks] == [number <= index for number in range(3)]


async def test_a_line_has_an_end() -> None:
    """One more than the line holds is refused at once; where there is no line, everybody is."""
    places = Places("x", 1, 2, 10)
    await places.take()
    tasks = waiting(places, 2)
    await settle()
    with pytest.raises(UpstreamBusy, match="2 requests wait"):
        await places.take()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert places.waiting == 0
    none = Places("x", 1, 0, 10)
    await none.take()
    with pytest.raises(UpstreamBusy):
        await none.take()


async def test_nobody_waits_for_ever() -> None:
    """After the time-out the place in line is given up, and the line is shorter."""
    places = Places("x", 1, 10, 0.01)
    await places.take()
    with pytest.raises(UpstreamBusy, match=r"within 0\.01 s"):
        await places.take()
    assert places.waiting == 0
    places.give_back()
    await places.take()


async def test_who_leaves_the_line_takes_no_place() -> None:
    """Also when the place comes at the very moment of leaving: it goes to the next one then."""
    places = Places("x", 1, 10, 10)
    await places.take()
    leaving, staying = waiting(places, 2)
    await settle()
    places.give_back()
    leaving.cancel()
    await settle()
    assert leaving.cancelled()
    assert staying.done()
    assert not staying.cancelled()
    places.give_back()
    await asyncio.wait_for(places.take(), 1)


async def test_places_are_neither_lost_nor_made() -> None:
    """Whoever comes, waits, leaves or is cut off: never more than `size` at once, and in the end all are free."""
    places, inside, most = Places("x", 3, 20, 0.005), 0, 0

    async def visit(number: int) -> None:
        nonlocal inside, most
        await places.take()
        inside += 1
        most = max(most, inside)
        try:
            await asyncio.sleep(number % 3 / 1000)
        finally:
            inside -= 1
            places.give_back()

    for round_ in range(20):
        tasks = [asyncio.create_task(visit(number)) for number in range(30)]
        await settle()
        for task in tasks[round_ % 4 :: 4]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert (most, inside, places.waiting, places._free) == (3, 0, 0, 3)

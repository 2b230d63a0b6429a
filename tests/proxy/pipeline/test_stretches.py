"""What a conversation consumes: no message passes that its stretch does not pay for, and each usage is told once."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from config.extractors import UsageSource
from config.routes import WebSocket
from proxy.pipeline.stretches import Stretch, stretch_units
from proxy.pipeline.usage import wanted_of

SOURCES = {name: UsageSource.model_validate({"json": f"/usage/{name}"}) for name in ("tokens", "images")}
WANTED = wanted_of(SOURCES)


def messages(block: int, counted: str = "client") -> Stretch:
    return Stretch(WebSocket.model_validate({"charge": "messages", "block": block, "counted": counted}), ())


def usage(counted: str = "client") -> Stretch:
    return Stretch(WebSocket.model_validate({"charge": "usage", "counted": counted}), WANTED)


async def test_a_block_is_as_many_messages_as_have_begun() -> None:
    """Those of both sides that are under way at once have their place taken, though none has ended."""
    stretch = messages(3, "both")
    assert [stretch.may_begin(side) for side in ("client", "backend", "client")] == [True] * 3
    assert not stretch.may_begin("backend")
    assert not stretch.over.is_set()
    for side in ("client", "client", "backend"):
        assert not stretch.ended(side, None)
    assert (stretch.over.is_set(), stretch.count) == (True, 3)


async def test_what_is_not_counted_always_passes() -> None:
    """Also when nothing is left, and between two stretches."""
    stretch = messages(1)
    assert stretch.may_begin("client")
    stretch.ended("client", None)
    stretch.close()
    assert stretch.may_begin("backend")
    stretch.ended("backend", None)
    assert not stretch.may_begin("client")


async def test_nothing_that_counts_passes_between_two_stretches() -> None:
    """Also where the last one had room left."""
    for stretch in (messages(3), usage()):
        stretch.close()
        assert not stretch.may_begin("client")
        assert stretch.may_begin("backend")
        stretch.open()
        assert stretch.may_begin("client")


async def test_who_waits_goes_on_with_the_next_stretch() -> None:
    """One message for each that is paid for, in whichever order they wait."""
    stretch = messages(1, "both")
    passed: list[str] = []

    async def wait(side: str) -> None:
        await stretch.turn(side)  # type: ignore[arg-type]
        passed.append(side)

    assert stretch.may_begin("client")
    waiting = [asyncio.create_task(wait(side)) for side in ("client", "backend")]
    await asyncio.sleep(0)
    assert stretch.needed.is_set()
    for count in (1, 2):
        stretch.ended("client", None)
        assert stretch.over.is_set()
        stretch.close()
        stretch.open()
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(passed) == count
    await asyncio.gather(*waiting)


async def test_a_usage_ends_its_stretch() -> None:
    """Its last bytes wait until it is settled; and then it is forgotten."""
    stretch = usage()
    assert stretch.may_begin("client")
    assert stretch.busy
    assert stretch.ended("backend", b'{"usage": {"tokens": 5, "images": 1.5}}')
    assert stretch.stated == {"tokens": Decimal(5), "images": Decimal("1.5")}
    assert stretch.over.is_set()
    assert not stretch.may_begin("client")
    settled = asyncio.create_task(stretch.settled())
    await asyncio.sleep(0)
    assert not settled.done()
    stretch.close()
    await settled
    assert not stretch.was_stated


async def test_a_usage_without_a_stretch_asks_for_one() -> None:
    """And is what that one costs, from its first moment."""
    stretch = usage()
    stretch.ended("backend", b'{"usage": {"tokens": 5, "images": 1}}')
    stretch.close()
    assert not stretch.needed.is_set()
    assert stretch.ended("backend", b'{"usage": {"tokens": 7, "images": 1}}')
    assert stretch.needed.is_set()
    stretch.open()
    assert stretch.over.is_set()
    assert stretch.stated == {"tokens": Decimal(7), "images": Decimal(1)}


@pytest.mark.parametrize(
    "text",
    [b"", b"hi", b"{}", b"null", b'{"usage": null}', b'{"usage": {}}', b'{"usage": {"tokens": null}}', b'["usage"]'],
)
async def test_what_states_nothing_is_no_usage(text: bytes) -> None:
    """It passes at once; nor is a usage what the client says."""
    stretch = usage()
    assert not stretch.ended("backend", text)
    assert not stretch.ended("backend", None)
    assert not stretch.ended("client", b'{"usage": {"tokens": 5, "images": 1}}')
    assert not stretch.over.is_set()


@pytest.mark.parametrize(
    "text",
    [
        b'{"usage": {"tokens": 5}}',
        b'{"usage": {"tokens": -5, "images": 1}}',
        b'{"usage": {"tokens": "5", "images": 1}}',
        b'{"usage": {"tokens": true, "images": 1}}',
        b'{"usage": {"tokens": 1e40, "images": 1}}',
    ],
)
async def test_a_usage_that_nobody_can_believe(text: bytes) -> None:
    """Ends its stretch too, without a number: the quote counts then."""
    stretch = usage()
    assert stretch.ended("backend", text)
    assert (stretch.was_stated, stretch.stated) == (True, None)


def test_what_a_stretch_is_quoted_for() -> None:
    """Its block of messages, and otherwise what the request says."""
    assert stretch_units(None) == stretch_units(WebSocket()) == {}
    assert stretch_units(WebSocket(charge="messages", block=7)) == {"messages": Decimal(7)}


def test_who_pays_for_what_was_stated_last() -> None:
    """A conversation goes on while both talk, and for a usage that was stated, though its client has left."""
    stretch = usage()
    assert stretch.goes_on(talking=True)
    assert not stretch.goes_on(talking=False)
    stretch.ended("backend", b'{"usage": {"tokens": 5, "images": 1}}')
    assert stretch.goes_on(talking=True)
    assert stretch.goes_on(talking=False)
    stretch.close()
    assert not stretch.goes_on(talking=False)


def test_a_usage_beside_a_text_that_was_missed() -> None:
    """It may not be all: what is no amount, or less than the quote, then is not; the quote itself is."""
    stretch = usage()
    assert stretch.is_all(0, 10)
    assert stretch.is_all(None, 10)
    stretch.missed()
    assert [stretch.is_all(amount, 10) for amount in (None, 0, 9, 10, 11)] == [False, False, False, True, True]
    assert stretch.is_all(None, 0), "what costs nothing cannot cost more"
    stretch.close()
    assert stretch.is_all(0, 10), "the next stretch begins anew"


def test_a_message_is_cut_between_its_beginning_and_its_end() -> None:
    """As many as have begun and are not whole; what pays by usage counts none."""
    stretch = messages(3, "both")
    assert stretch.cut == 0
    for begun, side in enumerate(("client", "backend"), start=1):
        assert stretch.may_begin(side)  # type: ignore[arg-type]
        assert stretch.cut == begun
    stretch.ended("backend", None)
    assert (stretch.cut, stretch.count) == (1, 1)
    stretch.ended("client", None)
    assert (stretch.cut, stretch.count) == (0, 2)
    other = usage()
    assert other.may_begin("client")
    assert other.cut == 0

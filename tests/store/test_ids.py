"""Ids: growing with time, never the same twice, and readable."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.ids import IdGenerator, first_id_at, id_text, parse_id

MOMENT = datetime(2025, 3, 10, 12, 0, tzinfo=UTC)
LARGEST = (1 << 63) - 1


class Clock:
    def __init__(self) -> None:
        self.now = MOMENT

    def __call__(self) -> datetime:
        return self.now


@given(st.lists(st.integers(-5000, 5000), max_size=20), st.integers(1, 30))
def test_ids_of_a_process_grow_whatever_its_clock_does(steps_ms: list[int], each: int) -> None:
    """Forwards, backwards or standing still: every id is above the one before."""
    clock = Clock()
    ids = IdGenerator(3, clock)
    made = []
    for step in [0, *steps_ms]:
        clock.now += timedelta(milliseconds=step)
        made += [ids.next() for _ in range(each)]
    assert made == sorted(set(made))


def test_more_ids_than_a_millisecond_has_borrow_from_the_next() -> None:
    """Ten thousand ids in one moment are ten thousand ids."""
    ids = IdGenerator(3, Clock())
    made = [ids.next() for _ in range(10_000)]
    assert made == sorted(set(made))


def test_processes_do_not_share_ids() -> None:
    """Two processes at the same moment, with the numbers that the database gave them."""
    one, other = IdGenerator(1, Clock()), IdGenerator(2, Clock())
    assert not {one.next() for _ in range(100)} & {other.next() for _ in range(100)}


def test_an_id_fits_a_signed_64_bit_integer() -> None:
    """Until the year 2093, in the last process."""
    ids = IdGenerator(1023, lambda: datetime(2093, 1, 1, tzinfo=UTC))
    assert 0 < ids.next() <= LARGEST


def test_a_clock_before_the_first_id_still_gives_ids() -> None:
    """A machine that starts in 1970 serves requests."""
    ids = IdGenerator(3, lambda: datetime(1970, 1, 1, tzinfo=UTC))
    assert 0 <= ids.next() < ids.next()


def test_ids_are_cut_by_time() -> None:
    """The first id of a moment separates what was before from what comes after."""
    clock = Clock()
    ids = IdGenerator(1023, clock)
    before = ids.next()
    clock.now += timedelta(milliseconds=1)
    cut = first_id_at(clock.now)
    assert before < cut <= ids.next()


@given(st.integers(0, LARGEST), st.integers(0, LARGEST))
def test_texts_sort_like_ids_and_lead_back_to_them(one: int, other: int) -> None:
    """Also in small letters."""
    assert (id_text(one) < id_text(other)) == (one < other)
    assert parse_id(id_text(one)) == parse_id(id_text(one).lower()) == one


@pytest.mark.parametrize(
    "text", ["", "0", "0" * 12, "0" * 14, "U" * 13, "-" * 13, " " * 13, "ZZZZZZZZZZZZZ", "ſ" + "0" * 12, "ß" + "0" * 12]
)
def test_what_is_not_an_id_is_none(text: str) -> None:
    """Too short, too long, too large, or of other characters."""
    assert parse_id(text) is None


@given(st.text(max_size=20))
def test_any_text_is_an_id_or_none(text: str) -> None:
    """What parses is written the same way again."""
    parsed = parse_id(text)
    assert parsed is None or id_text(parsed) == text.upper()

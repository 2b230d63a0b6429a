"""The order in which grants are spent: a total order, by the criteria that settings name."""

from __future__ import annotations

import typing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.credits import Credits
from config.credits import SpendBy as Named
from policies.spending import DEFAULT_ORDER, GIVEN_BEFORE_BOUGHT, SpendBy, order_of, spend_key
from store.verbs import GrantSource

DAY = datetime(2026, 1, 15, tzinfo=UTC)


@dataclass(frozen=True)
class Grant:
    id: int
    priority: int = 100
    expires_at: datetime | None = None
    source: str = "purchase"


def _order(*grants: Grant, by: tuple[SpendBy, ...] = DEFAULT_ORDER) -> list[int]:
    return [grant.id for grant in sorted(grants, key=spend_key(by))]


def test_the_lowest_number_comes_first() -> None:
    """Whatever lapses sooner, was given, or is older."""
    gift = Grant(1, priority=2, expires_at=DAY, source="promo")
    assert _order(gift, Grant(2, priority=1)) == [2, 1]


def test_what_lapses_soonest_comes_first() -> None:
    """Before what was given, since nobody should lose what they have bought; what never lapses comes last."""
    soon, later, never = Grant(3, expires_at=DAY), Grant(2, expires_at=DAY + timedelta(days=1)), Grant(1, source="plan")
    assert _order(never, later, soon) == [3, 2, 1]


def test_what_was_given_comes_before_what_was_bought() -> None:
    """So that what is left longest is what can be refunded as money."""
    grants = [Grant(number, source=source) for number, source in enumerate(reversed(GIVEN_BEFORE_BOUGHT))]
    assert _order(*grants) == [5, 4, 3, 2, 1, 0]
    assert _order(Grant(1, source="purchase"), Grant(2, source="bonus")) == [2, 1]


def test_the_oldest_comes_first_of_equals() -> None:
    """Ids grow with time."""
    assert _order(Grant(2), Grant(3), Grant(1)) == [1, 2, 3]


def test_settings_may_name_another_order() -> None:
    """Gifts before everything that is bought, even before what lapses; what is not named is not looked at."""
    bought, gift = Grant(1, expires_at=DAY), Grant(2, priority=200, source="promo")
    assert _order(bought, gift) == [1, 2]
    assert _order(bought, gift, by=(SpendBy.SOURCE,)) == [2, 1]
    assert _order(bought, gift, by=order_of(["source", "priority", "expiry"])) == [2, 1]
    assert _order(Grant(2, priority=1), Grant(1, priority=2), by=(SpendBy.EXPIRY,)) == [1, 2]


def test_the_settings_name_what_there_is() -> None:
    """The same names and the same default, in two rooms that do not know each other."""
    assert set(typing.get_args(Named)) == set(SpendBy)
    assert order_of(Credits().spend_order) == DEFAULT_ORDER


def test_every_source_has_its_place() -> None:
    """A source that is missing could not be compared."""
    assert set(GIVEN_BEFORE_BOUGHT) == set(GrantSource)
    assert len(GIVEN_BEFORE_BOUGHT) == len(GrantSource)


GRANTS = st.builds(
    Grant,
    id=st.integers(1, 9),
    priority=st.integers(0, 2),
    expires_at=st.none() | st.integers(0, 2).map(lambda days: DAY + timedelta(days=days)),
    source=st.sampled_from(GIVEN_BEFORE_BOUGHT),
)


@pytest.mark.parametrize("by", [DEFAULT_ORDER, (SpendBy.SOURCE,), (SpendBy.SOURCE, SpendBy.EXPIRY, SpendBy.PRIORITY)])
@given(grants=st.lists(GRANTS, max_size=8, unique_by=lambda grant: grant.id), seed=st.randoms())
def test_the_order_of_arrival_does_not_matter(by: tuple[SpendBy, ...], grants: list[Grant], seed: object) -> None:
    """However the database returns them, every process spends the same credits first."""
    shuffled = list(grants)
    seed.shuffle(shuffled)  # type: ignore[attr-defined]
    assert _order(*shuffled, by=by) == _order(*grants, by=by)

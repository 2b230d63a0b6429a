"""Which target a request goes to: the least busy that can be reached, and never none."""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.upstream.standing import EJECT_AFTER, LONGEST_PAUSE_S, Standing, in_order


@dataclass
class Place:
    name: str
    outstanding: int = 0
    standing: Standing = field(default_factory=Standing)


def names(places: list[Place], turn: int = 0, now: float = 100.0) -> list[str]:
    return [place.name for place in in_order(places, turn, now)]


def failing(times: int, now: float = 100.0) -> Standing:
    standing = Standing()
    for _ in range(times):
        standing.failed(now)
    return standing


def test_the_least_busy_comes_first() -> None:
    """And where two are as busy, they take turns."""
    assert names([Place("a", 2), Place("b", 1), Place("c", 3)]) == ["b", "a", "c"]
    equal = [Place("a"), Place("b"), Place("c")]
    assert [names(equal, turn)[0] for turn in range(6)] == ["a", "b", "c", "a", "b", "c"]


def test_a_few_failures_in_a_row_eject() -> None:
    """Fewer do not, nor do failures with a success between them."""
    assert not failing(EJECT_AFTER - 1).is_out(100.0)
    assert failing(EJECT_AFTER).is_out(100.0)
    standing = failing(EJECT_AFTER - 1)
    standing.succeeded()
    standing.failed(100.0)
    assert not standing.is_out(100.0)


def test_a_target_that_is_out_comes_last() -> None:
    """However busy the others are, until its pause is over."""
    places = [Place("a", standing=failing(EJECT_AFTER)), Place("b", 9)]
    assert names(places) == ["b", "a"]
    assert names(places, now=101.5) == ["a", "b"]


def test_one_request_tries_it_again() -> None:
    """Meanwhile the others stay away; a success brings everybody back, a failure a longer pause."""
    places = [Place("a", standing=failing(EJECT_AFTER)), Place("b", 9)]
    places[0].standing.tried(101.5)
    assert names(places, now=101.5) == ["b", "a"]
    places[0].standing.failed(101.6)
    assert names(places, now=103.4) == ["b", "a"]
    places[0].standing.tried(103.6)
    places[0].standing.succeeded()
    assert names(places, now=103.6) == ["a", "b"]


def test_pauses_double_up_to_a_bound() -> None:
    """Many failures at once are one reason, not many; after days a backend that is back is found within the bound."""
    standing, now, pauses = Standing(), 0.0, list[float]()
    for _ in range(9):
        for _ in range(EJECT_AFTER + 20):
            standing.failed(now)
        began = now
        while standing.is_out(now):
            now += 0.25
        pauses.append(now - began)
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30, 30]
    assert max(pauses) == LONGEST_PAUSE_S


def test_when_all_are_out_the_least_busy_comes_first() -> None:
    """Ejecting everything would help nobody: whoever is out is still in the order."""
    places = [Place("a", 1, failing(EJECT_AFTER)), Place("b", 0, failing(EJECT_AFTER))]
    places[1].standing.unhealthy = True
    assert names(places) == ["b", "a"]


def test_an_unhealthy_target_is_out_whatever_connects() -> None:
    """Only its health check brings it back."""
    place = Place("a")
    place.standing.unhealthy = True
    place.standing.succeeded()
    assert names([place, Place("b", 5)]) == ["b", "a"]

"""Which of several targets a request goes to, and which is left out for a while. Pure: `now` is in seconds.

A target that cannot be connected to is ejected after a few failures in a row, for a pause that doubles each time. When
the pause is over one request tries it, and the others stay away until that one has succeeded. Ejecting everything
would help nobody: what is out is still tried when nothing else can be reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

EJECT_AFTER = 3
"""Failures to connect, in a row: one may be an accident of the network, and each costs a request its time."""

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
"""A backend that is restarted is missed for seconds; one that is gone is asked twice a minute."""


class Standing:
    """What is known of one target."""

    def __init__(self) -> None:
        self._failures = 0
        self._pause_s = FIRST_PAUSE_S
        self._until = 0.0
        self.unhealthy = False
        """Whether its health check has failed; that is for the check alone to end."""

    def is_out(self, now: float) -> bool:
        """Whether others are tried before it, however busy they are."""
        return self.unhealthy or now < self._until

    def failed(self, now: float) -> None:
        """A connection could not be made."""
        self._failures += 1
        if self._failures >= EJECT_AFTER and now >= self._until:
            self._eject(now)

    def succeeded(self) -> None:
        """A connection was made."""
        self._failures, self._pause_s, self._until = 0, FIRST_PAUSE_S, 0.0

    def tried(self, now: float) -> None:
        """A request is sent there. If that is a trial after a pause, the others stay away meanwhile."""
        if self._failures >= EJECT_AFTER and now >= self._until:
            self._eject(now)

    def _eject(self, now: float) -> None:
        self._until = now + self._pause_s
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)


class Candidate(Protocol):
    """A target as the choice sees it."""

    standing: Standing
    outstanding: int


AnyCandidate = TypeVar("AnyCandidate", bound=Candidate)


def in_order(targets: Sequence[AnyCandidate], turn: int, now: float) -> list[AnyCandidate]:
    """The targets in the order in which one request tries them: the least busy first, taking turns where they tie.

    Those that are out come last: they are tried when nothing else can be reached.
    """
    turned = [*targets[turn % len(targets) :], *targets[: turn % len(targets)]]
    return sorted(turned, key=lambda target: (target.standing.is_out(now), target.outstanding))

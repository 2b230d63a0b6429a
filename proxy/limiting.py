"""Rate and concurrency limits of one process: which calls the limits of a policy let through now.

`policies.rates` has the arithmetic and `policies.evaluate` says which limits a call has to keep; here are the counters.
A call keeps all of its limits or counts towards none. Counters are of this process: with several workers or nodes each
has its own, so a limit is kept once by each of them. What has to hold across nodes is quota, in the ledger.

`limits`, the kept library for this, was weighed: it asks the clock itself, counts a call towards one limit before it
looks at the next, and its memory grows with keys until a timer comes round.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from math import ceil

from policies.callers import Caller
from policies.document import Limit
from policies.rates import Admitted, Limited, admit
from policies.refusals import RateState, Refusal, rate_limited
from policies.rulebook import Entry

MAX_COUNTERS = 200_000
"""Counters kept, at about 200 bytes each. Beyond it the one that was used longest ago is dropped: its callers have
been quiet while two hundred thousand others called."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

Key = tuple[str, str]


class Limiter:
    """The counters of one process. `admit` takes, `leave` gives the places of running calls back."""

    def __init__(self, max_counters: int = MAX_COUNTERS) -> None:
        self._max = max_counters
        self._empty_at: OrderedDict[Key, int] = OrderedDict()
        self._running: dict[Key, int] = {}

    def admit(self, limits: Sequence[Entry[Limit]], caller: Caller, now: datetime) -> Refusal | Pass:
        """Count a call towards its limits; or the refusal of the first that it does not keep, and nothing is counted.

        A limit that is not enforced counts and refuses nothing; the pass names it instead.
        """
        moment = (now - _EPOCH) // _MICROSECOND
        after: dict[Key, int] = {}
        steps: dict[Key, int] = {}
        places: list[Key] = []
        exceeded: list[Entry[Limit]] = []
        for entry in limits:
            limit, key = entry.content, (entry.id, _subject(entry.content, caller))
            refusal = self._full(limit, key)
            if refusal is None and limit.requests is not None:
                answer = admit(self._empty_at.get(key, 0), limit.requests, moment)
                if isinstance(answer, Admitted):
                    after[key], steps[key] = answer.empty_at, limit.requests.step
                else:
                    refusal = _too_often(limit, answer)
            if refusal is not None and entry.enforced:
                return refusal
            if refusal is not None:
                exceeded.append(entry)
            if limit.concurrent is not None:
                places.append(key)
        self._count(after)
        for key in places:
            self._running[key] = self._running.get(key, 0) + 1
        return Pass(self, tuple(places), tuple(exceeded), {key: steps[key] for key in after})

    def _full(self, limit: Limit, key: Key) -> Refusal | None:
        running = self._running.get(key, 0)
        if limit.concurrent is None or running < limit.concurrent:
            return None
        # When a place becomes free is not known; a second is soon enough to ask again.
        state = RateState(limit.id, limit.concurrent, None, 0, 1)
        return rate_limited(limit.because or f"At most {limit.concurrent} requests may run at the same time", state)

    def _count(self, after: dict[Key, int]) -> None:
        for key, empty_at in after.items():
            self._empty_at[key] = empty_at
            self._empty_at.move_to_end(key)
        while len(self._empty_at) > self._max:
            self._empty_at.popitem(last=False)

    def uncount(self, steps: Mapping[Key, int]) -> None:
        """Take calls off their counters that were not made after all."""
        for key, step in steps.items():
            if key in self._empty_at:
                self._empty_at[key] -= step

    def leave(self, places: Sequence[Key]) -> None:
        for key in places:
            running = self._running[key] - 1
            if running:
                self._running[key] = running
            else:
                # Who runs nothing takes no memory.
                del self._running[key]


class Pass:
    """A call that was let through. Its places are its own while it is `held`."""

    def __init__(
        self,
        limiter: Limiter,
        places: tuple[Key, ...],
        exceeded: tuple[Entry[Limit], ...],
        steps: Mapping[Key, int],
    ) -> None:
        self._limiter = limiter
        self._places = places
        self._steps = steps
        self.exceeded = exceeded

    def undo(self) -> None:
        """The call is decided anew: it has not been made yet."""
        self._limiter.uncount(self._steps)
        self.leave()

    def leave(self) -> None:
        """Give the places back. Safe to repeat."""
        places, self._places = self._places, ()
        self._limiter.leave(places)

    @contextmanager
    def held(self) -> Iterator[None]:
        """While the call runs."""
        try:
            yield
        finally:
            self.leave()


def _subject(limit: Limit, caller: Caller) -> str:
    """Whose calls are counted together. Kinds are named, so that no user id is taken for the number of an account."""
    match limit.per:
        case "account":
            return f"account {caller.account.account_id}"
        case "key" if caller.key_id is not None:
            return f"key {caller.key_id}"
        case "user" | "key":
            return f"user {caller.user_id}"
        case _:
            return "everyone"


def _too_often(limit: Limit, answer: Limited) -> Refusal:
    rate = limit.requests
    assert rate is not None, "only a limit with a rate is exceeded"
    wait_s = max(ceil(answer.wait / 1_000_000), 1)
    state = RateState(limit.id, rate.calls, rate.seconds, 0, wait_s)
    return rate_limited(limit.because or f"At most {rate} requests may be made", state)

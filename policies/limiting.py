"""Which of its limits a call keeps, by what the counters say: one answer, wherever the counters are.

A call keeps all of its limits or counts towards none. The counters are read before and written after by whoever has
them: a process for itself (`proxy.limiting`), or the database for all (`store.rate_counters`). Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil

from policies.callers import Caller
from policies.document import Limit
from policies.rates import Admitted, Limited, admit
from policies.refusals import RateState, Refusal, rate_limited
from policies.rulebook import Entry
from policies.values import value

Key = tuple[str, str]
"""A counter: the id of the limit, and whose calls are counted together."""

Limits = Sequence[Entry[Limit]]


@value
class Counted:
    """What a call that may come does to the counters: the moments at which they are empty, the steps by which those
    were moved, and the places that it takes while it runs. `exceeded` are limits that are not enforced.
    """

    after: Mapping[Key, int]
    steps: Mapping[Key, int]
    places: tuple[Key, ...]
    exceeded: tuple[Entry[Limit], ...]


def key_of(entry: Entry[Limit], caller: Caller) -> Key:
    """Kinds are named, so that no user id is taken for the number of an account."""
    limit = entry.content
    match limit.per:
        case "account":
            return entry.id, f"account {caller.account.account_id}"
        case "key" if caller.key_id is not None:
            return entry.id, f"key {caller.key_id}"
        case "user" | "key":
            return entry.id, f"user {caller.user_id}"
        case _:
            return entry.id, "everyone"


def count(
    limits: Limits, caller: Caller, empty_at: Mapping[Key, int], running: Mapping[Key, int], moment: int
) -> Refusal | Counted:
    """Count a call at `moment` (microseconds); or the refusal of the first limit that it does not keep.

    A limit that is not enforced counts and refuses nothing.
    """
    after: dict[Key, int] = {}
    steps: dict[Key, int] = {}
    places: list[Key] = []
    exceeded: list[Entry[Limit]] = []
    for entry in limits:
        limit, key = entry.content, key_of(entry, caller)
        refusal = _full(limit, running.get(key, 0))
        if refusal is None and limit.requests is not None:
            answer = admit(empty_at.get(key, 0), limit.requests, moment)
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
    return Counted(after, steps, tuple(places), tuple(exceeded))


def _full(limit: Limit, running: int) -> Refusal | None:
    if limit.concurrent is None or running < limit.concurrent:
        return None
    # When a place becomes free is not known; a second is soon enough to ask again.
    state = RateState(limit.id, limit.concurrent, None, 0, 1)
    return rate_limited(limit.because or f"At most {limit.concurrent} requests may run at the same time", state)


def _too_often(limit: Limit, answer: Limited) -> Refusal:
    rate = limit.requests
    assert rate is not None, "only a limit with a rate is exceeded"
    wait_s = max(ceil(answer.wait / 1_000_000), 1)
    state = RateState(limit.id, rate.calls, rate.seconds, 0, wait_s)
    return rate_limited(limit.because or f"At most {rate} requests may be made", state)

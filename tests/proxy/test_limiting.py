"""The counters of limits: a call keeps all of its limits or counts towards none."""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.evaluate import Allow
from policies.refusals import Reason, Refusal
from policies.rulebook import Rulebook
from policies.terms import HoldId
from proxy.limiting import OwnLimiter, Pass
from tests.policies.samples import LAW, NOW, caller, compiled, decide


def done(answer: Coroutine[Any, Any, Any]) -> Any:
    """The result of what waits for nothing."""
    with pytest.raises(StopIteration) as stopped:
        answer.send(None)
    return stopped.value.value


def limits(text: str) -> Rulebook:
    return compiled(f"limits: [{text}]")


def ask(limiter: OwnLimiter, rulebook: Rulebook, user: str = "ann", seconds: float = 0) -> Pass | Refusal:
    who = caller(user=user)
    allow = decide(rulebook, who, "video:wan2.2")
    assert isinstance(allow, Allow)
    answer: Pass | Refusal = done(limiter.admit(allow.limits, who, HoldId(1), NOW + timedelta(seconds=seconds)))
    return answer


def test_a_call_over_the_rate_is_told_when_to_come_back() -> None:
    """The refusal has the limit's name, its sentence, and the seconds to wait."""
    limiter, rulebook = OwnLimiter(), limits("{id: slow, requests: 2/minute, because: Take your time}")
    assert isinstance(ask(limiter, rulebook), Pass)
    assert isinstance(ask(limiter, rulebook), Pass)
    refusal = ask(limiter, rulebook, seconds=10)
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.retry_after_s) == (Reason.RATE_LIMITED, 20)
    assert refusal.fields == {"message": "Take your time", "retryAfter": 20, "limit": "slow"}
    assert isinstance(ask(limiter, rulebook, seconds=30), Pass)


def test_places_are_given_back() -> None:
    """Two at a time: a third waits until one of them has left, however often it says so."""
    limiter, rulebook = OwnLimiter(), limits("{id: two, concurrent: 2}")
    first, second = ask(limiter, rulebook), ask(limiter, rulebook)
    assert isinstance(first, Pass)
    assert isinstance(second, Pass)
    refusal = ask(limiter, rulebook)
    assert isinstance(refusal, Refusal)
    assert refusal.rate is not None
    assert refusal.rate.window_s is None
    first.leave()
    first.leave()
    assert isinstance(ask(limiter, rulebook), Pass)
    assert isinstance(ask(limiter, rulebook), Refusal)


def test_what_is_counted_together_is_said_by_per() -> None:
    """Users of one account share its count, and not that of each user; everyone shares one."""
    for per, others in (("account", False), ("user", True), ("key", True), ("everyone", False)):
        limiter, rulebook = OwnLimiter(), limits(f"{{id: one, requests: 1/day, per: {per}}}")
        assert isinstance(ask(limiter, rulebook, "ann"), Pass)
        assert isinstance(ask(limiter, rulebook, "ann"), Refusal)
        assert isinstance(ask(limiter, rulebook, "ben"), Pass) == others


def test_a_refused_call_counts_towards_no_limit() -> None:
    """The wide limit has as much room as before when the narrow one refuses, and no place is taken."""
    narrow = "{id: narrow, requests: 1/day, per: user}"
    wide = "{id: wide, requests: 2/day, per: everyone, concurrent: 2}"
    for text in (f"{narrow}, {wide}", f"{wide}, {narrow}"):
        limiter, rulebook = OwnLimiter(), limits(text)
        assert isinstance(ask(limiter, rulebook, "ann"), Pass)
        for _ in range(5):
            assert isinstance(ask(limiter, rulebook, "ann"), Refusal)
        assert isinstance(ask(limiter, rulebook, "ben"), Pass)
        assert isinstance(ask(limiter, rulebook, "eve"), Refusal)


def test_a_call_that_is_decided_anew_counts_once() -> None:
    """What is undone leaves the counters as they were."""
    limiter, rulebook = OwnLimiter(), limits("{id: one, requests: 1/day, concurrent: 1}")
    for _ in range(3):
        passing = ask(limiter, rulebook)
        assert isinstance(passing, Pass)
        done(passing.undo())
    assert isinstance(ask(limiter, rulebook), Pass)
    assert isinstance(ask(limiter, rulebook), Refusal)


def test_a_limit_that_is_not_enforced_refuses_nothing() -> None:
    """It counts as if it were, and the pass names it."""
    limiter, rulebook = OwnLimiter(), limits("{id: soft, requests: 1/day, mode: warn}")
    first, second = ask(limiter, rulebook), ask(limiter, rulebook)
    assert isinstance(first, Pass)
    assert isinstance(second, Pass)
    assert ([e.id for e in first.exceeded], [e.id for e in second.exceeded]) == ([], ["soft"])


def test_memory_is_bounded_by_the_number_of_counters() -> None:
    """A crowd of callers leaves as many counters as there may be, and those who came last are still counted."""
    limiter, rulebook = OwnLimiter(max_counters=100), limits("{id: one, requests: 1/day, concurrent: 1, per: user}")
    for number in range(1000):
        passing = ask(limiter, rulebook, f"user-{number}")
        assert isinstance(passing, Pass)
        passing.leave()
    assert (len(limiter._empty_at), len(limiter._running)) == (100, 0)
    assert isinstance(ask(limiter, rulebook, "user-999"), Refusal)


@LAW
@given(st.lists(st.tuples(st.sampled_from(["ann", "ben"]), st.booleans()), max_size=40))
def test_never_more_run_than_may(steps: list[tuple[str, bool]]) -> None:
    """For any order of coming and leaving, each user runs at most two and all of them at most three."""
    limiter = OwnLimiter()
    rulebook = limits("{id: each, concurrent: 2, per: user}, {id: all, concurrent: 3, per: everyone}")
    running: dict[str, list[Pass]] = {"ann": [], "ben": []}
    for user, comes in steps:
        if comes:
            answer = ask(limiter, rulebook, user)
            room = len(running[user]) < 2 and sum(map(len, running.values())) < 3
            assert isinstance(answer, Pass) == room
            if isinstance(answer, Pass):
                running[user].append(answer)
        elif running[user]:
            running[user].pop().leave()

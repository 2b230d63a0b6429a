"""K04: who tries many credentials is slowed down; whose credentials are tried is not."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime, timedelta

import pytest

from config.identity import Failures as Settings
from proxy.identity.failures import MAX_SOURCES, UNKNOWN, Failures, source_of

NOW = datetime(2026, 1, 15, 10, 30, tzinfo=UTC)


def failures(**settings: object) -> Failures:
    return Failures(Settings.model_validate({"limit": 10, "per": "10s"} | settings))


def fail(counted: Failures, source: str, times: int, now: datetime = NOW) -> None:
    for _ in range(times):
        counted.count(source, now)


def test_a_source_has_a_limit_and_no_other_source_feels_it() -> None:
    """The tenth failure of ten is still within; the next one is over, for this source alone."""
    counted = failures()
    fail(counted, "a", 10)
    assert not counted.over_limit("a", NOW)
    fail(counted, "a", 1)
    assert counted.over_limit("a", NOW)
    assert not counted.over_limit("b", NOW)


def test_failures_are_forgotten_one_by_one() -> None:
    """One in each tenth of the time: that long whoever is over the limit has to wait, however long they went on."""
    counted = failures()
    fail(counted, "a", 1000)
    refusal = counted.refusal("a", NOW)
    assert (refusal.reason, refusal.retry_after_s, refusal.fields["retryAfter"]) == ("rate_limited", 1, 1)
    assert counted.over_limit("a", NOW + timedelta(seconds=0.999))
    assert not counted.over_limit("a", NOW + timedelta(seconds=1))
    fail(counted, "a", 1, NOW + timedelta(seconds=1))
    assert counted.over_limit("a", NOW + timedelta(seconds=1))
    fail(counted, "a", 10, NOW + timedelta(seconds=12))
    assert not counted.over_limit("a", NOW + timedelta(seconds=12))


@pytest.mark.parametrize("hours", [-24, 24])
def test_a_clock_that_was_wrong_slows_nobody_down(hours: int) -> None:
    """After a clock was set, a source waits no longer than one that has just failed."""
    counted = failures()
    fail(counted, "a", 50)
    later = NOW + timedelta(hours=hours)
    assert counted.refusal("a", later).retry_after_s == 1
    fail(counted, "a", 1, later)
    assert not counted.over_limit("a", later + timedelta(seconds=1))


def test_d05_memory_is_bounded() -> None:
    """A hundred thousand addresses leave no more than ten thousand, in a few megabytes: the last ones."""
    counted = failures()
    tracemalloc.start()
    for number in range(100_000):
        fail(counted, f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 1)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(counted._forgotten_at) == MAX_SOURCES
    assert used < 5 * 2**20
    assert "10.1.134.159" in counted._forgotten_at


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:0db8:0001:0002::/64"),
        ("2001:db8:1:2::", "2001:0db8:0001:0002::/64"),
        (None, UNKNOWN),
    ],
)
def test_a_source_is_an_address_or_its_network(address: str | None, said: str) -> None:
    """Of IPv6 a customer has many, so they count together."""
    assert source_of(address) == said

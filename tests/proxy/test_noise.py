"""How many lines strangers can cause: few for each source, a bounded number in all, and nothing is left uncounted."""

from __future__ import annotations

import logging

import pytest

from proxy.noise import LINES, OTHERS, SOURCES, STRANGERS, TOLD, Noise


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


async def test_a_source_has_a_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    """The first ones of a minute; then it is counted, and the next minute begins anew."""
    caplog.set_level(logging.INFO)
    noise = Noise(logging.INFO, STRANGERS)
    for _ in range(2):
        assert [noise.is_told("10.0.0.1") for _ in range(LINES + 5)] == [True] * LINES + [False] * 5
        assert noise.is_told("10.0.0.2")
        noise.tell()
    assert told(caplog) == ["and 5 more refused, abandoned or preflight requests of 10.0.0.1 within a minute"] * 2


async def test_d05_a_million_sources_are_some_lines(caplog: pytest.LogCaptureFixture) -> None:
    """Those beyond the bound are one number; at the end of the minute the loudest are named, and all are counted."""
    caplog.set_level(logging.INFO)
    noise = Noise(logging.INFO, STRANGERS)
    heard = [noise.is_told(f"source-{number % 2_000}") for number in range(100_000)]
    assert heard.count(True) == SOURCES * LINES
    assert len(noise._heard) <= SOURCES + 1
    noise.tell()
    lines = told(caplog)
    assert len(lines) == TOLD + 1
    assert lines[0] == f"and {50_000} more refused, abandoned or preflight requests of {OTHERS} within a minute"
    assert sum(int(line.split()[1]) for line in lines) == 100_000 - SOURCES * LINES
    assert not noise._heard


async def test_silence_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    """A minute in which every request had its line ends without one."""
    caplog.set_level(logging.INFO)
    noise = Noise(logging.INFO, STRANGERS)
    noise.is_told("10.0.0.1")
    noise.tell()
    noise.tell()
    assert told(caplog) == []

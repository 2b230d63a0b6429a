"""A hold outlasts whatever its exchange may wait for, or the settings are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.samples import BASE, load, refused, told

URL = 'url: "http://127.0.0.1:3000"'
SHORT, LONGER = "deadline-too-short", "longer than holds last without a sign of life"


def _with(limits: str = "", **timeouts: str) -> str:
    text = BASE.replace(URL, ", ".join([URL, *(f"{name}: {value}" for name, value in timeouts.items())]))
    return text + (f"limits: {{{limits}}}\n" if limits else "")


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        (
            _with(response_timeout="15m"),
            f"5:60: {SHORT}: 'lumiku' may be silent for 905 s, {LONGER}; "
            "set `limits.request_deadline` (now 600 s) to 1132s or more",
        ),
        (
            _with(idle_timeout="10m"),
            f"5:56: {SHORT}: 'lumiku' may be silent for 600 s, {LONGER}; "
            "set `limits.request_deadline` (now 600 s) to 750s or more",
        ),
        (
            _with("request_deadline: 5m"),
            f"12:28: {SHORT}: 'lumiku' may be silent for 305 s, {LONGER}; "
            "set `limits.request_deadline` (now 300 s) to 382s or more",
        ),
    ],
)
def test_a_wait_that_a_hold_does_not_outlast_is_told(tmp_path: Path, text: str, finding: str) -> None:
    """Where the time-out is written, or where the deadline is, with a deadline that would do."""
    assert told(refused(tmp_path, text)) == [finding]


@pytest.mark.parametrize(
    "text",
    [
        BASE,
        _with(response_timeout="475s"),
        _with(idle_timeout="8m"),
        _with("request_deadline: 382s"),
        _with("request_deadline: 1h", response_timeout="40m", idle_timeout="48m"),
        _with("request_deadline: 2s", connect_timeout="500ms", response_timeout="1s", idle_timeout="1s"),
    ],
)
def test_what_was_advised_is_enough(tmp_path: Path, text: str) -> None:
    """The bound is eight tenths of the deadline; the rest is for the next byte, and for ending the hold."""
    load(tmp_path, text)


@pytest.mark.parametrize("access", ["open", "account"])
def test_routes_without_holds_may_wait_for_ever(tmp_path: Path, access: str) -> None:
    """Nothing is held for a request that costs nothing, so nothing can lapse."""
    slow = BASE.replace("routes:", '  slow: {url: "http://127.0.0.1:3001", response_timeout: 1d}\nroutes:')
    route = f"  - {{id: slow, match: GET /slow, upstream: slow, access: {access}}}\n"
    load(tmp_path, slow + route)
    metered = "  - {id: paid, match: GET /paid, upstream: slow, app: a, model: {const: b}}\n"
    (finding,) = told(refused(tmp_path, slow + route + metered))
    assert SHORT in finding
    assert "'slow' may be silent for 86405 s" in finding

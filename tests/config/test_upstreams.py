"""Backends in `farebox.yaml`: one address or several, and what may be said of them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tests.config.samples import BASE, load, refused

ONE = '{url: "http://127.0.0.1:3000"}'


def _with(upstream: str) -> str:
    assert ONE in BASE
    return BASE.replace(ONE, upstream)


def test_one_address_or_several(tmp_path: Path) -> None:
    """Both are read as a list of addresses; the defaults hold for both."""
    one = load(tmp_path, BASE).values.upstreams["lumiku"]
    several = load(tmp_path, _with('{urls: ["http://a:1", "https://b/c"]}')).values.upstreams["lumiku"]
    assert one.targets == ["http://127.0.0.1:3000"]
    assert several.targets == ["http://a:1", "https://b/c"]
    assert (one.max_connections, one.max_waiting, one.queue_timeout) == (1000, 1000, timedelta(seconds=5))
    assert (one.health, one.ca, one.total_timeout) == (None, None, None)


@pytest.mark.parametrize(
    ("upstream", "message"),
    [
        ("{}", "either `url` or `urls`"),
        ("{urls: []}", "either `url` or `urls`"),
        ('{url: "http://a", urls: ["http://b"]}', "either `url` or `urls`"),
        ('{urls: ["http://a", "http://a"]}', "stands twice"),
        ('{urls: ["http://a", "ftp://b"]}', "expected http://"),
        ('{url: "http://a", ca: ca.pem}', "no meaning without an address with https"),
        ('{url: "http://a", max_connections: 0}', "greater than or equal to 1"),
        ('{url: "http://a", max_waiting: -1}', "greater than or equal to 0"),
        ('{url: "http://a", health: {}}', "path"),
        ('{url: "http://a", health: {path: healthz}}', "pattern"),
        ('{url: "http://a", health: {path: "/a b"}}', "pattern"),
        ('{url: "http://a", health: {path: /a, every: 5s}}', "every"),
    ],
)
def test_what_makes_no_sense_is_told(tmp_path: Path, upstream: str, message: str) -> None:
    """With one finding that says what was expected."""
    (finding,) = refused(tmp_path, _with(upstream)).findings
    assert message in finding.message
    assert finding.line == 5

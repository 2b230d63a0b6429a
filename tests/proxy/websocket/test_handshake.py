"""Who asks for a WebSocket, and whether it was granted (RFC 6455 §4)."""

from __future__ import annotations

import pytest

from proxy.headers import HeaderList
from proxy.websocket.handshake import SWITCHING, asks, extended, problem_of, unextended

ASKING: HeaderList = [
    ("Host", "server.example.com"),
    ("Upgrade", "WebSocket"),
    ("Connection", "keep-alive, upgrade"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Version", "13"),
]
GRANTED: HeaderList = [*SWITCHING, ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")]
"""The example of RFC 6455 §1.3."""


def test_the_example_of_the_rfc() -> None:
    """Asked for in any case and among other tokens, and granted by the accept of its key."""
    assert asks("GET", ASKING)
    assert asks("GET", [*ASKING, ("Content-Length", "0")])
    assert problem_of(ASKING, GRANTED) is None
    assert problem_of(ASKING, [*GRANTED, ("Sec-WebSocket-Extensions", "x")])
    assert problem_of(ASKING, [*GRANTED, GRANTED[2]])
    assert problem_of(ASKING, GRANTED[:2])
    assert problem_of(ASKING, [("Upgrade", "h2c"), *GRANTED[2:]])


@pytest.mark.parametrize("index", [1, 2, 3])
def test_each_header_is_needed(index: int) -> None:
    """Upgrade, connection and key."""
    assert not asks("GET", ASKING[:index] + ASKING[index + 1 :])
    assert not asks("POST", ASKING)


def test_extensions_are_not_offered_where_frames_are_read() -> None:
    """An offer without a value is none."""
    offering = [*ASKING, ("sec-websocket-extensions", "permessage-deflate")]
    assert extended(offering)
    assert unextended(offering) == ASKING
    assert not extended([("Sec-WebSocket-Extensions", "")])

"""The switch from HTTP to a WebSocket: who asks for one, and whether a backend has granted it (RFC 6455 §4). Pure.

Key, version, subprotocols and extensions are agreed upon between the client and the backend and pass as they are. What
asks for a WebSocket in any other way than exactly is an ordinary request, and what it asks for does not travel on.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable

from proxy.headers import HeaderList, without

SWITCHING: HeaderList = [("Connection", "Upgrade"), ("Upgrade", "websocket")]
"""What asks for the switch, and what grants it: headers of one connection, written anew on each."""

EXTENSIONS = "sec-websocket-extensions"

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""RFC 6455 §1.3."""


def asks(method: str, headers: HeaderList) -> bool:
    """Whether a request of HTTP/1.1 asks to become a WebSocket, and is nothing else besides (RFC 6455 §4.1)."""
    if method != "GET":
        return False
    named: dict[str, list[str]] = {"upgrade": [], "connection": [], "sec-websocket-key": []}
    for name, value in headers:
        lower = name.lower()
        if lower in named:
            named[lower].append(value)
        elif lower == "transfer-encoding" or (lower == "content-length" and value.strip("0")):
            # With a body, two parties could disagree about where the WebSocket begins.
            return False
    upgrades, connections, keys = named.values()
    nominated = [part.strip().lower() for value in connections for part in value.split(",")]
    return (
        [value.lower() for value in upgrades] == ["websocket"]
        and "upgrade" in nominated
        and len(keys) == 1
        and _is_key(keys[0])
    )


def _is_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


def unextended(headers: HeaderList) -> HeaderList:
    """`headers` that offer no extension, so that frames can be read: compressed ones could not."""
    return without(headers, [EXTENSIONS])


def extended(headers: HeaderList) -> bool:
    """Whether an extension was offered, or agreed upon."""
    return any(name.lower() == EXTENSIONS and value.strip() for name, value in headers)


def problem_of(asked: HeaderList, answered: HeaderList) -> str | None:
    """Why an answer 101 does not grant what was asked, if it does not (RFC 6455 §4.1)."""
    if [value.lower() for value in _values(answered, "upgrade")] != ["websocket"]:
        return "it switched to another protocol"
    if _values(answered, "sec-websocket-accept") != [_accept(key) for key in _values(asked, "sec-websocket-key")]:
        return "it did not answer the key of the WebSocket"
    if extended(answered) and not extended(asked):
        return "it uses an extension that nobody offered"
    return None


def _accept(key: str) -> str:
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID).digest()).decode()


def _values(headers: Iterable[tuple[str, str]], name: str) -> list[str]:
    return [value for key, value in headers if key.lower() == name]

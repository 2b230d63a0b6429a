"""One address of a backend, with the connections to it: those in use, and those kept for the next request.

The last one used is used first, so that the others can be given up. A kept connection is given up before backends
usually close theirs: a request that meets a closing connection may be lost, and nobody could tell whether it was
acted on.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections import deque
from collections.abc import Callable
from ipaddress import ip_address
from urllib.parse import urlsplit

from proxy.upstream.connection import Connection, Owner
from proxy.upstream.exchange import UpstreamUnreachable
from proxy.upstream.standing import Standing

READ_SIZE = 256 * 2**10
"""Bytes that are read at once: at 64 KiB large answers take a quarter longer. All connections share them."""

SECOND_ADDRESS_S = 0.25
"""When a name has several addresses, the wait before the next one is tried as well (RFC 8305, section 8)."""


class Target:
    """`ended` is called whenever an exchange on one of its connections is over."""

    def __init__(
        self, name: str, url: str, context: ssl.SSLContext | None, keepalive_s: float, ended: Callable[[], None]
    ) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None, "settings are checked"
        self.address = f"{parts.scheme}://{parts.netloc}"
        self._prefix = parts.path.rstrip("/").encode()
        self._host_line = b"Host: %b\r\n" % parts.netloc.encode()
        self.standing = Standing()
        self.outstanding = 0
        """Exchanges that were given to it and are not over."""
        self.opened = 0
        """Connections that were made so far."""
        self._loop = asyncio.get_running_loop()
        self._name = name
        self._host, self._port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
        # An address needs no race, in which asyncio forgets a socket that is cancelled the moment it is connected.
        self._second_s = None if _is_address(parts.hostname) else SECOND_ADDRESS_S
        self._context = context if parts.scheme == "https" else None
        self._keepalive_s = keepalive_s
        self._ended = ended
        self._buffer = memoryview(bytearray(READ_SIZE))
        self._kept: deque[Connection] = deque()
        self._open: set[Connection] = set()
        self._sweep: asyncio.TimerHandle | None = None

    @property
    def open(self) -> int:
        """Connections that stand, in use or kept."""
        return len(self._open)

    @property
    def kept(self) -> int:
        return len(self._kept)

    def addressed(self, method: str, head: bytes) -> bytes:
        """A request's head, from its path on, made one for this target: base path, and a `Host` where it has none."""
        if b"\r\nhost:" not in head.lower():
            line, _, fields = head.partition(b"\r\n")
            head = b"%b\r\n%b%b" % (line, self._host_line, fields)
        return b"%b %b%b" % (method.encode(), self._prefix, head)

    def take_kept(self) -> Connection | None:
        """The connection that was used last, if one lives; it is the caller's then."""
        while self._kept:
            connection = self._kept.pop()
            if not connection.is_dead and self._loop.time() - connection.idle_since < self._keepalive_s:
                return connection
            self._give_up(connection)
        return None

    async def connect(self, timeout_s: float) -> Connection:
        """A new connection. Raises UpstreamUnreachable."""
        self.standing.tried(self._loop.time())
        try:
            connection = await self.connection_for(self, timeout_s)
        except UpstreamUnreachable:
            self.standing.failed(self._loop.time())
            raise
        self.standing.succeeded()
        self.opened += 1
        self._open.add(connection)
        return connection

    async def connection_for(self, owner: Owner, timeout_s: float) -> Connection:
        """A connection that `owner` keeps. Raises UpstreamUnreachable."""
        try:
            async with asyncio.timeout(timeout_s):
                _, connection = await self._loop.create_connection(
                    lambda: Connection(self._name, owner, self._buffer),
                    self._host,
                    self._port,
                    ssl=self._context,
                    server_hostname=self._host if self._context else None,
                    happy_eyeballs_delay=self._second_s,
                )
        except (OSError, UnicodeError) as error:
            reason = f"no connection within {timeout_s:g} s" if isinstance(error, TimeoutError) else _reason(error)
            text = f"cannot connect to upstream {self._name!r} at {self.address}: {reason}"
            raise UpstreamUnreachable(text) from error
        return connection

    def give_up_one(self) -> bool:
        """Close the kept connection that was unused for longest; False when there is none."""
        if self._kept:
            self._give_up(self._kept.popleft())
            return True
        return False

    def close(self) -> None:
        """End every connection, whatever is under way on it."""
        if self._sweep is not None:
            self._sweep.cancel()
        while self.give_up_one():
            pass
        for connection in list(self._open):
            connection.abort()

    # What a connection tells.

    def finished(self, connection: Connection, *, reusable: bool) -> None:
        self.outstanding -= 1
        if reusable:
            connection.idle_since = self._loop.time()
            self._kept.append(connection)
            if self._sweep is None:
                self._sweep_in(self._keepalive_s)
        else:
            self._open.discard(connection)
        self._ended()

    def lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection in self._kept:
            self._kept.remove(connection)

    # The kept ones.

    def _sweep_in(self, seconds: float) -> None:
        self._sweep = self._loop.call_later(seconds, self._give_up_unused)

    def _give_up_unused(self) -> None:
        self._sweep = None
        now = self._loop.time()
        while self._kept and now - self._kept[0].idle_since >= self._keepalive_s:
            self.give_up_one()
        if self._kept:
            self._sweep_in(self._kept[0].idle_since + self._keepalive_s - now)

    def _give_up(self, connection: Connection) -> None:
        self._open.discard(connection)
        connection.close()


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _reason(error: OSError | UnicodeError) -> str:
    """The system's own words, or the library's; they hold nothing of a request."""
    if isinstance(error, UnicodeError):
        return "its name is no host name"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate cannot be trusted: {error.verify_message}"
    known = error.errno is not None and error.errno > 0 and not isinstance(error, ssl.SSLError)
    return os.strerror(error.errno or 0) if known else error.strerror or str(error) or type(error).__name__

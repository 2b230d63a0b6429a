"""What is sent to a backend, and what can go wrong until its answer is complete. Every file of this room uses these."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import NamedTuple

from proxy.headers import HeaderList
from proxy.upstream.parsing import Interim


class UpstreamUnreachable(Exception):
    """No connection: the backend has not seen the request."""


class UpstreamBusy(Exception):
    """As many exchanges as are allowed are under way, and none ended in time: the backend has not seen the request."""


class UpstreamTimeout(Exception):
    """Connected, and then silent for too long."""


class UpstreamBroken(Exception):
    """The connection ended, or what came over it is not HTTP."""


class DeadConnection(UpstreamBroken):
    """A connection that had served before ended before a byte of this answer came.

    `unsent` when nothing of the request has left this machine either.
    """

    def __init__(self, message: str, *, unsent: bool) -> None:
        super().__init__(message)
        self.unsent = unsent


class Outgoing(NamedTuple):
    """A request to a backend. `body` is bytes, a stream of pieces, or None; `length` is known or None.

    What the stream raises is raised by `Upstream.send` as it is. A request is `repeatable` when asking twice is as
    good as asking once: a safe method (RFC 9110 §9.2.1) that nobody pays for. One that `switches` asks for another
    protocol on its connection (RFC 9110 §7.8), and may be answered by 101. `interim` hears of interim answers.
    """

    method: str
    target: str
    headers: HeaderList
    body: bytes | AsyncIterator[bytes] | None
    length: int | None
    repeatable: bool = False
    switches: bool = False
    interim: Interim | None = None


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an exchange may take, in seconds: until the head of its answer, between two pieces, altogether."""

    response_s: float
    idle_s: float
    total_s: float

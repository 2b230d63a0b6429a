"""Failed credentials, counted by where they come from: who tries many is slowed down, and nobody else is.

Never counted by user, key or account: then anybody could lock anybody out. A source over its limit is still let in
with a credential that is good: tokens are verified without asking anybody, and a key that has worked before is looked
up. What it cannot do any more is make Farebox ask its database, or an issuer, for credentials that are made up.

One moment is kept for each source (a leaky bucket): the time at which all its failures will be forgotten.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from datetime import datetime
from ipaddress import ip_address

from config.identity import Failures as Settings
from policies.refusals import Reason, Refusal

MAX_SOURCES = 10_000
"""Of the last failures, at about 200 bytes each: an attacker with more addresses than that has no need to hurry."""

UNKNOWN = "unknown"
"""The source of a connection without an address."""


class Failures:
    """The failures of one process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._each = settings.per / settings.limit
        self._forgotten_at: OrderedDict[str, datetime] = OrderedDict()

    def over_limit(self, source: str, now: datetime) -> bool:
        """Whether so many have failed that `limit` in `per` are exceeded."""
        return self._waits_until(source, now) > now

    def count(self, source: str, now: datetime) -> None:
        """One more has failed."""
        last = self._forgotten_at.get(source, now)
        # A clock that was set back must not slow anybody down for as long as it was wrong.
        last = min(max(last, now), now + self._settings.per)
        self._forgotten_at[source] = last + self._each
        self._forgotten_at.move_to_end(source)
        if len(self._forgotten_at) > MAX_SOURCES:
            self._forgotten_at.popitem(last=False)

    def refusal(self, source: str, now: datetime) -> Refusal:
        """What a credential gets that fails, or is not looked at, while its source is over the limit."""
        wait_s = max(math.ceil((self._waits_until(source, now) - now).total_seconds()), 1)
        told = {"message": "Too many credentials from this address have failed", "retryAfter": wait_s}
        hint = f"Send a valid credential in {wait_s} s."
        return Refusal(Reason.RATE_LIMITED, "Rate limit exceeded", hint, told, retry_after_s=wait_s)

    def _waits_until(self, source: str, now: datetime) -> datetime:
        forgotten_at = min(self._forgotten_at.get(source, now), now + self._settings.per + self._each)
        return forgotten_at - self._settings.per


def source_of(address: str | None) -> str:
    """The source that a client's address counts for: an IPv6 address stands for its /64, of which every customer has at
    least one (RFC 6177). All whose address is not known count together.
    """
    parsed = ip_address(address) if address is not None else None
    return UNKNOWN if parsed is None else str(parsed) if parsed.version == 4 else parsed.exploded[:19] + "::/64"

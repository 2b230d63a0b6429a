"""How many connections clients may keep open: the `connections` of `farebox.yaml`. What they do with them is bounded in
`limits`.
"""

from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_network
from typing import Annotated

from pydantic import Field

from config.extractors import Settings
from config.proxies import Network
from config.quantities import Duration

LOOPBACK: list[Network] = [ip_network("127.0.0.0/8"), ip_network("::1/128")]


class Connections(Settings):
    """Bounds on the connections of clients, for each process."""

    most: Annotated[int, Field(ge=1, le=1_000_000)] = 5000
    """Connections at once, or half of the files that the system lets a process open where that is less. One more takes
    the place of one that has no request; where all have one, it is refused with 503."""
    per_source: Annotated[int, Field(ge=1, le=1_000_000)] = 500
    """The same for one address (of IPv6, one /64), with 429: an office of eighty browsers stays below."""
    trusted: Annotated[list[Network], Field(max_length=100)] = LOOPBACK
    """Proxies in front, whose connections are not counted by source, as they bring everybody's requests. Those of
    `proxies.peers` and `identity.trusted_header.peers` are trusted too."""
    keepalive: Duration = timedelta(seconds=75)
    """How long a connection may wait for its next request: longer than load balancers in front keep theirs."""

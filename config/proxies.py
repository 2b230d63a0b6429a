"""The `proxies` of `farebox.yaml`: who stands in front, and is believed about where requests come from."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from config.extractors import Settings


def _network(value: object) -> IPv4Network | IPv6Network:
    try:
        if isinstance(value, str):
            return ip_network(value)
    except ValueError as error:
        raise ValueError(f"expected an address or a network such as 10.0.0.0/8: {error}") from None
    raise ValueError("expected an address or a network such as 10.0.0.0/8")


Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network), WithJsonSchema({"type": "string"})]


class Proxies(Settings):
    """Load balancers and proxies in front, which are believed about the client's address, scheme and host. What anybody
    else says of them reaches no backend.
    """

    peers: Annotated[list[Network], Field(max_length=100)] = []
    """Their addresses and networks, as Farebox sees their connections come, and as they write each other's."""
    header: Literal["X-Forwarded-For", "Forwarded"] = "X-Forwarded-For"
    """The header that each of them appends to. The other one is not believed: they pass it on as clients sent it."""

"""The backends of `farebox.yaml`: where they are, how long they may take, and how much they are given at once."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from config.extractors import Settings
from config.quantities import Duration
from config.secrets import HeaderSecret

HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,100}$")]


def _backend(url: str) -> str:
    if any(character in "@?#" or not "!" <= character <= "~" for character in url):
        raise ValueError("the URL of a backend has no user, query, fragment or space")
    try:
        parts = urlsplit(url)
        complete = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        complete = False
    if not complete:
        raise ValueError("expected http:// or https:// with a host, and a port and a path where needed")
    return url


class Health(Settings):
    """A request to each address of a backend, again and again. An address that fails it is left out."""

    path: Annotated[str, StringConstraints(pattern=r"^/[!-~]*$")]
    """What is asked for with GET, below the path of the address; any answer 2xx is good."""
    interval: Duration = timedelta(seconds=5)
    """Between two checks of one address."""
    timeout: Duration = timedelta(seconds=2)
    """For the connection and the answer of a check, each."""


class Paid(Settings):
    """Tells a backend that bills on its own that Farebox has charged already. Only metered requests carry it, and
    whatever clients send under its name is removed from all others.
    """

    header: HeaderName
    """The header's name."""
    value: HeaderSecret
    """Its value, which may be a secret that only the backend knows."""


BackendUrl = Annotated[str, AfterValidator(_backend)]


class Upstream(Settings):
    """A backend."""

    url: BackendUrl | None = None
    """Scheme, host, and port and base path where needed; the path of the request is appended."""
    urls: Annotated[list[BackendUrl], Field(max_length=100)] = []
    """Instead of `url`, several addresses of the same backend: each request goes to the least busy one."""
    connect_timeout: Duration = timedelta(seconds=5)
    """Until a connection stands, TLS included."""
    response_timeout: Duration = timedelta(seconds=300)
    """From the request, or the last piece of its body, until the head of the answer."""
    idle_timeout: Duration = timedelta(seconds=300)
    """Between two pieces of an answer."""
    total_timeout: Duration | None = None
    """From sending the request until the end of the answer; without it a stream may last as long as it is not idle."""
    keepalive: Duration = timedelta(milliseconds=1500)
    """How long an unused connection is kept: less than backends keep theirs, the shortest usual being 2 s."""
    max_connections: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """Requests of one Farebox process that are under way there at once: twice as many streams as one usually relays."""
    max_waiting: Annotated[int, Field(ge=0, le=100_000)] = 1000
    """Requests that wait in line when `max_connections` are under way; one more is refused at once."""
    queue_timeout: Duration = timedelta(seconds=5)
    """How long a request waits in that line before it is refused: about as long as people wait for a sign of life."""
    health: Health | None = None
    """Asks every address whether it is well; without it an address is left out after it could not be connected to."""
    ca: str | None = None
    """For https: a PEM file with the authorities that vouch for the backend, instead of the system's. Relative paths
    count from the folder of the settings file."""
    host: Literal["preserve", "upstream"] = "preserve"
    """The `Host` that the backend sees: the client's, or that of `url`."""
    headers: dict[HeaderName, HeaderSecret] = {}
    """Set on every forwarded request in place of the client's, for example the backend's own API key."""

    paid: Paid | None = None
    """A header for requests that are paid for, so that the backend does not charge for them again; without it, none."""

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if self.paid is not None and self.paid.header.lower() in {name.lower() for name in self.headers}:
            raise ValueError("the header of `paid` stands in `headers` too, which all requests get")
        if (self.url is None) == (not self.urls):
            raise ValueError("a backend has either `url` or `urls`")
        if len(set(self.urls)) < len(self.urls):
            raise ValueError("an address stands twice in `urls`")
        if self.ca is not None and not any(url.startswith("https:") for url in self.targets):
            raise ValueError("`ca` has no meaning without an address with https")
        return self

    @property
    def targets(self) -> list[str]:
        """Its addresses."""
        return self.urls if self.url is None else [self.url]

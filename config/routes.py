"""The routes of `farebox.yaml`: which requests there are, what they cost by, and where they go."""

from __future__ import annotations

import re
from datetime import timedelta
from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from config.extractors import JsonPointer, ModelSource, Settings, Source, Unit, UnitName, UsageSource
from config.jobs import Identifier, Job, Poll
from config.quantities import Duration, Size

BODIES = ("json", "form", "multipart", "graphql")
"""The places that are ways to read a body, which is one of them."""

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "*")
# Matched against decoded segments, so there are no percent encodings, and dot segments never arrive.
_SEGMENT = re.compile(r"\{[A-Za-z_][A-Za-z0-9_]*\}|\*\*|\*|(?!\.\.?$)[A-Za-z0-9._~!$&'()+,;=:@-]+")


class Match(Settings):
    """`POST /api/{project}/generate`: a method or `*`, and a path whose `{name}` stands for one segment.

    `*` stands for one segment without a name, a final `**` for any number of them, also none.
    """

    method: str
    path: str

    @property
    def segments(self) -> tuple[str, ...]:
        return tuple(self.path[1:].split("/"))

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def _match(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("expected a method and a path, such as POST /v1/chat/completions")
    method, _, path = value.partition(" ")
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; expected one of {', '.join(METHODS)} before the path")
    if not path.startswith("/"):
        raise ValueError("expected a path that starts with / after the method")
    segments = path[1:].split("/")
    for index, segment in enumerate(segments):
        if segment == "" and len(segments) == 1:
            continue
        if not _SEGMENT.fullmatch(segment):
            raise ValueError(
                f"cannot read the path segment {segment!r}; a segment is a text, {{name}}, * or a final **"
            )
        if segment == "**" and index != len(segments) - 1:
            raise ValueError("** may only be the last segment of a path")
    names = [segment for segment in segments if segment.startswith("{")]
    if len(names) != len(set(names)):
        raise ValueError("a name stands twice in the path")
    return {"method": method, "path": path}


Matches = Annotated[
    list[Annotated[Match, BeforeValidator(_match)]],
    BeforeValidator(lambda value: value if isinstance(value, list) else [value]),
    Field(min_length=1, max_length=20),
]


class Drain(Settings):
    """How far an answer is read whose client has left. Beyond it, what was measured so far is settled."""

    time: Duration = timedelta(seconds=30)
    """From the moment at which the client was found to have left."""
    size: Size = 2**20
    """Bytes of the rest: the backend goes on working for it, and nobody reads it."""


class Rewrite(Settings):
    """One field of an answer that Farebox writes itself, for backends that bill on their own and say so."""

    json_: JsonPointer = Field(alias="json")
    """Where it stands: in a JSON answer of at most 64 KiB that is not compressed, and that has a length."""
    to: Literal["charged", "remaining"]
    """What it becomes: the number of `X-Farebox-Charged` or `-Reserved`, or that of what is left."""


class WebSocket(Settings):
    """Says that requests may become WebSockets (RFC 6455), and how those are paid and bounded."""

    charge: Literal["connection", "messages", "usage"] = "connection"
    """Once for a connection, for each `block` of messages, or whenever the backend states the route's `usage`."""
    counted: Literal["client", "backend", "both"] = "client"
    """Whose messages are counted, or are the beginning of what a usage is stated for."""
    block: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Messages that are paid for at once, before the first of them passes: the unit `messages` of the price."""
    max_message: Size = 16 * 2**20
    """Bytes of one message. A longer one closes the connection with code 1009."""
    idle_timeout: Duration = timedelta(minutes=10)
    """Silence of both sides, pings included, after which the connection is closed with code 1001."""
    total_timeout: Duration | None = None
    """How long a connection may last: then it is closed with code 1001, between two messages. Without it: for ever."""


class Route(Settings):
    """One kind of request."""

    id: Identifier
    """Names the route in logs, metrics and usage."""
    match: Matches
    """The method and path of its requests, or several of them."""
    upstream: Identifier
    """The backend that they are forwarded to."""
    access: Literal["metered", "account", "open"] = "metered"
    """`metered` is charged; `account` needs a caller and costs nothing; `open` is forwarded for anyone."""
    app: Identifier | None = None
    """The app that its models belong to; metered routes need one."""
    action: UnitName | None = None
    """What usage records call the request; without it, the id of the route."""
    model: ModelSource | None = None
    """Where a request names its model; metered routes need it."""
    units: dict[UnitName, Unit] = {}
    """How much a request asks for, by the unit names that prices have rates for: makes the quote."""
    usage: dict[UnitName, UsageSource] = {}
    """What an answer says was really used, by unit name: makes the charge. Without it the quote is charged."""
    job: Job | None = None
    """Says that an answer only accepts the work, which ends later."""
    poll: Poll | None = None
    """Says that its answers tell how jobs of other routes stand."""
    websocket: WebSocket | None = None
    """Lets requests become WebSockets. Routes that are not metered do so without it."""
    errors: Literal["origin", "openai", "problem"] = "origin"
    """The shape of refusals on this route: plain, as the OpenAI API has them, or RFC 9457."""
    on_abort: Literal["delivered", "quote", "release", "drain"] = "delivered"
    """When the client leaves mid-answer: settle what was measured so far (else the quote), the quote, or nothing. Or
    read on, within `drain`, to learn what was really used.
    """
    drain: Drain = Drain()
    """With `on_abort: drain`, how far the rest of an answer is read."""
    rewrite: Rewrite | None = None
    """A field of the answers in which the backend tells of its own billing; without it answers pass as they are."""
    on_crash: Literal["release", "quote"] = "release"
    """What becomes of the hold when Farebox itself died after forwarding."""
    on_late: Literal["none", "charge"] = "none"
    """When the true usage becomes known after the hold has expired: nothing, or charge it from what there is then."""
    overrun: Literal["cap", "overdraft"] = "cap"
    """When the true cost is above the hold and the credits left: take those, or also let the account owe the rest."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.access == "metered" and (self.app is None or self.model is None):
            raise ValueError(f"route {self.id!r} is metered and therefore needs `app` and `model`")
        if self.access != "metered" and (self.model or self.units or self.usage or self.job or self.rewrite):
            keys = "`model`, `units`, `usage`, `job` and `rewrite`"
            raise ValueError(f"route {self.id!r} is not metered; {keys} have no meaning")
        if len(self._bodies) > 1:
            raise ValueError(f"route {self.id!r} reads its body as {' and as '.join(sorted(self._bodies))}; it is one")
        if self.reads_graphql and any(match.method not in ("GET", "POST") for match in self.match):
            raise ValueError(f"route {self.id!r} is a GraphQL endpoint, which is asked with GET or POST")
        if self.websocket is not None:
            self._fits_websocket(self.websocket)
        if self.poll is not None and self.access != "account":
            raise ValueError(f"route {self.id!r} reads the state of jobs and therefore needs `access: account`")
        return self

    @property
    def sources(self) -> list[Source]:
        """Every place that the model and the units are read from."""
        sources: list[Source] = [self.model] if self.model is not None else []
        for unit in self.units.values():
            sources += [unit] if isinstance(unit, Source) else unit.product
        return sources

    @cached_property
    def reads_graphql(self) -> bool:
        """Whether its requests are those of a GraphQL endpoint."""
        return any(source.graphql is not None for source in self.sources)

    @property
    def _bodies(self) -> set[str]:
        """The kinds of bodies that the model and the units are read from."""
        return {kind for source in self.sources for kind in source.places if kind in BODIES}

    def _fits_websocket(self, websocket: WebSocket) -> None:
        if not any(match.method in ("GET", "*") for match in self.match):
            raise ValueError(f"route {self.id!r} matches no GET, which a WebSocket begins with")
        if self.reads_graphql:
            raise ValueError(f"route {self.id!r} has a `websocket`, whose messages are not read as GraphQL")
        if self.job is not None or self.poll is not None:
            raise ValueError(f"route {self.id!r} has a `websocket`; `job` and `poll` have no meaning with it")
        if self.access != "metered" and websocket.model_fields_set & {"charge", "counted", "block"}:
            raise ValueError(f"route {self.id!r} is not metered; nothing of a `websocket` is charged")
        if any(source.json_ is None or source.sum for source in self.usage.values()):
            raise ValueError(f"route {self.id!r}: the usage of a `websocket` is stated by one message, in its `json`")
        if (websocket.charge == "usage") != bool(self.usage):
            raise ValueError(f"route {self.id!r}: `usage` and a `websocket` with `charge: usage` need each other")
        if websocket.charge == "messages" and "messages" in self.units:
            raise ValueError(f"route {self.id!r}: the unit `messages` is counted; take it out of `units`")
        if websocket.charge != "messages" and "block" in websocket.model_fields_set:
            raise ValueError(f"route {self.id!r}: a `block` needs `charge: messages`")

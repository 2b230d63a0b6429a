"""The frozen values that the steps of a request hand down. Each step needs the one before, so no step can be skipped.

Incoming ──▶ Routed ──▶ Asked ──▶ Admitted ──▶ Held ──▶ Measured

Every request makes the first two, so they are tuples: made in a quarter of the time of a frozen dataclass.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from aiohttp import web

from config.routes import WebSocket
from policies.callers import Caller
from policies.evaluate import Allow
from policies.rulebook import Rulebook
from policies.terms import HoldId
from policies.values import value
from proxy.headers import HeaderList
from proxy.identity.credentials import Shown
from proxy.limiting import Pass
from proxy.paths import Target
from proxy.pipeline.multipart import MultipartReader
from proxy.pipeline.routing import CompiledRoute
from store.verbs import Hold

if TYPE_CHECKING:
    from proxy.pipeline.idempotency import Keeper


class Incoming(NamedTuple):
    """A request whose line and headers can be read in one way only. Its id is the id of its hold as well.

    `travelling` are those of the headers that the backend sees; what is judged is read from these.
    """

    request: web.BaseRequest
    id: HoldId
    id_text: str
    method: str
    target: Target
    headers: HeaderList
    travelling: HeaderList
    received_at: datetime
    websocket: bool = False
    """Whether it asks to become a WebSocket."""

    @property
    def shown(self) -> Shown:
        """What it shows of its sender."""
        return Shown(self.method, self.headers, self.request.remote)

    def values(self, name: str) -> list[str]:
        """All values of a header, in order."""
        return [value for key, value in self.headers if key.lower() == name]


class Routed(NamedTuple):
    """The request with its route."""

    incoming: Incoming
    route: CompiledRoute
    parameters: Mapping[str, str]

    @property
    def websocket(self) -> WebSocket | None:
        """How the connection is served, where it asks to become a WebSocket and may."""
        return self.route.websocket if self.incoming.websocket else None


@value
class Body:
    """A request body: the part that was read ahead, and whether that is all of it.

    `content` is what was read with its compression taken off, where it had one. `form` reads on while the rest of a
    form streams by.
    """

    peeked: bytes
    complete: bool
    content: bytes | None = None
    form: MultipartReader | None = None


@value
class Asked:
    """What is asked for: the model, and how much of it as far as the request tells."""

    routed: Routed
    body: Body
    model_key: str
    units: Mapping[str, Decimal]


@value
class Admitted:
    """Policy allows it and its limits have room. The same rulebook serves the request to its end."""

    asked: Asked
    caller: Caller
    allow: Allow
    rulebook: Rulebook
    passing: Pass


@value
class Held:
    """Its price is taken aside, durably. From here on, something has to end the hold.

    `asked_at` is the moment of the event loop at which the ledger was asked: the hold's deadline counts from later.
    """

    admitted: Admitted
    hold: Hold
    asked_at: float
    keeper: Keeper | None = None
    """Keeps the answer of a request with an idempotency key."""


@value
class Measured:
    """What the exchange consumed. `amount` is in the hold's unit; None means the quote."""

    amount: int | None
    units: Mapping[str, str]
    estimated: bool

"""One row of the table of endpoints, and the request as its handler sees it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from pydantic import BaseModel

from policies.callers import Caller
from policies.refusals import Reason, Refusal
from policies.terms import Scope
from proxy.management.shapes import Body, Query
from proxy.services import Services

AnyQuery = TypeVar("AnyQuery", bound=Query)
AnyBody = TypeVar("AnyBody", bound=Body)


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A request that was read and checked. `now` is the one moment that everything in its answer refers to."""

    identified: Caller | None
    parameters: Mapping[str, str]
    query: Query
    body: Body | None
    now: datetime

    @property
    def caller(self) -> Caller:
        """Who asks, with the account as it is stored at this moment."""
        assert self.identified is not None, "only public endpoints are served without a caller"
        return self.identified

    def query_as(self, kind: type[AnyQuery]) -> AnyQuery:
        assert isinstance(self.query, kind), "the endpoint's row in the table names this kind"
        return self.query

    def body_as(self, kind: type[AnyBody]) -> AnyBody:
        assert isinstance(self.body, kind), "the endpoint's row in the table names this kind"
        return self.body


Handler = Callable[[Services, ApiRequest], Awaitable[BaseModel | Refusal]]
"""May raise StoreUnavailable, and NotPossible for a change that the subscription's state does not allow."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`path` is below the mount. `response` is what the handler answers when it does not refuse."""

    method: str
    path: str
    handler: Handler
    summary: str
    response: type[BaseModel]
    query: type[Query] = Query
    body: type[Body] | None = None
    body_optional: bool = False
    status: int = 200
    changes: bool = False
    """Whether it changes something; asking what a change would cost does not."""
    public: bool = False
    """Served to anyone, whatever credential they send."""
    enveloped: bool = True
    """Whether `envelope` applies; a document with a format of its own is never wrapped."""
    refusals: tuple[Reason, ...] = ()
    """Why the handler refuses, beside the reasons that every endpoint has; no two of them with one status."""

    @property
    def name(self) -> str:
        """As it is written in `management.off`."""
        return f"{self.method} {self.path}"

    @property
    def scope(self) -> Scope:
        """What an API key needs for it."""
        return Scope.MANAGE if self.changes else Scope.READ

    @property
    def segments(self) -> tuple[str, ...]:
        return tuple(self.path[1:].split("/"))

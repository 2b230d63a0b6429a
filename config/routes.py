"""The routes of `farebox.yaml`: which requests there are, what they cost by, and where they go."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from config.extractors import AnswerSource, ModelSource, Settings, Source, Unit
from config.quantities import Duration

Identifier = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
UnitName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "*")
_SEGMENT = re.compile(r"\{[A-Za-z_][A-Za-z0-9_]*\}|\*\*|\*|[A-Za-z0-9._~!$&'()+,;=:@%-]+")


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


class Job(Settings):
    """The backend accepts the work now and ends it later. The hold stays until the job ends, or the deadline."""

    id: AnswerSource
    deadline: Duration
    on_deadline: Literal["release", "quote"] = "release"


Words = Annotated[list[str], BeforeValidator(lambda value: value if isinstance(value, list) else [value])]


class Poll(Settings):
    """A route whose answers tell how jobs of other routes ended. Reading it costs nothing."""

    of: Annotated[list[Identifier], BeforeValidator(lambda v: v if isinstance(v, list) else [v]), Field(min_length=1)]
    id: Source
    """The job's id: a `path` parameter of this request, or a `json` pointer into the answer or each of its items."""
    items: AnswerSource | None = None
    """For answers that list jobs: where the list stands; `id` and `status` then point into each item."""
    status: AnswerSource
    completed: Words
    failed: Words = []

    @model_validator(mode="after")
    def _id_can_be_found(self) -> Self:
        if set(self.id.places) - {"path", "json"}:
            raise ValueError("the id of a job is read from `path` or from `json`")
        if self.items is not None and self.id.path is not None:
            raise ValueError("with `items`, the id of each job is read from `json`, not from the path")
        return self


class Route(Settings):
    """One kind of request."""

    id: Identifier
    match: Matches
    upstream: Identifier
    access: Literal["metered", "account", "open"] = "metered"
    """`metered` is charged; `account` needs a caller and costs nothing; `open` is forwarded for anyone."""
    app: Identifier | None = None
    action: UnitName | None = None
    model: ModelSource | None = None
    units: dict[UnitName, Unit] = {}
    usage: dict[UnitName, AnswerSource] = {}
    job: Job | None = None
    poll: Poll | None = None
    errors: Literal["origin", "openai", "problem"] = "origin"
    on_abort: Literal["delivered", "quote", "release"] = "delivered"
    """When the client leaves mid-answer: settle what was measured so far (else the quote), the quote, or nothing."""
    on_crash: Literal["release", "quote"] = "release"
    """What becomes of the hold when Farebox itself died after forwarding."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.access == "metered" and (self.app is None or self.model is None):
            raise ValueError(f"route {self.id!r} is metered and therefore needs `app` and `model`")
        if self.access != "metered" and (self.model or self.units or self.usage or self.job):
            raise ValueError(f"route {self.id!r} is not metered; `model`, `units`, `usage` and `job` have no meaning")
        if self.poll is not None and self.access != "account":
            raise ValueError(f"route {self.id!r} reads the state of jobs and therefore needs `access: account`")
        return self

"""Jobs that finish later, in the settings: where their id stands, and the ways in which their end becomes known.

A job's end is told by whichever comes first: the answer to a client's poll, the backend's callback, the answer to a
question of Farebox's own, or the deadline. What they mean on real bytes is the business of `proxy.pipeline.jobs`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from config.extractors import AnswerSource, FieldName, Settings, Source, UnitName, UsageSource
from config.findings import did_you_mean
from config.quantities import Duration
from config.secrets import HeaderSecret
from config.upstreams import HeaderName
from config.yaml_source import PathKey

if TYPE_CHECKING:
    from config.routes import Route
    from config.settings import FareboxSettings

Identifier = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Words = Annotated[list[str], BeforeValidator(lambda value: value if isinstance(value, list) else [value])]

MIN_CALLBACK_SECRET = 32
"""Bytes: the addresses of all jobs are signed with it, and a shorter one could be guessed offline."""


class Part(Settings):
    """How many of a job's items were done, where a backend may do some of them: that share of the price is charged."""

    done: AnswerSource | None = None
    """The number of items that were done; needs `of`."""
    of: AnswerSource | None = None
    """The number of all items."""
    items: AnswerSource | None = None
    """Instead of the two numbers, the list of the items; needs `status` and `completed`."""
    status: AnswerSource | None = None
    """Where the state of an item stands in it."""
    completed: Words = []
    """The states of items that were done."""

    @model_validator(mode="after")
    def _counts_one_way(self) -> Self:
        numbers, listed = self.done is not None and self.of is not None, self.items is not None
        if numbers and not (listed or self.status or self.completed):
            return self
        if listed and self.status is not None and self.completed and self.done is None and self.of is None:
            return self
        raise ValueError("expected either `done` and `of`, or `items`, `status` and `completed`")


class States(Settings):
    """What a backend says of a job."""

    status: AnswerSource
    """Where the state of a job stands: a text."""
    completed: Annotated[Words, Field(min_length=1)]
    """States in which the job is charged."""
    failed: Words = []
    """States in which the job costs nothing. A state in neither list leaves the job open."""
    part: Part | None = None
    """For a job in a `completed` state, how much of it was done; without it, or where it cannot be read, all of it."""
    usage: dict[UnitName, UsageSource] = {}
    """For a job in a `completed` state, what it really used: makes the charge, as the usage of a route does."""

    @model_validator(mode="after")
    def _tells_one_thing(self) -> Self:
        if both := set(self.completed) & set(self.failed):
            raise ValueError(f"the state {min(both)!r} is both `completed` and `failed`")
        if self.part is not None and self.usage:
            raise ValueError("expected `part` or `usage`: a share of the price, or the price of what was used")
        if any(source.json_ is None or source.sum for source in self.usage.values()):
            raise ValueError("what a job has used is stated by one document, in its `json`")
        return self


class Poll(States):
    """A route whose answers tell how jobs of other routes ended. Reading it costs nothing."""

    of: Annotated[list[Identifier], BeforeValidator(lambda v: v if isinstance(v, list) else [v]), Field(min_length=1)]
    """Ids of the routes whose jobs it speaks of."""
    id: Source
    """The job's id: a `path` parameter of this request, or a `json` pointer into the answer or each of its items."""
    items: AnswerSource | None = None
    """For answers that list jobs: where the list stands; `id`, `status` and `part` then point into each item."""

    @model_validator(mode="after")
    def _tells_how_jobs_end(self) -> Self:
        if set(self.id.places) - {"path", "json"}:
            raise ValueError("the id of a job is read from `path` or from `json`")
        if self.items is not None and self.id.path is not None:
            raise ValueError("with `items`, the id of each job is read from `json`, not from the path")
        return self


class Watch(Settings):
    """Farebox asks the backend itself how a job stands, for clients that went away. The scheduler does it."""

    route: Identifier
    """The `poll` route that is asked, with GET; what it says counts as if a client had asked."""
    parameters: dict[FieldName, AnswerSource] = {}
    """Path parameters of that route other than the job's id: where the answer that accepted the job names each."""
    first: Duration = timedelta(seconds=30)
    """From the job's acceptance to the first question. Every further wait is twice as long as the one before."""
    longest: Duration = timedelta(minutes=10)
    """The longest wait between two questions."""
    headers: dict[HeaderName, HeaderSecret] = {}
    """Headers of the question, such as the `Authorization` of a service that may see every job."""
    issuer: Identifier | None = None
    """An issuer of `identity.jwt` in whose name each question is signed, for the user who started the job."""

    @model_validator(mode="after")
    def _one_credential(self) -> Self:
        if self.first > self.longest:
            raise ValueError("expected `first` to be at most `longest`")
        if self.issuer is not None and any(name.lower() == "authorization" for name in self.headers):
            raise ValueError("a question has one `Authorization`: leave out `issuer`, or that header")
        return self


class Callback(States):
    """The backend tells by itself how a job ended, at an address that `callbacks` defines: as JSON in a POST."""

    id: AnswerSource | None = None
    """Where the body names the job. Needed for backends that call one address for all their jobs."""


class Job(Settings):
    """The backend accepts the work now and ends it later. The hold stays until the job ends, or the deadline."""

    id: AnswerSource
    """Where the answer that accepts the job names it: a text or a whole number."""
    deadline: Duration
    """How long the job may take from its acceptance, until `on_deadline` ends its hold."""
    on_deadline: Literal["release", "quote"] = "release"
    """A job that nobody saw end by its deadline costs nothing, or what was quoted."""
    watch: Watch | None = None
    """Has Farebox ask how the job stands; without it nobody asks but the client."""
    callback: Callback | None = None
    """How the backend's own word on the end of the job is read; needs `callbacks`."""


def _base(url: str) -> str:
    if not url.startswith(("http://", "https://")) or any(not "!" <= character <= "~" for character in url):
        raise ValueError("expected http:// or https:// with a host")
    return url.rstrip("/")


class Callbacks(Settings):
    """Where backends tell how jobs ended. Requests for such jobs are forwarded with `X-Farebox-Callback`: an address
    for this one job, which nobody can make up.
    """

    url: Annotated[str, AfterValidator(_base)]
    """Where the backends reach the public listener: scheme, host and port."""
    secret: HeaderSecret
    """At least 32 bytes: signs the addresses, and is the bearer token of backends that call the same for all jobs."""
    mount: Annotated[str, StringConstraints(pattern=r"^(/[a-z0-9_-]+)+$")] = "/callbacks"
    """The path below which they are; it comes before routes of the same path."""

    @model_validator(mode="after")
    def _strong(self) -> Self:
        if len(self.secret.get_secret_value().encode()) < MIN_CALLBACK_SECRET:
            raise ValueError(f"the secret is shorter than {MIN_CALLBACK_SECRET} bytes")
        return self


def job_problems(values: FareboxSettings) -> Iterable[tuple[PathKey, str, str]]:
    """What jobs name and what is not there."""
    routes = {route.id: route for route in values.routes}
    issuers = {issuer.name: issuer for issuer in values.identity.jwt}
    for index, route in enumerate(values.routes):
        if route.job is None:
            continue
        place: PathKey = ("routes", index, "job")
        if route.job.callback is not None and values.callbacks is None:
            message = "a callback needs to know where Farebox is called: set `callbacks: {url: …, secret: …}`"
            yield (*place, "callback"), "no-callbacks", message
        watch = route.job.watch
        if watch is None:
            continue
        if watch.issuer is not None and watch.issuer not in issuers:
            message = f"no issuer {watch.issuer!r} in `identity.jwt`" + did_you_mean(watch.issuer, issuers)
            yield (*place, "watch", "issuer"), "unknown-issuer", message
        elif watch.issuer is not None and not issuers[watch.issuer].speaks_for_all:
            # Only its issuer can sign with a private key; and a prefix is not what a backend calls its users.
            message = f"the issuer {watch.issuer!r} needs a `secret` and no `user_prefix`, for tokens to be signed"
            yield (*place, "watch", "issuer"), "unusable-issuer", message
        yield from _watch_problems(route, watch, routes, (*place, "watch"))


def _watch_problems(
    route: Route, watch: Watch, routes: dict[str, Route], place: PathKey
) -> Iterable[tuple[PathKey, str, str]]:
    asked = routes.get(watch.route)
    if asked is None or asked.poll is None or route.id not in asked.poll.of:
        candidates = [other.id for other in routes.values() if other.poll is not None and route.id in other.poll.of]
        message = f"no route {watch.route!r} with a `poll` of {route.id!r}" + did_you_mean(watch.route, candidates)
        yield (*place, "route"), "unknown-route", message
        return
    match = asked.match[0]
    names = {segment[1:-1] for segment in match.segments if segment.startswith("{")}
    given = {*watch.parameters, *([asked.poll.id.path] if asked.poll.id.path is not None else [])}
    if match.method not in ("GET", "*") or "*" in match.segments or "**" in match.segments:
        message = f"{match}, the first pattern of {asked.id!r}, cannot be asked with GET"
        yield (*place, "route"), "cannot-ask", message
    elif names != given:
        message = f"{match} has the parameters {_list(names)}, and the job tells {_list(given)}; see `parameters`"
        yield (*place, "parameters") if watch.parameters else (*place, "route"), "unknown-parameter", message


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"

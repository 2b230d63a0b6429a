"""Everything in `farebox.yaml`, with its unit, its default and the reason for it.

Only `identity`, `upstreams` and `routes` have no default. Texts may contain `${NAME}`, replaced from the environment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints

from config.admin import MAX_CREDITS, Admin
from config.connections import Connections
from config.cors import Cors
from config.credits import Credits
from config.deadlines import deadline_problems
from config.documents import read_document
from config.extractors import Number, ProductSource, Settings, Source
from config.findings import InvalidDocument, did_you_mean
from config.identity import Identity
from config.jobs import Callbacks, Identifier, job_problems
from config.policy_settings import Decisions
from config.proxies import Proxies
from config.quantities import Address, Duration, ListenAddress, Size
from config.retention import Retention
from config.routes import Match, Route
from config.upstreams import Upstream
from config.yaml_source import PathKey, YamlSource


class Accounts(Settings):
    welcome_credits: Annotated[Number, Field(ge=0, le=MAX_CREDITS, decimal_places=6)] = Decimal(100)
    """Credits that a new account starts with, as a bonus grant."""


class Subscriptions(Settings):
    payment: Literal["operator", "immediate"] = "operator"
    """Who confirms payments: an operator or a payment adapter; `immediate` is for demonstrations."""
    grace: Duration = timedelta(days=7)
    """How long a subscription whose renewal is unpaid stays entitled."""
    unused_time: Literal["forfeit", "refund"] = "forfeit"
    """What an immediate cancellation does with paid time and credit: nothing is paid back, or it is quoted for that."""


def _database(url: str) -> str:
    """The text as it is. What a password does to a URL that holds it as it is, nobody else tells without telling it."""
    if not url.startswith(("sqlite+aiosqlite:///", "postgresql+asyncpg://")) or url.endswith("://"):
        raise ValueError("expected sqlite+aiosqlite:///FILE or postgresql+asyncpg://USER:PASSWORD@HOST/NAME")
    try:
        parts = urlsplit(url)
        readable = parts.netloc.count("@") < 2 and (parts.port or True)
    except ValueError:
        readable = False
    if not readable:
        raise ValueError("this is no URL; write characters such as @ : / ? # in a password as %40 %3A %2F %3F %23")
    return url


class Management(Settings):
    mount: Annotated[str, StringConstraints(pattern=r"^(/[a-z0-9_-]+)*$")] = "/api"
    """The path below which the endpoints are; they come before routes of the same path."""
    off: list[str] = []
    """Endpoints that are not served, by `METHOD /path` below the mount, because the backend has its own."""
    envelope: bool = False
    """Answers as {success, data}, as the origin's later clients expect, instead of the bare shapes."""


class Limits(Settings):
    peek: Size = 2**20
    """Bytes of a request body that are read ahead when its route reads the model or a unit from it."""
    measured: Size = 2**20
    """Bytes of an answer that are kept aside to read its usage from; a longer one settles the quote."""
    header: Size = 16 * 2**10
    """Bytes of one header line or request line: large tokens and cookies fit."""
    headers: Size = 64 * 2**10
    """Bytes of the request line and all headers together; some clients send many cookies."""
    headers_timeout: Duration = timedelta(seconds=20)
    """From a connection, or the first byte of a later request on it, until all headers are there."""
    body_timeout: Duration = timedelta(seconds=30)
    """How long a body may pause. One that comes slower than `slowest` uses this time up bit by bit."""
    answer_timeout: Duration = timedelta(minutes=1)
    """How long a client may take nothing of an answer that waits for it. One that is slower than `slowest` uses this
    time up bit by bit. An answer that is quiet itself may last."""
    slowest: Annotated[int, Field(ge=1, le=1_000_000)] = 240
    """Bytes in a second that bodies come with, and answers are taken with, at least: the worst modem is faster."""
    request_deadline: Duration = timedelta(minutes=10)
    """How long a hold lasts without a sign of life from its request's process; longer than backends may be silent."""


class Idempotency(Settings):
    keep: Duration = timedelta(days=1)
    """How long an `Idempotency-Key` counts: longer than any client goes on trying."""
    answer: Size = 64 * 2**10
    """Bytes of an answer's body that are kept to be repeated. To repeat a longer one is refused; nothing runs twice."""


class Log(Settings):
    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe lines that are written; every request is an `info` line."""
    format: Literal["text", "json"] = "text"
    """Lines for people, or one JSON object on each line."""


class FareboxSettings(Settings):
    """The whole file."""

    listen: ListenAddress = Address("127.0.0.1", 8080)
    """Where clients connect: the proxy and the management API."""
    admin: Admin = Admin()
    """The listener for operators, probes and metrics."""
    database: Annotated[str, AfterValidator(_database), Field(repr=False)] = "sqlite+aiosqlite:///farebox.db"
    """SQLAlchemy URL, maybe with a password. A relative SQLite path counts from the folder of the settings file."""
    policies: str | None = None
    """Folder of policy files, watched; without one the tier ladder is in force."""
    candidate: str | None = None
    """Folder of a policy that is asked beside the one in force, and only counted and logged."""
    decisions: Decisions = Decisions()
    """The record of decisions."""
    counters: Literal["memory", "database"] = "memory"
    """Where the limits of policies count: each process for itself, or in the database all of them together, which costs
    each call that has a limit one more transaction."""
    proxies: Proxies = Proxies()
    """Who stands in front of Farebox, and is believed about where requests come from."""
    identity: Identity
    """How callers prove who they are."""
    accounts: Accounts = Accounts()
    """What new accounts start with."""
    credits: Credits = Credits()
    """How credits are spent."""
    subscriptions: Subscriptions = Subscriptions()
    """How plans are paid."""
    upstreams: Annotated[dict[Identifier, Upstream], Field(min_length=1)]
    """Backends, by a name that routes use."""
    routes: Annotated[list[Route], Field(min_length=1, max_length=10_000)]
    """Which requests there are. The most specific path wins, whatever their order."""
    callbacks: Callbacks | None = None
    """Where backends tell how jobs ended; without it they cannot."""
    unmatched: Literal["refuse"] = "refuse"
    """What matches no route is answered with 404 and never forwarded."""
    cors: Cors | None = None
    """Whose pages may ask from other origins; without it, preflights are requests like others."""
    management: Management = Management()
    """The API for end users."""
    connections: Connections = Connections()
    """Bounds on what clients keep open."""
    http_parser: Literal["compiled", "any"] = "compiled"
    """`any` also starts with aiohttp's parser in Python, which is slower and accepts more than it should; where its
    compiled one is missing, a start is refused else."""
    limits: Limits = Limits()
    """Bounds on single requests."""
    idempotency: Idempotency = Idempotency()
    """What becomes of metered requests that are sent again with the same `Idempotency-Key`."""
    retention: Retention = Retention()
    """How long usage is kept, and where it goes then."""
    log: Log = Log()
    """What is written to standard error."""


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """The settings with the file they came from, so that later findings can be placed in it."""

    values: FareboxSettings
    source: YamlSource
    folder: Path

    @property
    def policies_folder(self) -> Path | None:
        return self.folder / self.values.policies if self.values.policies is not None else None

    @property
    def archive_folder(self) -> Path | None:
        return self.folder / self.values.retention.archive if self.values.retention.archive else None

    @property
    def candidate_folder(self) -> Path | None:
        return self.folder / self.values.candidate if self.values.candidate is not None else None

    @property
    def database_url(self) -> str:
        """The URL with a relative SQLite path made absolute."""
        scheme, separator, path = self.values.database.partition(":///")
        if not scheme.startswith("sqlite") or not path or path.startswith(("/", ":memory:")):
            return self.values.database
        return f"{scheme}{separator}{(self.folder / path).resolve()}"


def load_settings(path: Path, environment: Mapping[str, str]) -> LoadedSettings:
    """The settings of a file. Raises InvalidDocument with every finding."""
    values, source = read_document(path, FareboxSettings, environment)
    findings = [source.finding(where, code, message) for where, code, message in _cross_references(values)]
    if findings:
        raise InvalidDocument(sorted(findings, key=lambda finding: (finding.line, finding.column)))
    # Not resolved: where the file is a link, as in a mounted volume, what it names stands beside the link.
    return LoadedSettings(values, source, path.absolute().parent)


def _cross_references(values: FareboxSettings) -> Iterable[tuple[PathKey, str, str]]:
    """Names that have to exist elsewhere in the file, and routes that meet the same requests."""
    seen: dict[str, int] = {}
    jobs = [route.id for route in values.routes if route.job is not None]
    for index, route in enumerate(values.routes):
        if route.id in seen:
            yield ("routes", index, "id"), "duplicate-route", f"route id {route.id!r} is used twice"
        seen[route.id] = index
        if route.upstream not in values.upstreams:
            message = f"unknown upstream {route.upstream!r}" + did_you_mean(route.upstream, values.upstreams)
            yield ("routes", index, "upstream"), "unknown-upstream", message
        for position, name in enumerate(route.poll.of if route.poll else ()):
            if name not in jobs:
                message = f"no route {name!r} with a `job`" + did_you_mean(name, jobs)
                yield ("routes", index, "poll", "of", position), "unknown-route", message
        yield from _unknown_parameters(index, route)
    yield from _overlaps(values.routes)
    yield from deadline_problems(values)
    yield from job_problems(values)


def _unknown_parameters(index: int, route: Route) -> Iterable[tuple[PathKey, str, str]]:
    """Path parameters that an extractor reads and a pattern of the route does not have."""
    for where, source in _sources(route):
        name = source.path
        missing = [str(match) for match in route.match if name and f"{{{name}}}" not in match.segments]
        if missing:
            message = f"the path parameter {name!r} is not in {missing[0]}"
            yield ("routes", index, *where), "unknown-parameter", message


def _sources(route: Route) -> Iterable[tuple[PathKey, Source]]:
    """Everything that a route reads from requests, with its place in the route."""
    if route.model is not None:
        yield ("model",), route.model
    for name, unit in route.units.items():
        if isinstance(unit, ProductSource):
            yield from ((("units", name, "product", index), factor) for index, factor in enumerate(unit.product))
        else:
            yield ("units", name), unit
    if route.poll is not None:
        yield ("poll", "id"), route.poll.id


def _overlaps(routes: Iterable[Route]) -> Iterable[tuple[PathKey, str, str]]:
    """Two patterns that match exactly the same requests: which one wins would be an accident."""
    taken: dict[tuple[str, tuple[str, ...]], str] = {}
    for index, route in enumerate(routes):
        for position, match in enumerate(route.match):
            shape = (match.method, shape_of(match))
            if shape in taken:
                message = f"{match} matches the same requests as route {taken[shape]!r}"
                yield ("routes", index, "match", position), "overlapping-routes", message
            taken.setdefault(shape, route.id)


def shape_of(match: Match) -> tuple[str, ...]:
    """The path with its parameters made anonymous."""
    return tuple("*" if segment.startswith("{") else segment for segment in match.segments)

"""Step 1: from the settings' routes to the route of a request. Compiled once; a look-up does not grow with routes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from config.routes import Match, Route, WebSocket
from policies.refusals import Refusal, invalid_request, no_route
from proxy.paths import LONG, REMEMBERED, Found, PathTable, Target, lenient, without_format
from proxy.pipeline.graphql import load_library
from proxy.pipeline.usage import Wanted, wanted_of
from proxy.upstream.client import Upstream


@dataclass(frozen=True, slots=True)
class CompiledRoute:
    """A route with its upstream at hand and its JSON pointers parsed."""

    settings: Route
    upstream: Upstream
    reads_body: bool
    usage: tuple[Wanted, ...]
    reads_fields: frozenset[str] = frozenset()
    """The fields of a form in parts that decide; its files are not read."""
    asked: tuple[Match, str | None] | None = None
    """Of a route whose jobs are watched: the pattern that is asked, and which of its parameters is the job's id."""

    @property
    def id(self) -> str:
        return self.settings.id

    @property
    def websocket(self) -> WebSocket | None:
        """How its WebSockets are served. Where nothing is paid for, they pass without a word in the settings; but not
        where answers are read: a backend that grants none would give one that nobody has looked at.
        """
        unpaid = None if self.settings.access == "metered" or self.settings.poll is not None else WebSocket()
        return self.settings.websocket or unpaid

    @property
    def reads_answer(self) -> bool:
        """Whether what is charged depends on what the backend answers."""
        return bool(self.usage) or self.settings.job is not None or self.settings.poll is not None


class Routes:
    """All routes. Which one a request has depends on its method and path only, never on their order."""

    def __init__(self, routes: Sequence[Route], upstreams: dict[str, Upstream]) -> None:
        self._table: PathTable[CompiledRoute] = PathTable()
        # The same routes as a lenient backend reads their paths, several where it cannot tell them apart.
        self._lenient: PathTable[tuple[CompiledRoute, ...]] = PathTable()
        alike: dict[tuple[str, tuple[str, ...]], tuple[CompiledRoute, ...]] = {}
        known = {route.id: route for route in routes}
        if any(route.reads_graphql for route in routes):
            load_library()
        for route in known.values():
            compiled = CompiledRoute(
                route,
                upstreams[route.upstream],
                any(source.reads_body for source in route.sources),
                wanted_of(route.usage),
                frozenset(source.multipart for source in route.sources if source.multipart is not None),
                _asked(route, known),
            )
            for match in route.match:
                self._table.add(match.method, match.segments, compiled)
                key = match.method, lenient(match.segments)
                alike[key] = (*alike.get(key, ()), compiled)
        for (method, segments), those in alike.items():
            self._lenient.add(method, segments, those)
        self._remembered = lru_cache(REMEMBERED)(self._search)

    def find(self, method: str, target: Target) -> Found[CompiledRoute] | Refusal:
        """The route, with its path parameters. What matches no route is refused: there is no side door.

        Nor does another spelling open one: a path that a lenient backend would take for that of another route, such
        as `/V1/chat/` for `/v1/chat`, is refused unless that route is open to everybody.
        """
        return self._remembered(method, target) if len(target.raw) <= LONG else self._search(method, target)

    def _search(self, method: str, target: Target) -> Found[CompiledRoute] | Refusal:
        found = self._table.find(method, target.segments)
        if found is None:
            return no_route()
        loose = lenient(target.segments)
        # Whoever declares `/chat` and `/chat.json` has told them apart.
        declared = any(lenient(match.segments)[-1:] == loose[-1:] for match in found.value.settings.match)
        for spelling in (loose, loose if declared else without_format(loose)):
            other = self._lenient.find(method, spelling) if spelling != target.segments else None
            if other is not None and found.value not in other.value and not _all_open(other.value):
                error = "The request path could be taken for that of another route"
                return invalid_request(error, "path", f"Spell it as the route {other.value[0].id!r} does.")
        return found


def _all_open(routes: Iterable[CompiledRoute]) -> bool:
    return all(route.settings.access == "open" for route in routes)


def _asked(route: Route, known: Mapping[str, Route]) -> tuple[Match, str | None] | None:
    if route.job is None or route.job.watch is None:
        return None
    asked = known[route.job.watch.route]
    assert asked.poll is not None, "the settings name a route with a poll"
    return asked.match[0], asked.poll.id.path

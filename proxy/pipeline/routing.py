"""Step 1: from the settings' routes to the route of a request. Compiled once; a look-up does not grow with routes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from config.extractors import Source
from config.routes import Route
from policies.refusals import Refusal, no_route
from proxy.paths import Found, PathTable, Target
from proxy.strict_json import tokens
from proxy.upstream.client import Upstream


@dataclass(frozen=True, slots=True)
class CompiledRoute:
    """A route with its upstream at hand and its JSON pointers parsed."""

    settings: Route
    upstream: Upstream
    reads_body: bool
    usage: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def id(self) -> str:
        return self.settings.id


class Routes:
    """All routes. Which one a request has depends on its method and path only, never on their order."""

    def __init__(self, routes: Iterable[Route], upstreams: dict[str, Upstream]) -> None:
        self._table: PathTable[CompiledRoute] = PathTable()
        for route in routes:
            compiled = CompiledRoute(
                route,
                upstreams[route.upstream],
                _reads_body(route),
                tuple((name, tokens(source.json_)) for name, source in route.usage.items()),
            )
            for match in route.match:
                self._table.add(match.method, match.segments, compiled)

    def find(self, method: str, target: Target) -> Found[CompiledRoute] | Refusal:
        """The route, with its path parameters. What matches no route is refused: there is no side door."""
        return self._table.find(method, target.segments) or no_route()


def _reads_body(route: Route) -> bool:
    sources: list[Source] = [route.model] if route.model is not None else []
    for unit in route.units.values():
        sources += [unit] if isinstance(unit, Source) else unit.product
    return any(source.reads_body for source in sources)

"""What is wrong with policy documents that are valid in themselves: names that do not exist, things said twice.

Every finding is told at once, and any of them keeps a policy from being put in force; what is only doubtful is the
business of `doubts`. The reader of the files knows where they stand and turns both into lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from functools import cached_property
from typing import Any, Literal

from policies.conditions import BadCondition, When, parse
from policies.document import Exemption, Limit, PolicyFile, Rule
from policies.patterns import is_literal, matches
from policies.scope import AT_LEAST_MODEL, AtLeast, Mode, ModelAttributes, Scope, Who
from policies.selection import selector
from policies.terms import Catalogue, MeteredRoute, Tier

Path = tuple[str | int, ...]
Files = Sequence[tuple[str, PolicyFile]]
Zones = Callable[[str], tzinfo]
"""The time zone of a name. Raises ValueError, with a sentence for people, where there is none."""


def only_utc(name: str) -> tzinfo:
    """The zones that are known without looking anything up."""
    if name == "UTC":
        return UTC
    raise ValueError(f"unknown time zone {name!r}")


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding about a document, located by the path of keys and indices inside its file."""

    file: str
    path: Path
    code: str
    message: str
    candidates: tuple[str, ...] = ()
    """Names that exist where an unknown one was found; the reader may suggest the nearest."""
    found: str = ""
    """The unknown name."""
    offset: int = 0
    """Characters from the beginning of the value to what is wrong in it."""
    severity: Literal["error", "warning"] = "error"


@dataclass(frozen=True)
class Ground:
    """What a policy is about: what is for sale, and the metered routes; None where they are not known."""

    catalogue: Catalogue
    routes: tuple[MeteredRoute, ...] | None

    @cached_property
    def unit_names(self) -> frozenset[str] | None:
        """Every unit that some route reads."""
        return None if self.routes is None else frozenset(unit for route in self.routes for unit in route.units)

    @cached_property
    def sets(self) -> Mapping[str, Sequence[str]]:
        """The names that entries may use, by kind."""
        models = self.catalogue.models.values()
        return {
            "provider": sorted({model.provider for model in models}),
            "capability": sorted({name for model in models for name in model.capabilities}),
            "route": [route.route_id for route in self.routes or ()],
            "action": sorted({route.action for route in self.routes or ()}),
        }

    def routes_of(self, scope: Scope) -> list[MeteredRoute]:
        """The routes on which an entry may be about a call."""
        if not self.routes:
            return []
        selects = selector(scope).selects
        apps = {model.app for model in self.catalogue.models.values() if selects(model)}
        return [
            route
            for route in self.routes
            if route.app in apps
            and (scope.route is None or route.route_id in scope.route)
            and (scope.action is None or route.action in scope.action)
        ]


@dataclass(frozen=True)
class Settled:
    """What a policy says once for all of its entries."""

    tiers: tuple[Tier, ...]
    payg_tier: Tier
    overflow_to_credits: bool
    zone_name: str
    zones: Zones

    @cached_property
    def zone(self) -> tzinfo:
        """Raises ValueError for a zone that there is not."""
        return self.zones(self.zone_name)


def only(files: Files, key: str) -> Any:
    """The value of a setting that may be said in one file only; the first, where it is said twice."""
    return next((value for _, file in files if (value := getattr(file, key)) is not None), None)


def check(files: Files, settled: Settled, ground: Ground) -> list[Problem]:
    """Everything that is wrong."""
    problems = [*_said_twice(files), *_settings(files, settled), *_off_the_ladder(files, settled.tiers, ground)]
    seen: dict[str, str] = {}
    for name, file in files:
        for section, index, entry in file.entries:
            look = _Look(name, (section, index), settled, ground)
            problems += look.at_id(entry, seen)
            problems += look.at(entry)
    return problems or _nothing_allowed(files)


def _said_twice(files: Files) -> Iterable[Problem]:
    for key in ("tiers", "payg", "subscription", "timezone"):
        said = [name for name, file in files if getattr(file, key) is not None]
        for name in said[1:]:
            yield Problem(name, (key,), "said-twice", f"`{key}` is said in {said[0]} already; say it once")


def _settings(files: Files, settled: Settled) -> Iterable[Problem]:
    if settled.payg_tier not in settled.tiers:
        yield _unknown(_file_of(files, "payg"), ("payg", "tier"), "tier", settled.payg_tier, settled.tiers)
    try:
        _ = settled.zone
    except ValueError as error:
        yield Problem(_file_of(files, "timezone"), ("timezone",), "unknown-timezone", str(error))


def _file_of(files: Files, key: str) -> str:
    return next((name for name, file in files if getattr(file, key) is not None), "")


def _off_the_ladder(files: Files, tiers: Sequence[Tier], ground: Ground) -> Iterable[Problem]:
    """A model or plan of a tier that the ladder does not have could never be reached."""
    file = _file_of(files, "tiers")
    for model in ground.catalogue.models.values():
        if model.tier not in tiers:
            message = f"model {model.key} is of tier {model.tier!r}, which `tiers` does not have"
            yield Problem(file, ("tiers",), "unknown-tier", message, tuple(tiers), model.tier)
    for plan in ground.catalogue.plans:
        if plan.active and plan.tier not in tiers:
            message = f"plan {plan.plan_id} is of tier {plan.tier!r}, which `tiers` does not have"
            yield Problem(file, ("tiers",), "unknown-tier", message, tuple(tiers), plan.tier)


def _nothing_allowed(files: Files) -> list[Problem]:
    """Rules none of which allows anything would refuse everybody everything."""
    said = [(file, rule) for _, file in files for rule in file.rules]
    if not said or any(rule.allow and (rule.mode or file.mode) is Mode.ENFORCE for file, rule in said):
        return []
    file = next(name for name, file in files if file.rules)
    return [Problem(file, ("rules",), "nothing-allowed", "no rule allows anything: add an `allow: use` rule")]


def _unknown(file: str, path: Path, kind: str, name: str, known: Iterable[str]) -> Problem:
    return Problem(file, path, f"unknown-{kind}", f"unknown {kind} {name!r}", tuple(known), name)


@dataclass(frozen=True, slots=True)
class _Look:
    """A look at one entry."""

    file: str
    place: Path
    settled: Settled
    ground: Ground

    def _problem(self, path: Path, code: str, message: str, known: Iterable[str] = (), found: str = "") -> Problem:
        return Problem(self.file, (*self.place, *path), code, message, tuple(known), found)

    def at_id(self, entry: Rule | Exemption | Limit, seen: dict[str, str]) -> Iterable[Problem]:
        if entry.id in seen:
            kind = {"rules": "rule", "exemptions": "exemption", "limits": "limit"}[str(self.place[0])]
            message = f"{kind} id {entry.id!r} is used in {seen[entry.id]} already; every {kind} has its own"
            yield self._problem(("id",), f"duplicate-{kind}", message)
        seen.setdefault(entry.id, self.file)

    def at(self, entry: Scope) -> Iterable[Problem]:
        """Everything that is wrong with what the entry is about."""
        yield from self._who(entry.who, ("who",))
        yield from self._names(("app",), "app", entry.app, list(self.ground.catalogue.apps))
        if isinstance(entry.model, ModelAttributes):
            yield from self._attributes(entry.model)
        else:
            yield from self._patterns(entry.model or ())
        if self.ground.routes is not None:
            yield from self._names(("action",), "action", entry.action, self.ground.sets["action"])
            yield from self._names(("route",), "route", entry.route, self.ground.sets["route"])
        if entry.when is not None:
            yield from self._when(entry, entry.when)

    def _names(self, path: Path, kind: str, names: Sequence[str] | None, known: Sequence[str]) -> Iterable[Problem]:
        for index, name in enumerate(names or ()):
            if name not in known:
                yield _unknown(self.file, (*self.place, *path, index), kind, name, known)

    def _who(self, who: Who, path: Path) -> Iterable[Problem]:
        tiers = self.settled.tiers
        if isinstance(who.tier, AtLeast):
            if who.tier.at_least not in tiers:
                yield _unknown(self.file, (*self.place, *path, "tier", "at_least"), "tier", who.tier.at_least, tiers)
        else:
            ladder = (AT_LEAST_MODEL,) if path == ("who",) else ()
            yield from self._names((*path, "tier"), "tier", who.tier, [*tiers, *ladder])
        if who.not_ is not None:
            yield from self._who(who.not_, (*path, "not"))

    def _patterns(self, patterns: Sequence[str]) -> Iterable[Problem]:
        models = self.ground.catalogue.models
        for index, pattern in enumerate(patterns):
            if pattern not in models and not any(matches(key, pattern) for key in models):
                what = "unknown model" if is_literal(pattern) else "no model of the catalogue fits"
                yield self._problem(("model", index), "unknown-model", f"{what} {pattern!r}", models, pattern)

    def _attributes(self, wanted: ModelAttributes) -> Iterable[Problem]:
        yield from self._names(("model", "tier"), "tier", wanted.tier, self.settled.tiers)
        yield from self._names(("model", "provider"), "provider", wanted.provider, self.ground.sets["provider"])
        known = self.ground.sets["capability"]
        for index, name in enumerate(wanted.capability or ()):
            if name not in known:
                message = f"no model has the capability {name!r}"
                yield self._problem(("model", "capability", index), "unknown-capability", message, known, name)

    def _when(self, entry: Scope, text: str) -> Iterable[Problem]:
        try:
            when = parse(text, self.ground.unit_names)
        except BadCondition as error:
            code = "unknown-name" if error.known else "invalid-condition"
            place = (*self.place, "when")
            yield Problem(self.file, place, code, str(error), error.known, error.found, offset=error.offset)
            return
        yield from self._unread_units(entry, when)

    def _unread_units(self, entry: Scope, when: When) -> Iterable[Problem]:
        """On a route that does not read a unit, a condition on it is never known, and a denial would always hold."""
        for route in self.ground.routes_of(entry) if when.units else ():
            for unit in sorted(when.units - route.units.keys()):
                message = f"route {route.route_id!r} does not read the unit {unit!r}; say `app` or `route` as well"
                yield self._problem(("when",), "unread-unit", message)
                return

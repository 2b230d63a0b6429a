"""The rulebook in force: compiled from the policy folder and the catalogue, replaced as one reference.

A bad file changes nothing: the last good policy stays in force, and what is wrong is kept for the log, `/readyz`
and the metrics. The catalogue may change beside it: what is switched off is off, whatever is being edited. A request
holds one rulebook from its evaluation to its record.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from math import prod
from pathlib import Path

from config.documents import read_document
from config.extractors import ProductSource, UnitSource
from config.findings import Finding, InvalidDocument, did_you_mean
from config.routes import Route
from config.time_zones import zone_named
from config.yaml_source import YamlSource
from policies.checks import Problem
from policies.document import PolicyFile
from policies.proof import disagreement
from policies.rulebook import Rulebook, compile_rulebook
from policies.terms import Catalogue, MeteredRoute, UnitRange

log = logging.getLogger(__name__)

Routes = tuple[MeteredRoute, ...]


@dataclass(frozen=True, slots=True)
class RulebookStatus:
    """For operators: what is in force, since when, and what stands in the way of what is on disk."""

    revision: str
    loaded_at: datetime
    using_last_good: bool
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """The files of a policy, each of which is valid in itself, with where they were read from."""

    files: tuple[tuple[str, PolicyFile], ...]
    sources: Mapping[str, YamlSource]


class Rulebooks:
    """Holds the current rulebook. `current` is one attribute read; `reload` is called by the watcher."""

    def __init__(self, folder: Path | None, catalogue: Catalogue, now: datetime, routes: Routes | None = None) -> None:
        """Raises InvalidDocument when there is no valid policy: nothing may be forwarded without one."""
        self._folder = folder
        self._routes = routes
        self._fingerprint = fingerprint(folder)
        self._policy = read_policy(folder)
        self._catalogue_revision = catalogue.revision
        self.current: Rulebook = compiled(self._policy, catalogue, routes)
        self._loaded_at = now
        self._findings: tuple[Finding, ...] = ()

    @property
    def status(self) -> RulebookStatus:
        return RulebookStatus(self.current.revision, self._loaded_at, bool(self._findings), self._findings)

    def changed_on_disk(self) -> bool:
        return fingerprint(self._folder) != self._fingerprint

    def knows(self, catalogue_revision: int) -> bool:
        """Whether that catalogue was the last one to be put in force, or tried."""
        return catalogue_revision == self._catalogue_revision

    def reload(self, catalogue: Catalogue, now: datetime) -> tuple[Finding, ...]:
        """Put what is on disk in force, or keep the policy that is and return what is wrong."""
        self._fingerprint, self._catalogue_revision = fingerprint(self._folder), catalogue.revision
        try:
            policy = read_policy(self._folder)
            rulebook = compiled(policy, catalogue, self._routes)
        except InvalidDocument as error:
            self._findings = error.findings
            log.error("policy not changed, the last good one stays in force:\n%s", error)
            self._recompile(catalogue, now)
            return error.findings
        self._policy, self._findings = policy, ()
        for doubt in doubts_of(policy, rulebook):
            log.warning("%s", doubt)
        self._put_in_force(rulebook, now)
        return ()

    def _recompile(self, catalogue: Catalogue, now: datetime) -> None:
        """The last good policy for a catalogue that may be new, unless they do not fit together."""
        try:
            self._put_in_force(compiled(self._policy, catalogue, self._routes), now)
        except InvalidDocument as error:
            log.error("catalogue not changed, the last good policy does not fit it:\n%s", error)

    def _put_in_force(self, rulebook: Rulebook, now: datetime) -> None:
        if rulebook.revision != self.current.revision:
            log.info("policy %s is in force, after %s", rulebook.revision, self.current.revision)
            self.current, self._loaded_at = rulebook, now


def policy_files(folder: Path) -> list[Path]:
    """The files of a policy, in the order in which they are read."""
    return sorted(path for path in folder.glob("*.y*ml") if path.suffix in (".yaml", ".yml"))


def fingerprint(folder: Path | None) -> str:
    """Changes with the content of any policy file. Content, not times: editors rename, symlinks are swapped."""
    digest = hashlib.sha256()
    for path in policy_files(folder) if folder is not None else ():
        try:
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
        except OSError:
            # Gone between listing and reading: whatever is there next will differ.
            digest.update(b"gone")
    return digest.hexdigest()


def load_rulebook(folder: Path | None, catalogue: Catalogue, routes: Routes | None = None) -> Rulebook:
    """The compiled policy of a folder. Raises InvalidDocument with every finding in every file."""
    return compiled(read_policy(folder), catalogue, routes)


def read_policy(folder: Path | None) -> Policy:
    """The files of a folder; none where the built-in policy is in force. Raises InvalidDocument."""
    sources: dict[str, YamlSource] = {}
    files: list[tuple[str, PolicyFile]] = []
    findings: list[Finding] = []
    for path in policy_files(folder) if folder is not None else ():
        try:
            document, source = read_document(path, PolicyFile)
        except InvalidDocument as error:
            findings += error.findings
            continue
        sources[source.file] = source
        files.append((source.file, document))
    if folder is not None and not files and not findings:
        message = "there are no policy files (*.yaml) in this folder; without `policies` the tier ladder is in force"
        findings.append(Finding(str(folder), 1, 1, "no-policy", message))
    if findings:
        raise InvalidDocument(findings)
    return Policy(tuple(files), sources)


def compiled(policy: Policy, catalogue: Catalogue, routes: Routes | None = None) -> Rulebook:
    """A policy for a catalogue and routes. Raises InvalidDocument when they do not fit together."""
    rulebook = compile_rulebook(list(policy.files), catalogue, routes, zone_named)
    if isinstance(rulebook, Rulebook):
        difference = disagreement(rulebook)
        if difference is None:
            return rulebook
        # Ours to mend and nobody else's; until then the policy before it stays in force.
        log.error("a policy is not put in force, since it cannot be trusted: %s", difference)
        raise InvalidDocument([Finding("policy", 1, 1, "table-differs", difference)])
    raise InvalidDocument([_finding(problem, policy.sources) for problem in rulebook])


def doubts_of(policy: Policy, rulebook: Rulebook) -> list[Finding]:
    """What is doubtful about a policy that is valid, where it stands."""
    return [_finding(doubt, policy.sources) for doubt in rulebook.doubts]


def metered_routes(routes: Sequence[Route]) -> Routes:
    """What policies have to know of the routes of the settings."""
    return tuple(
        MeteredRoute(route.id, route.action or route.id, route.app or "", _units(route))
        for route in routes
        if route.access == "metered"
    )


def _units(route: Route) -> dict[str, UnitRange]:
    return {name: _range(unit) for name, unit in route.units.items()}


def _range(unit: UnitSource | ProductSource) -> UnitRange:
    if isinstance(unit, UnitSource):
        return UnitRange(unit.min, unit.max, unit.optional and unit.default is None)
    factors = [_range(factor) for factor in unit.product]
    least, most = (prod((getattr(factor, end) for factor in factors), start=Decimal(1)) for end in ("least", "most"))
    return UnitRange(least, most, any(factor.optional for factor in factors))


def _finding(problem: Problem, sources: Mapping[str, YamlSource]) -> Finding:
    message = problem.message + (did_you_mean(problem.found, problem.candidates) if problem.candidates else "")
    source = sources.get(problem.file)
    if source is None:
        return Finding(problem.file or "built-in policy", 1, 1, problem.code, message)
    found = source.finding(problem.path, problem.code, message, offset=problem.offset)
    return replace(found, severity=problem.severity)

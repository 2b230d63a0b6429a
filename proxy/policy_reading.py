"""The files of a policy: read, fingerprinted, and compiled for a catalogue and the routes of the settings.

`config.documents` knows lines and `policies` knows paths of keys; here both become findings that stand somewhere.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from math import prod
from pathlib import Path

from config.documents import parse_document, read_document
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
from store.policy_history import Source

log = logging.getLogger(__name__)

Routes = tuple[MeteredRoute, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """The files of a policy, with where they were read from.

    Where there are `findings` it is what is left of files with mistakes in them, to be looked at for others, and is not
    compiled.
    """

    files: tuple[tuple[str, PolicyFile], ...]
    sources: Mapping[str, YamlSource]
    findings: tuple[Finding, ...] = ()

    @property
    def texts(self) -> Source:
        """What the files say, by name, to be kept."""
        return tuple((Path(name).name, self.sources[name].text) for name, _ in self.files)


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
    paths = policy_files(folder) if folder is not None else []
    if folder is not None and not paths:
        message = "there are no policy files (*.yaml) in this folder; without `policies` the tier ladder is in force"
        raise InvalidDocument([Finding(str(folder), 1, 1, "no-policy", message)])
    return _read([partial(read_document, path, PolicyFile) for path in paths])


def kept_policy(texts: Source) -> Policy:
    """A policy that was put in force once, from its texts. Raises InvalidDocument."""
    return _read([partial(parse_document, name, text, PolicyFile) for name, text in texts])


def _read(readers: Sequence[Callable[[], tuple[PolicyFile, YamlSource]]]) -> Policy:
    """Every file, or what is left of it. Raises InvalidDocument where nothing of one can be looked at further."""
    sources: dict[str, YamlSource] = {}
    files: list[tuple[str, PolicyFile]] = []
    findings: list[Finding] = []
    lost = False
    for read in readers:
        try:
            document, source = read()
        except InvalidDocument as error:
            findings += error.findings
            if error.rest is None:
                lost = True
                continue
            document, source = error.rest
        sources[source.file] = source
        files.append((source.file, document))
    if lost:
        # A name that is unknown now may be said in what could not be read.
        raise InvalidDocument(findings)
    return Policy(tuple(files), sources, tuple(findings))


def compiled(policy: Policy, catalogue: Catalogue, routes: Routes | None = None) -> Rulebook:
    """A policy for a catalogue and routes. Raises InvalidDocument when they do not fit together."""
    rulebook = compile_rulebook(list(policy.files), catalogue, routes, zone_named)
    if policy.findings:
        problems = [] if isinstance(rulebook, Rulebook) else rulebook
        found = [*policy.findings, *(_finding(problem, policy.sources) for problem in problems)]
        raise InvalidDocument(sorted(found, key=lambda finding: (finding.file, finding.line, finding.column)))
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
        return UnitRange(unit.min, unit.most, unit.optional and unit.default is None)
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

"""Seed files read together and checked against each other: every finding in every file at once.

Called by the loader, and by `farebox check`, which reads without loading.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from config.documents import read_document
from config.findings import Finding, InvalidDocument, did_you_mean
from config.yaml_source import PathKey, YamlSource
from policies.rulebook import DEFAULT_TIERS
from seeds.documents import AppSeed, CatalogueFile, DemoFile, ModelSeed, PlanSeed, UserSeed

_FOLDER = Path(__file__).parent


def default_files() -> tuple[Path, ...]:
    """The catalogue that comes with Farebox."""
    return _FOLDER / "plans.yaml", _FOLDER / "apps.yaml", _FOLDER / "models.yaml"


def demo_file() -> Path:
    """What the demo adds to the catalogue that comes with Farebox."""
    return _FOLDER / "demo.yaml"


@dataclass(frozen=True, slots=True)
class Seeds:
    """Everything that a set of files says, without contradictions. Only the demo disables models and has users."""

    plans: tuple[PlanSeed, ...]
    apps: tuple[AppSeed, ...]
    models: tuple[ModelSeed, ...]
    disabled_models: frozenset[str] = frozenset()
    users: tuple[UserSeed, ...] = ()


@dataclass(frozen=True, slots=True)
class _Entry:
    """One plan, app, model or user, and where it stands."""

    kind: str
    key: str
    source: YamlSource
    path: PathKey


def read_seeds(files: Sequence[Path], tiers: Sequence[str] = DEFAULT_TIERS, apps: Iterable[str] = ()) -> Seeds:
    """The catalogue of `files`. Raises InvalidDocument with every finding.

    `tiers` is the ladder of the policy, `apps` are those that there are without the files.
    """
    documents = _read([(path, CatalogueFile) for path in files])
    _check(documents, tiers, apps)
    return _together([document for document, _ in documents])


def read_demo() -> Seeds:
    """The catalogue that comes with Farebox, with what the demo has on top."""
    documents = _read([*((path, CatalogueFile) for path in default_files()), (demo_file(), DemoFile)])
    _check(documents, DEFAULT_TIERS, ())
    seeds = _together([document for document, _ in documents])
    demo = documents[-1][0]
    assert isinstance(demo, DemoFile), "the demo's file is the last one"
    return Seeds(seeds.plans, seeds.apps, seeds.models, frozenset(demo.disabled_models), tuple(demo.users))


_Documents = list[tuple[CatalogueFile, YamlSource]]


def _read(files: Iterable[tuple[Path, type[CatalogueFile]]]) -> _Documents:
    documents: _Documents = []
    findings: list[Finding] = []
    for path, shape in files:
        try:
            documents.append(read_document(path, shape))
        except InvalidDocument as error:
            findings += error.findings
    if findings:
        raise InvalidDocument(findings)
    return documents


def _together(documents: Sequence[CatalogueFile]) -> Seeds:
    return Seeds(
        plans=tuple(plan for document in documents for plan in document.plans),
        apps=tuple(app for document in documents for app in document.apps),
        models=tuple(model for document in documents for model in document.models),
    )


def _check(documents: _Documents, tiers: Sequence[str], apps: Iterable[str]) -> None:
    """Raises InvalidDocument for names that are used twice, or that do not exist."""
    seeds = _together([document for document, _ in documents])
    known_apps = [*(app.id for app in seeds.apps), *apps]
    findings = list(_duplicates(documents))
    for document, source in documents:
        findings += (
            source.finding(path, f"unknown-{kind}", f"unknown {kind} {name!r}" + did_you_mean(name, known))
            for path, kind, name, known in _references(document, seeds, tiers, known_apps)
            if name not in known
        )
    if findings:
        raise InvalidDocument(sorted(findings, key=lambda finding: (finding.file, finding.line, finding.column)))


def _duplicates(documents: _Documents) -> Iterable[Finding]:
    first: dict[tuple[str, str], str] = {}
    for entry in (entry for document, source in documents for entry in _entries(document, source)):
        place = entry.source.finding(entry.path, "", "")
        if (entry.kind, entry.key) in first:
            message = f"{entry.kind} {entry.key!r} is given in {first[entry.kind, entry.key]} already; keep one of them"
            yield entry.source.finding(entry.path, f"duplicate-{entry.kind}", message)
        first.setdefault((entry.kind, entry.key), f"{place.file}:{place.line}")


def _entries(document: CatalogueFile, source: YamlSource) -> Iterable[_Entry]:
    for index, plan in enumerate(document.plans):
        yield _Entry("plan", plan.id, source, ("plans", index, "id"))
    for index, app in enumerate(document.apps):
        yield _Entry("app", app.id, source, ("apps", index, "id"))
    for index, model in enumerate(document.models):
        yield _Entry("model", model.key, source, ("models", index, "key"))
    for index, user in enumerate(document.users if isinstance(document, DemoFile) else ()):
        yield _Entry("user", user.id, source, ("users", index, "id"))


def _references(
    document: CatalogueFile, seeds: Seeds, tiers: Sequence[str], apps: Sequence[str]
) -> Iterable[tuple[PathKey, str, str, Sequence[str]]]:
    """Every name that has to exist elsewhere: where it stands, its kind, the name, and the names that exist."""
    for index, plan in enumerate(document.plans):
        yield ("plans", index, "tier"), "tier", plan.tier, tiers
        yield ("plans", index, "max_model_tier"), "tier", plan.max_model_tier, tiers
    for index, model in enumerate(document.models):
        yield ("models", index, "tier"), "tier", model.tier, tiers
        yield ("models", index, "key"), "app", app_of(model.key), apps
    if isinstance(document, DemoFile):
        plans, models = [plan.id for plan in seeds.plans], [model.key for model in seeds.models]
        for index, key in enumerate(document.disabled_models):
            yield ("disabled_models", index), "model", key, models
        for index, user in enumerate(document.users):
            if user.plan is not None:
                yield ("users", index, "plan"), "plan", user.plan, plans


def app_of(model_key: str) -> str:
    """The app that a model belongs to: what stands before the first colon of its key."""
    return model_key.partition(":")[0]

"""`farebox check`: everything that can be wrong before a start, told at once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from proxy.cli.failures import REFUSED
from proxy.cli.invocation import Invocation, common, example
from proxy.cli.output import show

if TYPE_CHECKING:
    from config.findings import Finding
    from config.settings import LoadedSettings
    from proxy.cli.catalogues import AtHand


FORMATS = ("text", "json", "sarif", "github")


@dataclass
class Report:
    """What was looked at, with a remark for each, and everything that was found wrong."""

    checked: list[dict[str, str]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def add(self, what: str, result: str) -> None:
        self.checked.append({"what": what, "result": result})

    def look(self, what: str, work: Callable[[], str]) -> None:
        """Do a piece of checking that returns a remark, or raises InvalidDocument."""
        from config.findings import InvalidDocument

        try:
            self.add(what, work())
        except InvalidDocument as error:
            self.find(error.findings)
            self.add(what, f"{len(error.findings)} findings")

    def find(self, findings: Iterable[Finding]) -> None:
        self.findings += [finding for finding in findings if finding not in self.findings]

    def fails(self, strict: bool) -> bool:
        return any(strict or finding.is_error for finding in self.findings)


@click.command(epilog=example("check", "check --policies next/", "check --config staging.yaml --json"))
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="text",
    show_default=True,
    help="How findings are told: for people, as JSON, as SARIF 2.1.0, or as annotations of a CI run.",
)
@click.option("--strict", is_flag=True, help="Fail on warnings as well.")
@click.option("--policies", type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Check this folder of policies instead of that of the settings.")  # fmt: skip
@click.argument("seeds", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path),
                help="Seed files to check as well.")  # fmt: skip
@common
def check(invocation: Invocation, seeds: tuple[Path, ...], policies: Path | None, form: str, strict: bool) -> None:
    """Validates settings, policies, seeds and the database schema. Changes nothing.

    Every finding is told, as file:line:column: code: message. Policies are checked against the routes of the settings
    and the catalogue of the database, or of the seeds that come with Farebox while there is none.
    """
    report = asyncio.run(_check(invocation.existing_config(), seeds, policies))
    _tell(report, "json" if invocation.json else form, strict)
    if report.fails(strict):
        click.get_current_context().exit(REFUSED)


def _tell(report: Report, form: str, strict: bool) -> None:
    from proxy.cli.findings_formats import ci_annotations, sarif

    if form == "json":
        findings = [finding.as_json() for finding in report.findings]
        show({"ok": not report.fails(strict), "checked": report.checked, "findings": findings}, as_json=True)
    elif form == "sarif":
        click.echo(sarif(report.findings))
    elif form == "github":
        click.echo(ci_annotations(report.findings), nl=bool(report.findings))
    else:
        for finding in report.findings:
            click.echo(str(finding), err=True)
        answer: dict[str, Any] = {"checked": report.checked}
        show(answer, as_json=False)


async def _check(config: Path, seeds: tuple[Path, ...], policies: Path | None) -> Report:
    from proxy.cli import catalogues

    report = Report()
    settings = _settings(config, report)
    folder = policies or (settings.policies_folder if settings else _folder_named_in(config))
    at_hand = await _stored(settings, report) if settings else None
    at_hand = at_hand or await catalogues.packaged()

    report.look("policies", lambda: _policies(folder, at_hand, settings, report))
    candidate = settings.candidate_folder if settings else None
    if candidate is not None:
        report.look("candidate", lambda: _policies(candidate, at_hand, settings, report))
    report.look("seeds", lambda: _seeds(folder, seeds))
    return report


def _settings(config: Path, report: Report) -> LoadedSettings | None:
    from config.findings import InvalidDocument
    from config.settings import load_settings

    try:
        settings = load_settings(config, os.environ)
    except InvalidDocument as error:
        report.findings += error.findings
        report.add("settings", f"{len(error.findings)} findings")
        return None
    from config import job_doubts
    from proxy import installation
    from proxy.identity import jwks, keys
    from proxy.management.endpoints import findings_of
    from proxy.upstream import trust

    report.findings += [*findings_of(settings), *trust.findings_of(settings)]
    report.findings += [*keys.findings_of(settings), *jwks.findings_of(settings), *job_doubts.findings_of(settings)]
    for trouble in installation.troubles(settings.values.http_parser):
        report.findings.append(settings.source.finding(("http_parser",), "installation", trouble))
    folder = settings.archive_folder
    if folder is not None and not folder.is_dir():
        message = f"there is no folder {folder}; make it, on a disk that stays and that every scheduler sees"
        report.findings.append(settings.source.finding(("retention", "archive"), "missing-folder", message))
    report.add("settings", f"{len(settings.values.routes)} routes, {len(settings.values.upstreams)} upstreams")
    return settings


def _policies(folder: Path | None, at_hand: AtHand, settings: LoadedSettings | None, report: Report) -> str:
    from proxy.policy_reading import compiled, doubts_of, metered_routes, read_policy

    routes = metered_routes(settings.values.routes) if settings is not None else None
    policy = read_policy(folder)
    rulebook = compiled(policy, at_hand.catalogue, routes)
    report.find(doubts_of(policy, rulebook))
    return f"revision {rulebook.revision}, {len(rulebook.rules.entries)} rules, checked against {at_hand.origin}"


def _seeds(folder: Path | None, seeds: tuple[Path, ...]) -> str:
    """The seed files that were named, with the tiers of the policy; otherwise those that come with Farebox."""
    from proxy.cli.catalogues import tiers_of
    from seeds.reading import default_files, read_seeds

    if seeds:
        read_seeds(seeds, tiers_of(folder))
    else:
        read_seeds(default_files())
    return f"{len(seeds or default_files())} files"


async def _stored(settings: LoadedSettings, report: Report) -> AtHand | None:
    """The catalogue of the database, with a finding when the database cannot be used as it is."""
    from proxy.cli import catalogues
    from store.engine import StoreUnavailable
    from store.schema import SchemaOutdated

    if catalogues.is_missing(settings):
        report.add("schema", "no database yet; the first start makes it")
        return None
    try:
        found = await catalogues.stored(settings)
    except SchemaOutdated as error:
        report.findings.append(settings.source.finding(("database",), "schema-outdated", str(error)))
    except StoreUnavailable as error:
        report.findings.append(settings.source.finding(("database",), "store-unavailable", str(error)))
    else:
        report.add("schema", "up to date" if found else "up to date; nothing is for sale yet, run: farebox seed")
        return found
    report.add("schema", "1 finding")
    return None


def _folder_named_in(config: Path) -> Path | None:
    """The policy folder of settings that are invalid otherwise, as far as it can be read."""
    from config.findings import InvalidDocument
    from config.yaml_source import read_yaml

    try:
        data = read_yaml(config, os.environ).data
    except InvalidDocument:
        return None
    named = data.get("policies") if isinstance(data, dict) else None
    return config.resolve().parent / named if isinstance(named, str) else None

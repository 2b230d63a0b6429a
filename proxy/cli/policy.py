"""`farebox policy`: cases for a policy, the reasons of a decision, and the schemas for editors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from proxy.cli.failures import REFUSED
from proxy.cli.invocation import Invocation, common, example
from proxy.cli.output import progress_bar, show, terminal
from proxy.cli.verbs import Noun

if TYPE_CHECKING:
    from config.findings import Finding
    from policies.rulebook import Rulebook
    from proxy.operations.policy_cases import Outcome

MAX_REPLAYED = 1_000_000
REPLAY_PAGE = 5_000

policy = Noun(
    "policy",
    "Tests policies and explains their decisions.",
    ["policy test cases/*.yaml", "policy explain user-1001 video-generator:veo3"],
)


@policy.command(
    "test",
    epilog=example("policy test policies/tests/*.yaml", "policy test --policies new/ --junit report.xml ladder.yaml"),
)
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
                help="Files of cases.")  # fmt: skip
@click.option(
    "--policies",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Test this folder instead of that of the settings; without a settings file, on Farebox's own catalogue.",
)
@click.option("--junit", "junit_file", type=click.Path(dir_okay=False, path_type=Path),
              help="Write the outcomes into this file as JUnit XML as well.")  # fmt: skip
@click.option("--coverage", is_flag=True, help="Fail when a rule decides no case.")
@common
def test(
    invocation: Invocation, files: Sequence[Path], policies: Path | None, junit_file: Path | None, coverage: bool
) -> None:
    """Tries policy cases on a policy: callers on models, with the expected decision, rule, price and funding.

    Every caller is tried on every model, and what no case lists is expected to be refused. Where rules ask about
    actions or routes, that is so for every route.
    """
    rulebook, outcomes = asyncio.run(_run(invocation, files, policies))
    from proxy.operations.policy_cases import as_json, untried_rules

    failed = [outcome for outcome in outcomes if not outcome.passed]
    untried = untried_rules(outcomes, rulebook)
    answer = {
        "ok": not failed and not (coverage and untried),
        "tried": len(outcomes),
        "failed": len(failed),
        "policy_revision": rulebook.revision,
        "rules_without_a_case": untried,
    }
    if junit_file is not None:
        from proxy.cli.junit import junit

        junit_file.write_text(junit(outcomes), "utf-8")
    if invocation.json:
        show({**answer, "outcomes": [as_json(outcome) for outcome in outcomes]}, as_json=True)
    else:
        _print(answer, outcomes)
    if not answer["ok"]:
        click.get_current_context().exit(REFUSED)


async def _run(invocation: Invocation, files: Sequence[Path], policies: Path | None) -> tuple[Rulebook, list[Outcome]]:
    from config.findings import InvalidDocument
    from proxy.cli.catalogues import packaged, stored
    from proxy.operations.policy_cases import run_cases
    from proxy.policy_reading import load_rulebook, metered_routes

    if policies is not None and not invocation.config.is_file():
        rulebook = load_rulebook(policies, (await packaged()).catalogue)
    else:
        settings = invocation.settings()
        at_hand = await stored(settings) or await packaged()
        routes = metered_routes(settings.values.routes)
        rulebook = load_rulebook(policies or settings.policies_folder, at_hand.catalogue, routes)
    outcomes: list[Outcome] = []
    findings: list[Finding] = []
    for file in files:
        try:
            outcomes += run_cases(file, rulebook)
        except InvalidDocument as error:
            findings += error.findings
    if findings:
        raise InvalidDocument(findings)
    return rulebook, outcomes


def _print(answer: dict[str, Any], outcomes: Sequence[Outcome]) -> None:
    """A map of who may use what, then what is not as expected, where."""
    from rich import box
    from rich.table import Table

    console = terminal()
    for file in dict.fromkeys(outcome.file for outcome in outcomes):
        here = [outcome for outcome in outcomes if outcome.file == file]
        callers = list(dict.fromkeys(outcome.caller for outcome in here))
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=file, title_justify="left")
        for column in ("model", *callers):
            table.add_column(column, overflow="fold")
        for model, cells in _grid(here, callers):
            table.add_row(model, *cells)
        console.print(table)
    for outcome in outcomes:
        if not outcome.passed:
            place = f"{outcome.file}:{outcome.line}"
            asked = f"{outcome.model} by {outcome.request}" if outcome.request else outcome.model
            click.echo(f"{place}: {outcome.caller} on {asked}: expected {outcome.expected}; {outcome.problem}")
    show(answer, as_json=False)


def _grid(outcomes: Sequence[Outcome], callers: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """One row for each model, with a cell for each caller: allowed or not, and whether that was expected."""
    tried: dict[str, dict[str, list[Outcome]]] = {}
    for outcome in outcomes:
        tried.setdefault(outcome.model, {}).setdefault(outcome.caller, []).append(outcome)
    for model in sorted(tried):
        yield model, [_cell(tried[model][caller]) for caller in callers]


def _cell(outcomes: Sequence[Outcome]) -> str:
    decided = "allow" if any(outcome.decided == "allow" for outcome in outcomes) else "–"
    return decided if all(outcome.passed for outcome in outcomes) else f"{decided} FAILED"


@policy.command("diff", epilog=example("policy diff policies-new/", "policy diff policies-new/ --since 2026-01-14"))
@click.argument("candidate", type=click.Path(exists=True, file_okay=False, path_type=Path),
                help="The folder of the policy that may be put in force.")  # fmt: skip
@click.option("--recorded", type=click.IntRange(1, MAX_REPLAYED), metavar="NUMBER",
              help="Decide so many of the latest decisions again, instead of trying kinds of callers.")  # fmt: skip
@click.option("--since", metavar="MOMENT",
              help="Decide those since a date or moment (UTC) again; with --recorded the latest of them.")  # fmt: skip
@common
def diff(invocation: Invocation, candidate: Path, recorded: int | None, since: str | None) -> None:
    """Shows what another policy would decide differently from the one that the settings name.

    Every kind of caller that one of the two policies tells apart is tried on every model; or, with --recorded, what was
    decided about real requests is compared with what the other policy decides about them.
    """
    if recorded is not None or since is not None:
        moment = _moment(since) if since is not None else None
        show(asyncio.run(_replayed(invocation, candidate, recorded or MAX_REPLAYED, moment)), invocation.json)
        return
    before, after = asyncio.run(_both(invocation, candidate))
    from config.clock import utc_now
    from proxy.operations.policy_diff import diff as flips
    from proxy.operations.policy_diff import not_compared

    found, untried = [flip.as_json() for flip in flips(before, after, utc_now())], not_compared(before, after)
    counts = {"before": before.revision, "after": after.revision, "differences": len(found), "not_compared": untried}
    show({**counts, "decisions": found}, invocation.json)
    if untried and not invocation.json:
        click.echo("What is not compared depends on the request, not only on caller and model: try --recorded 1000.")


def _moment(text: str) -> datetime:
    from pydantic import TypeAdapter, ValidationError

    from proxy.operations.arguments import Moment

    try:
        return TypeAdapter[datetime](Moment).validate_python(text)
    except ValidationError:
        raise click.UsageError(f"--since: expected a date or a moment such as 2026-01-15, found {text!r}") from None


async def _replayed(invocation: Invocation, candidate: Path, count: int, since: datetime | None) -> dict[str, Any]:
    from proxy.cli.desk import open_desk
    from proxy.operations.policy_replay import replay
    from proxy.policy_reading import load_rulebook, metered_routes
    from store import catalogue, decisions

    settings = invocation.settings()
    with progress_bar(invocation.json) as progress:
        async with open_desk(settings) as desk:
            for_sale = await desk.store.database.read(catalogue.load)
            rulebook = load_rulebook(candidate, for_sale, metered_routes(settings.values.routes))
            rows: list[dict[str, Any]] = []
            while len(rows) < count:
                limit, before = min(count - len(rows), REPLAY_PAGE), rows[-1]["id"] if rows else None
                page = await desk.store.database.read(
                    lambda connection: decisions.page(connection, before=before, since=since, limit=limit)  # noqa: B023
                )
                rows += page
                progress("reading decisions", len(rows), count)
                if len(page) < limit:
                    break
    return {"candidate": rulebook.revision, **replay(rows, rulebook).as_json()}


async def _both(invocation: Invocation, candidate: Path) -> tuple[Rulebook, Rulebook]:
    """The policy of the settings and the candidate, on the same catalogue."""
    from proxy.cli.catalogues import packaged, stored
    from proxy.policy_reading import load_rulebook, metered_routes

    settings = invocation.settings()
    for_sale = (await stored(settings) or await packaged()).catalogue
    routes = metered_routes(settings.values.routes)
    return load_rulebook(settings.policies_folder, for_sale, routes), load_rulebook(candidate, for_sale, routes)


@policy.command("schema", epilog=example("policy schema > policy.schema.json", "policy schema --of cases"))
@click.option("--of", "document", type=click.Choice(["policy", "cases"]), default="policy",
              show_default=True, help="Policy files, or files of cases.")  # fmt: skip
@common
def schema(invocation: Invocation, document: str) -> None:
    """Writes the JSON Schema of policy files, for editors that complete and check YAML by it."""
    from pydantic import BaseModel

    from policies.document import PolicyFile
    from proxy.operations.policy_cases import CasesFile

    models: dict[str, type[BaseModel]] = {"policy": PolicyFile, "cases": CasesFile}
    click.echo(json.dumps(models[document].model_json_schema(), indent=2, ensure_ascii=False))

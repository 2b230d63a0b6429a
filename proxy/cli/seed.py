"""`farebox seed`: apps, models and plans loaded from files, with a diff; users imported from CSV."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from proxy.cli.invocation import Invocation, common, example
from proxy.cli.output import cell, progress_bar, show

if TYPE_CHECKING:
    from seeds.diff import SeedDiff
    from seeds.users import ImportReport

SEED_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(epilog=example("seed", "seed plans.yaml models.yaml", "seed --users users.csv"))
@click.argument("files", nargs=-1, type=SEED_FILE, help="Seed files; without any, those that come with Farebox.")
@click.option("--users", type=SEED_FILE, help="Import users from a CSV file with the columns id,email,credits.")
@common
def seed(invocation: Invocation, files: Sequence[Path], users: Path | None) -> None:
    """Loads apps, models and plans, or imports users as pay-as-you-go accounts.

    Safe to repeat: a second run with the same files changes nothing. What a file does not list is never removed.
    With --users and no FILES only the users are imported.
    """
    answer: dict[str, Any] = asyncio.run(_seed(invocation, files, users))
    show(answer, invocation.json)


async def _seed(invocation: Invocation, files: Sequence[Path], users: Path | None) -> dict[str, Any]:
    from config.clock import utc_now
    from proxy.cli.catalogues import tiers_of
    from proxy.operations.auditing import audited, command_line
    from seeds.load import load_catalogue
    from seeds.reading import default_files
    from seeds.users import import_csv
    from store import catalogue
    from store.audit import Act, Outcome, Result
    from store.opening import open_store

    settings = invocation.settings()
    chosen = files or (() if users else default_files())
    tiers = tiers_of(settings.policies_folder)
    answer: dict[str, Any] = {}
    given = {"files": [str(file) for file in chosen], **({"users": str(users)} if users is not None else {})}
    act = Act("operator", command_line(), "seed", given)
    async with open_store(settings.database_url, utc_now) as store, audited(store, act) as entry:
        before = await store.database.read(catalogue.revision)
        if chosen:
            answer |= _shown(await load_catalogue(store, chosen, tiers), invocation.json)
        if users is not None:
            with progress_bar(invocation.json) as progress:
                report = await import_csv(store, users, lambda done, total: progress("users", done, total))
            answer["users"] = _imported(report)
        after = await store.database.read(catalogue.revision)
        entry.result = Result(Outcome.DONE, None, f"catalogue {before}", f"catalogue {after}")
    return answer


def _imported(report: ImportReport) -> dict[str, Any]:
    from policies.pricing import to_credits

    return {
        "in_file": report.users,
        "created": report.created,
        "granted": report.granted,
        "credits": to_credits(report.micro_credits),
    }


def _shown(diff: SeedDiff, as_json: bool) -> dict[str, Any]:
    """For people only what has changed, field by field, old and new."""
    complete = diff.as_json()
    if as_json:
        return complete
    counts = {name: value for name, value in complete.items() if name != "rows"}
    changes = [
        {"kind": row.kind, "key": row.key, "change": row.change, "field": name, "old": cell(old), "new": cell(new)}
        for row in diff.rows
        if row.change == "changed"
        for name, (old, new) in row.fields.items()
    ]
    created = [{"kind": row.kind, "key": row.key} for row in diff.rows if row.change == "created"]
    return counts | ({"new": created} if created else {}) | ({"changes": changes} if changes else {})

"""`farebox ledger`: its verbs, and the export of its tables."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from proxy.cli.failures import REFUSED, Ending
from proxy.cli.files import written
from proxy.cli.invocation import Invocation, common, example
from proxy.cli.output import progress_bar, show
from proxy.cli.verbs import Noun

if TYPE_CHECKING:
    from policies.refusals import Refusal
    from proxy.export.journal import JournalWriter
    from proxy.export.tables import CsvWriter, JsonWriter
    from store.export import Exported

    Writer = CsvWriter | JsonWriter | JournalWriter

ledger = Noun("ledger", "The ledger as a whole.", ["ledger verify", "ledger export --format hledger"])

TABLES = ("entries", "grants", "holds", "usage")


@ledger.command(
    "export",
    epilog=example(
        "ledger export --output entries.csv",
        "ledger export usage --account user-1001 --since 2026-01-01 --until 2026-02-01",
        "ledger export --format hledger --output ledger.journal",
    ),
)
@click.argument("table", type=click.Choice(TABLES), default="entries", required=False,
                help="What to export; by default the entries of the ledger.")  # fmt: skip
@click.option("--format", "form", type=click.Choice(["csv", "json", "hledger"]), default="csv", show_default=True,
              help="CSV, a JSON array, or a journal of the entries for hledger.")  # fmt: skip
@click.option("--account", metavar="ACCOUNT", help="Only this account: its number, or the id of one of its users.")
@click.option("--since", metavar="SINCE", help="Only what is of this moment or later: a date or a moment, in UTC.")
@click.option("--until", metavar="UNTIL", help="Only what is older than this moment.")
@click.option("--output", type=click.Path(path_type=Path), help="The file to write, instead of standard output.")
@click.option("--force", is_flag=True, help="Replace the file, if there is one.")
@common
def export(
    invocation: Invocation,
    table: str,
    form: str,
    account: str | None,
    since: str | None,
    until: str | None,
    output: Path | None,
    force: bool,
) -> None:
    """Writes the ledger for other programs: as tables, or as double-entry bookkeeping.

    Everything is of one moment, also while Farebox serves, and in exact decimals. With --json and without --output
    the format is json; with --output the answer tells what was written.
    """
    if form == "hledger" and table != "entries":
        raise click.UsageError("A journal is made of entries; export the other tables as csv or json")
    form = "json" if invocation.json and output is None else form
    period = _moment(since, "--since"), _moment(until, "--until")
    outcome = asyncio.run(_export(invocation, table, form, account, period, _target(output, force)))
    if not isinstance(outcome, int):
        Ending(REFUSED, f"{outcome.error}. {outcome.hint or ''}".strip(), {"code": str(outcome.reason)},
               invocation.json).tell()  # fmt: skip
        click.get_current_context().exit(REFUSED)
    if output is not None:
        show({"exported": table, "format": form, "rows": outcome, "file": str(output)}, invocation.json)
    elif not invocation.json:
        click.echo(f"{outcome} {table}", err=True)


@contextmanager
def _target(path: Path | None, force: bool) -> Iterator[Callable[[str], object]]:
    """Where the text goes: standard output, or a file that is there only when it is whole."""
    if path is None:
        yield lambda text: click.echo(text, nl=False)
        return
    with written(path, replace=force) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        yield file.write


async def _export(
    invocation: Invocation,
    table: str,
    form: str,
    account: str | None,
    period: tuple[datetime | None, datetime | None],
    target: AbstractContextManager[Callable[[str], object]],
) -> int | Refusal:
    """The number of rows that were written."""
    from policies.callers import Account
    from proxy.cli.desk import open_desk
    from proxy.operations.naming import named_account
    from store.export import Exported, Selection
    from store.export import export as stream

    what = Exported(table)
    # A bar on the terminal on which the rows appear would be among them.
    quiet = invocation.json or (sys.stdout.isatty() and sys.stderr.isatty())
    with progress_bar(quiet) as progress:
        async with open_desk(invocation.settings(), progress) as desk:
            named = None if account is None else await named_account(desk.store, account)
            if named is not None and not isinstance(named, Account):
                return named
            selection = Selection(None if named is None else named.account_id, *period)
            writer = _writer(what, form)
            with target as write:
                count = await desk.store.database.read(
                    stream, what, selection, lambda rows: write(writer.rows(rows)), desk.progress
                )
                write(writer.end())
            return count


def _writer(what: Exported, form: str) -> Writer:
    from proxy.export.journal import JournalWriter
    from proxy.export.tables import CsvWriter, JsonWriter

    if form == "hledger":
        return JournalWriter()
    return CsvWriter(what) if form == "csv" else JsonWriter(what)


def _moment(text: str | None, option: str) -> datetime | None:
    from pydantic import TypeAdapter, ValidationError

    from proxy.operations.arguments import Moment

    if text is None:
        return None
    try:
        moment: datetime = TypeAdapter(Moment).validate_python(text)
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise click.UsageError(f"{option}: {message}") from None
    return moment

"""`farebox backup`: a copy of the embedded database while it is in use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from proxy.cli.failures import REFUSED, Ending
from proxy.cli.files import written
from proxy.cli.invocation import Invocation, common, example
from proxy.cli.output import progress_bar, show

if TYPE_CHECKING:
    from proxy.operations.operation import Answer


@click.command(epilog=example("backup /backups/farebox-monday.db", "backup --force --verify /backups/farebox.db"))
@click.argument("file", type=click.Path(path_type=Path), help="Where the copy goes.")
@click.option("--force", is_flag=True, help="Replace the file, if there is one.")
@click.option("--verify", is_flag=True, help="Check the laws of the ledger on the copy as well.")
@common
def backup(invocation: Invocation, file: Path, force: bool, verify: bool) -> None:
    """Copies the embedded database while Farebox serves: complete, of one moment, checked page by page.

    No request waits for it. The file is there only when the copy is whole. To restore, put it in the place of the
    database while no process uses that. With PostgreSQL use pg_dump.
    """
    from proxy.operations.ledger import told
    from store.backup import copy, database_file, verify_copy

    settings = invocation.settings()
    source = database_file(settings.database_url)
    if source is None:
        _refuse(_elsewhere(settings.database_url, file), invocation)
        return
    if not source.exists():
        _refuse(f"There is no database {source} yet; the first start of Farebox makes it.", invocation)
        return
    if file.exists() and file.samefile(source):
        _refuse(f"{file} is the database itself; name another file.", invocation)
        return
    checks: Answer = {}
    with progress_bar(invocation.json) as progress, written(file, replace=force) as partial:
        size = copy(source, partial, progress)
        if verify:
            checks = told(verify_copy(partial, progress))
    show({"file": str(file), "bytes": size, **checks}, invocation.json)
    if not checks.get("ok", True):
        # The copy is what it should be: that of a ledger with a breach.
        click.get_current_context().exit(REFUSED)


def _elsewhere(url: str, file: Path) -> str:
    """What to run instead, without the password, which would be in the history of a shell."""
    from urllib.parse import urlsplit

    if not url.startswith("postgresql"):
        return f"The database {url} is in no file."
    parts = urlsplit(url.replace("+asyncpg", "", 1))
    user, _, host = parts.netloc.rpartition("@")
    address = parts._replace(netloc=f"{user.partition(':')[0]}@{host}" if user else host).geturl()
    command = f"pg_dump --format=custom --file={file} '{address}'"
    return f"The database is PostgreSQL, which has a better tool for this; run: {command}"


def _refuse(sentence: str, invocation: Invocation) -> None:
    Ending(REFUSED, sentence, {}, invocation.json).tell()
    click.get_current_context().exit(REFUSED)

"""`farebox migrate`: the schema of the database, brought up to date."""

from __future__ import annotations

import asyncio

import click

from proxy.cli.invocation import Invocation, common, example
from proxy.cli.output import show


@click.command(epilog=example("migrate --config /etc/farebox/farebox.yaml"))
@common
def migrate(invocation: Invocation) -> None:
    """Brings the database schema up to date.

    Safe to repeat, and to run from several machines. The embedded SQLite database is brought up to date by every
    start; for any other run this before starting a new version.
    """
    before, after = asyncio.run(_migrate(invocation.settings().database_url))
    show({"before": before, "after": after, "changed": before != after}, invocation.json)


async def _migrate(url: str) -> tuple[str | None, str | None]:
    from config.clock import utc_now
    from proxy.operations.auditing import command_line
    from store import audit, schema
    from store.audit import Act, Outcome, Result
    from store.opening import open_store

    before, after = await schema.migrate(url)
    if before != after:
        # Afterwards, since the migrations make the tables of the audit log.
        act, result = Act("operator", command_line(), "migrate", {}), Result(Outcome.DONE, None, before, after)
        async with open_store(url, utc_now) as store:
            await store.database.write(audit.note, act, result, utc_now())
    return before, after

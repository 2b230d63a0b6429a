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
    from store import schema

    before, after = asyncio.run(schema.migrate(invocation.settings().database_url))
    show({"before": before, "after": after, "changed": before != after}, invocation.json)

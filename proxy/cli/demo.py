"""`farebox demo`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from proxy.cli.invocation import Invocation, common, example


@click.command(epilog=example("demo"))
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("farebox-demo"),
    show_default=True,
    help="Where settings, policies and database of the demo are kept.",
)
@common
def demo(invocation: Invocation, folder: Path) -> None:
    """Runs everything on a laptop: a sample backend, seeds, two users with tokens, and the requests to try.

    Needs no settings file. Ctrl-C ends it.
    """
    from proxy.demo import run

    asyncio.run(run(folder))

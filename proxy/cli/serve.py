"""`farebox serve`."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import click

from proxy.cli.invocation import Invocation, common, example

if TYPE_CHECKING:
    from proxy.app import Farebox

MAX_WORKERS = 64
"""Processes of one node: more than that have no core to run on."""


@click.command(epilog=example("serve --config farebox.yaml --workers 2"))
@click.option("--workers", type=click.IntRange(1, MAX_WORKERS), default=1, show_default=True, help="Serving processes.")
@click.option("--no-jobs", is_flag=True, help="Do not start the scheduler; run `farebox jobs` somewhere else.")
@click.option("--inherited", type=int, hidden=True)
@click.option("--parent-pid", type=int, hidden=True)
@common
def serve(invocation: Invocation, workers: int, no_jobs: bool, inherited: int | None, parent_pid: int | None) -> None:
    """Runs the proxy, the management API, the admin API and the scheduler, until SIGTERM or Ctrl-C.

    SIGHUP reads the policies again; they are also watched. The addresses are told when everything is running.
    """
    from proxy.serving import ServeOptions
    from proxy.serving import serve as run

    options = ServeOptions(invocation.existing_config(), workers, not no_jobs, inherited, parent_pid)

    def announce(running: Farebox) -> None:
        if inherited is None:
            _tell(running, invocation.json)

    asyncio.run(run(options, announce))


def _tell(running: Farebox, as_json: bool) -> None:
    """Where everything is, once it can be reached. Port 0 has become a real one."""
    if as_json:
        click.echo(json.dumps({"listen": str(running.public), "admin": str(running.admin)}))
        return
    click.echo(f"Farebox serves http://{running.public}; admin API, probes and metrics: http://{running.admin}")

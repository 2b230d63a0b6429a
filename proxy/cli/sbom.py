"""`farebox sbom`: what is installed, as a software bill of materials."""

from __future__ import annotations

import json
from pathlib import Path

import click

from proxy.cli.files import written
from proxy.cli.invocation import Invocation, common, example
from proxy.cli.output import show


@click.command(epilog=example("sbom --output farebox.cdx.json", "sbom | jq '.components | length'"))
@click.option("--output", type=click.Path(path_type=Path), help="The file to write, instead of standard output.")
@click.option("--force", is_flag=True, help="Replace the file, if there is one.")
@common
def sbom(invocation: Invocation, output: Path | None, force: bool) -> None:
    """Writes what is installed as a software bill of materials, in CycloneDX 1.6 JSON.

    It lists every package of the environment that runs this command, with its version, licence and dependencies, and
    Python itself. Scanners of vulnerabilities read it. It needs neither settings nor network.
    """
    from config.clock import utc_now
    from proxy.sbom import document

    bill = document(utc_now())
    text = json.dumps(bill, indent=2, ensure_ascii=False) + "\n"
    if output is None:
        click.echo(text, nl=False)
        return
    with written(output, replace=force) as partial:
        partial.write_text(text, "utf-8")
    show({"file": str(output), "components": len(bill["components"])}, invocation.json)

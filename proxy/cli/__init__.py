"""The command line, `farebox`. A command's modules are imported when it is run, so that `--help` is quick."""

from __future__ import annotations

import gc
import importlib

import click

from proxy.cli.failures import EXIT_CODES, ending_of

SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "Run": {
        "serve": ("proxy.cli.serve:serve", "Runs the proxy, its APIs and the scheduler."),
        "jobs": ("proxy.cli.jobs:jobs", "Runs the scheduler alone, or one of its jobs now."),
        "demo": ("proxy.cli.demo:demo", "Runs everything on a laptop, with users and requests to try."),
    },
    "Prepare": {
        "check": ("proxy.cli.check:check", "Validates settings, policies, seeds and schema."),
        "policy": ("proxy.cli.policy:policy", "Tests policies and explains their decisions."),
        "migrate": ("proxy.cli.migrate:migrate", "Brings the database schema up to date."),
        "sbom": ("proxy.cli.sbom:sbom", "Writes what is installed as a software bill of materials."),
        "seed": ("proxy.cli.seed:seed", "Loads apps, models and plans, or imports users."),
    },
    "Operate": {
        "accounts": ("proxy.cli.verbs:accounts", "Lists, creates, tags and freezes accounts."),
        "credits": ("proxy.cli.verbs:credits", "Grants and deducts credits, and shows their history."),
        "keys": ("proxy.cli.verbs:keys", "Creates, lists and revokes API keys."),
        "subscriptions": ("proxy.cli.verbs:subscriptions", "Subscribes, confirms payments, changes and cancels."),
        "holds": ("proxy.cli.verbs:holds", "Shows, ends and refunds what requests have reserved."),
        "usage": ("proxy.cli.verbs:usage", "Lists what was used and charged."),
        "decisions": ("proxy.cli.verbs:decisions", "Lists and explains decisions on metered requests."),
        "audit": ("proxy.cli.verbs:audit", "Lists what was changed and by whom, and verifies the log."),
        "ledger": ("proxy.cli.ledger:ledger", "Verifies the laws of the ledger, and exports it."),
        "backup": ("proxy.cli.backup:backup", "Copies the embedded database while it is in use."),
    },
}
"""Where each command is, and the sentence that stands for it in the overview, so that none has to be imported."""


class Farebox(click.Group):
    """Finds commands by the table above, and ends with a sentence and a code instead of a stack trace."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for section in SECTIONS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = next((section[cmd_name][0] for section in SECTIONS.values() if cmd_name in section), None)
        if place is None:
            return None
        # Modules are not garbage: looking for some among them takes a tenth of the start. A process that stays sets its
        # own threshold (proxy/serving.py).
        gc.set_threshold(100_000)
        module, _, name = place.partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command), f"{place} is a command"
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, section in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, sentence) for name, (_, sentence) in section.items()])

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError):
            raise
        except Exception as error:
            ending = ending_of(error, ctx.obj)
            ending.tell()
            ctx.exit(ending.code)


@click.group(cls=Farebox, epilog=f"\b\nExample:\n  farebox check --json\n\n\b\nExit codes:\n{EXIT_CODES}")
@click.version_option(package_name="farebox", prog_name="farebox")
def main() -> None:
    """Lets AI requests through only when they are allowed and paid for.

    Every command takes --config, by default farebox.yaml in the working directory or FAREBOX_CONFIG, and --json for
    scripts. FAREBOX_DEBUG=1 shows where an error comes from.
    """

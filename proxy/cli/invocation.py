"""What every command shares: the settings file, and whether to answer people or machines."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from config.settings import LoadedSettings

Function = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Invocation:
    """The options of every command."""

    config: Path
    json: bool

    def existing_config(self) -> Path:
        """The settings file. Raises UsageError when there is none, which is a matter of the command line."""
        if not self.config.is_file():
            hint = "name yours with --config or FAREBOX_CONFIG, or try: farebox demo"
            raise click.UsageError(f"There is no settings file {self.config}; {hint}")
        return self.config

    def settings(self) -> LoadedSettings:
        """The settings of the file. Raises InvalidDocument with every finding, or UsageError."""
        from config.settings import load_settings

        return load_settings(self.existing_config(), os.environ)


def common(function: Function) -> Function:
    """Adds --config and --json to a command, which receives them as its first argument, an Invocation."""

    @click.option(
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        default=Path("farebox.yaml"),
        envvar="FAREBOX_CONFIG",
        show_default=True,
        show_envvar=True,
        help="The settings file.",
    )
    @click.option("--json", "as_json", is_flag=True, help="Answer with JSON, for scripts.")
    @functools.wraps(function)
    def wrapped(config: Path, as_json: bool, **options: Any) -> Any:
        invocation = Invocation(config, as_json)
        # The root writes an error in the form that was asked for.
        click.get_current_context().find_root().obj = invocation
        return function(invocation, **options)

    return wrapped


def example(*lines: str) -> str:
    """The epilog of a command: command lines to copy, each without the leading `farebox`."""
    return "\b\nExample:\n" + "\n".join(f"  farebox {line}" for line in lines)

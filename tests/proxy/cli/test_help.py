"""What every command says of itself."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator

import click
import pytest

from proxy.cli import SECTIONS, main
from tests.proxy.cli.console import Console


def _walk(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None, f"{path} lists {name}"
            yield from _walk(inner, (*path, name))


COMMANDS = dict(_walk(main))
NAMES = [" ".join(path) for path in COMMANDS]
LEAVES = [
    " ".join(path)
    for path, command in COMMANDS.items()
    if not isinstance(command, click.Group) or command.invoke_without_command
]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_helps_with_an_example(bare: Console, name: str) -> None:
    """`--help` needs no settings, says what the command is for, and shows a line to copy."""
    result = bare.run(*name.split(), "--help", config=bare.folder / "missing.yaml")
    assert result.exit_code == 0, result.output
    assert re.search(r"Example:\n\s+farebox ", result.stdout)
    command = COMMANDS[tuple(name.split())]
    assert command.help
    assert command.help.splitlines()[0].strip()


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_takes_config_and_json(name: str) -> None:
    """The two options that every command has, spelled alike everywhere."""
    options = {option for parameter in COMMANDS[tuple(name.split())].params for option in parameter.opts}
    assert {"--config", "--json"} <= options


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_described(name: str) -> None:
    """No option or argument leaves its reader guessing."""
    for parameter in COMMANDS[tuple(name.split())].params:
        hidden = isinstance(parameter, click.Option) and parameter.hidden
        assert hidden or getattr(parameter, "help", None), f"{name}: {parameter.name}"


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_are_right(name: str) -> None:
    """Every example names its command, and its options exist."""
    command = COMMANDS[tuple(name.split())]
    for line in re.findall(r"^  farebox (.+)$", command.epilog or "", re.MULTILINE):
        words = line.partition(" > ")[0].split()
        path = max((path for path in COMMANDS if words[: len(path)] == list(path)), key=len)
        assert path[: len(name.split())] == tuple(name.split())
        known = {option for parameter in COMMANDS[path].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known


def test_the_overview_is_the_table() -> None:
    """The sentences of the overview are there without importing a command, and every command of the table exists."""
    for section in SECTIONS.values():
        for place, sentence in section.values():
            module, _, name = place.partition(":")
            assert isinstance(getattr(importlib.import_module(module), name), click.Command)
            assert sentence.endswith(".")


def test_an_unknown_command_is_a_matter_of_the_command_line(bare: Console) -> None:
    """It ends with 2 and names what was typed, also below a noun."""
    for words in (["acounts"], ["accounts", "lst"], ["accounts", "list", "--nope"]):
        result = bare.run(*words)
        assert result.exit_code == 2
        assert words[-1] in result.stderr

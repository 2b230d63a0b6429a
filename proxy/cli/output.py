"""Answers on the terminal: JSON for machines, tables for people, progress bars for the patient.

Texts from the database are shown as they are and never as markup or terminal commands. What is not written to a
terminal is written wide enough for every column, so that it can be searched.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

    from proxy.operations.operation import Progress

WIDE = 240
"""Columns of a table that goes into a file or a pipe."""


def show(answer: Mapping[str, Any], as_json: bool) -> None:
    """An answer of a verb on standard output."""
    if as_json:
        click.echo(json.dumps(answer, indent=2, ensure_ascii=False))
        return
    console = terminal()
    tables = {name: value for name, value in answer.items() if _is_table(value)}
    pairs = {name: value for name, value in _flat(answer) if name not in tables and value is not None}
    # Which page comes next is told below the table, in words.
    pairs.pop("next", None)
    if not tables and all(value == [] for value in pairs.values()):
        console.print(f"No {', '.join(map(_words, pairs))}.")
    elif pairs:
        _pairs(console, pairs)
    for name, rows in tables.items():
        _table(console, name, rows)


def terminal() -> Console:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else WIDE, markup=False, emoji=False, highlight=False)


def _is_table(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)


def _pairs(console: Console, pairs: Mapping[str, Any]) -> None:
    from rich.table import Table

    grid = Table.grid(padding=(0, 3))
    for name, value in pairs.items():
        grid.add_row(_words(name), cell(value))
    console.print(grid)


def _flat(answer: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in answer.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", value


def _table(console: Console, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    from rich import box
    from rich.table import Table

    console.print()
    console.print(_words(title).capitalize())
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in rows[0]:
        numbers = all(isinstance(row[name], int | float) and not isinstance(row[name], bool) for row in rows)
        table.add_column(_words(name), justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell(value) for value in row.values()))
    console.print(table)


def _words(name: str) -> str:
    return name.replace("_", " ")


def cell(value: Any) -> str:
    """A value as people read it. Control characters are replaced, since they could move the cursor or hide a line."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={cell(part)}" for name, part in value.items()) or "–"
    if isinstance(value, list):
        return ", ".join(cell(part) for part in value) or "–"
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in str(value))


@contextmanager
def progress_bar(as_json: bool) -> Iterator[Progress]:
    """Shows how far long work has come, on standard error, when somebody is there to watch."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True, markup=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console, transient=True, disable=as_json or not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=None)
        yield lambda doing, done, total: bar.update(task, description=doing, completed=done, total=total)

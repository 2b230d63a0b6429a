"""The shapes of the code: files that fit a screen or two of reading, functions that fit one."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

HOUSE = Path(__file__).parents[2]
ROOMS = ("proxy", "policies", "config", "store", "jobs", "seeds")

MAX_FILE = 320
MAX_FUNCTION = 60

LONG_FILES: dict[str, str] = {}
"""Files that may be longer, each with its reason."""

LONG_FUNCTIONS: dict[str, str] = {}
"""Functions that may be longer, as file::name, each with its reason."""

FILES = sorted(
    file.relative_to(HOUSE).as_posix()
    for room in ROOMS
    for file in (HOUSE / room).rglob("*.py")
    # Migrations are generated once and then only read.
    if "migrations/versions" not in file.as_posix()
)


@cache
def _tree(file: str) -> ast.Module:
    return ast.parse((HOUSE / file).read_text("utf-8"))


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_a_file_says_what_it_is_for() -> None:
    """Every file begins with a docstring."""
    assert [file for file in FILES if not ast.get_docstring(_tree(file))] == []


def test_a_file_can_be_read_in_one_sitting() -> None:
    """No file is longer than 320 lines; the guideline is 300."""
    lines = {file: len((HOUSE / file).read_text("utf-8").splitlines()) for file in FILES}
    assert {file: n for file, n in lines.items() if n > MAX_FILE and file not in LONG_FILES} == {}


def test_a_function_fits_a_screen() -> None:
    """No function is longer than 60 lines, its docstring included."""
    lines = {
        f"{file}::{function.name}": (function.end_lineno or 0) - function.lineno + 1
        for file in FILES
        for function in _functions(_tree(file))
    }
    assert {name: n for name, n in lines.items() if n > MAX_FUNCTION and name not in LONG_FUNCTIONS} == {}


def test_the_lists_of_exceptions_are_current() -> None:
    """An exception that is no longer needed is taken off its list."""
    assert all(len((HOUSE / file).read_text("utf-8").splitlines()) > MAX_FILE for file in LONG_FILES)
    assert {name.partition("::")[0] for name in LONG_FUNCTIONS} <= set(FILES)

"""The targets, and the inputs that are tried on each of them every time: one readable file of bytes for each.

A line is one input as Python writes bytes; a comment above it says what it found, where it has found something. The
targets' own `WORDS` are what a fuzzer puts together, and `SEEDS` are inputs that are kept elsewhere.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

FOLDER = Path(__file__).parent
NAMES = sorted(file.stem for file in (FOLDER / "targets").glob("*.py"))

LONGEST = 6000
"""Bytes of an input: longer ones find nothing that shorter ones do not, and take their time."""


@dataclass(frozen=True)
class Target:
    """`check` asserts what must hold of any bytes; `words` are pieces that inputs are likely to need."""

    name: str
    check: Callable[[bytes], None]
    words: tuple[bytes, ...]
    inputs: tuple[bytes, ...]
    slow: bool
    """Whether one input takes milliseconds."""


def load(name: str) -> Target:
    module = import_module(f"tests.fuzz.targets.{name}")
    seeds = getattr(module, "SEEDS", ())
    return Target(name, module.check, tuple(module.WORDS), (b"", *seeds, *read(file_of(name))), hasattr(module, "SLOW"))


def file_of(name: str) -> Path:
    return FOLDER / "corpus" / f"{name}.txt"


def read(file: Path) -> list[bytes]:
    """The inputs of a file."""
    lines = file.read_text("ascii").splitlines() if file.exists() else []
    return [ast.literal_eval(line) for line in lines if line and not line.startswith("#")]


def add(file: Path, inputs: list[bytes], why: str | None = None) -> None:
    """Write inputs at the end of a file, below a comment."""
    known = set(read(file))
    lines = [repr(data) for data in inputs if data not in known]
    if lines:
        with file.open("a", encoding="ascii") as out:
            out.write("".join(f"{line}\n" for line in ([f"# {ascii(why)[1:-1]}"] if why else []) + lines))

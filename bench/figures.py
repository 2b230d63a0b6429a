"""Figures with their goals: how benchmarks print them, and write them to docs/performance.md."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from platform import python_version

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
END = "<!-- Until here -->"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of a table. `reached` judges `value` against `goal`; a figure without a goal is told all the same."""

    name: str
    value: float
    unit: str
    goal: str = ""
    reached: bool | None = None

    def __str__(self) -> str:
        verdict = {True: "reached", False: "MISSED", None: ""}[self.reached]
        return f"{self.name:58} {self.value:9.2f} {self.unit:10} {self.goal:12} {verdict}"


def at_least(name: str, value: float, unit: str, goal: float) -> Figure:
    return Figure(name, value, unit, f">= {goal:,.6g} {unit}", value >= goal)


def at_most(name: str, value: float, unit: str, goal: float) -> Figure:
    return Figure(name, value, unit, f"<= {goal:,.3g} {unit}", value <= goal)


def add_options(parser: argparse.ArgumentParser, *, seconds: bool = True) -> None:
    """Those that benchmarks share; `seconds` for measurements that take as long as they are told."""
    if seconds:
        parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", action="store_true", help="also write the table to docs/performance.md")


def conditions(options: argparse.Namespace, size: str) -> str:
    """How a run is made, and how busy the machine is with other things when it begins."""
    busy = f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores when it began"
    seconds = f" of {options.seconds:g} s" if "seconds" in options else ""
    return f"Medians of {options.rounds} rounds{seconds}, {size}; Python {python_version()}; {busy}."


def report(measured: Iterable[Figure], options: argparse.Namespace, script: str, how: str) -> None:
    """Print each figure as soon as it is there, and write them all where that is wanted."""
    figures = []
    for figure in measured:
        figures.append(figure)
        if not options.json:
            print(figure, flush=True)
    if options.json:
        print(json.dumps({figure.name: round(figure.value, 3) for figure in figures}))
    if options.write:
        _write(figures, how, f"<!-- From here on written by `python bench/{script} --write` -->")


def _write(figures: Sequence[Figure], how: str, mark: str) -> None:
    """The table, in the place of the one that stands on the page behind this mark."""
    rows = ["| figure | measured | goal | |", "|---|---|---|---|"]
    for figure in figures:
        verdict = {True: "reached", False: "**missed**", None: ""}[figure.reached]
        rows.append(f"| {figure.name} | {figure.value:,.2f} {figure.unit} | {figure.goal} | {verdict} |")
    before, found, rest = PAGE.read_text("utf-8").partition(mark)
    if not found:
        raise SystemExit(f"{PAGE.name} has no line {mark!r}, and so no place for this table")
    _, _, after = rest.partition(END)
    PAGE.write_text("\n".join([before + mark, *rows, "", *_chart(figures), how, END + after]), "utf-8")


def _chart(figures: Sequence[Figure]) -> list[str]:
    """The proxies of a table beside each other (https://mermaid.js.org/syntax/xyChart.html), if there are any."""
    proxies = {one.name.partition(",")[0]: one.value for one in figures if ", requests/s, to the bare" in one.name}
    if not proxies:
        return []
    names = ", ".join(f'"{name}"' for name in proxies)
    values = ", ".join(f"{value:.2f}" for value in proxies.values())
    return [
        "```mermaid",
        "xychart-beta horizontal",
        '    title "Requests per second, where a bare aiohttp proxy makes 1"',
        f"    x-axis [{names}]",
        f"    bar [{values}]",
        "```",
        "",
    ]

"""What came of a run: a table for people, JSON for machines, and the part of a page between its marks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.differential.answers import CLIENT_READERS, AnswerOutcome
from tests.differential.requests import Outcome

BEGIN = "<!-- The table of `make differential` begins. -->"
END = "<!-- The table of `make differential` ends. -->"


@dataclass(frozen=True, slots=True)
class Row:
    """One way to be odd: how many there were with it, how many came through in some part, how many did not, how many
    were cut, and in how many something was wrong.
    """

    what: str
    count: int
    passed: int
    refused: int
    cut: int
    wrong: int


@dataclass(frozen=True, slots=True)
class Report:
    seed: int
    parsers: Sequence[str]
    requests: Sequence[Row]
    answers: Sequence[Row]
    forwarded: int
    problems: Sequence[str]


def report_of(
    seed: int, requests: Sequence[Outcome], answers: Sequence[AnswerOutcome], parsers: Sequence[str]
) -> Report:
    asked = [
        (outcome.case.kinds, outcome.forwarded > 0, outcome.cut > 0, bool(outcome.problems)) for outcome in requests
    ]
    said = [(outcome.odd.kinds, outcome.passed, outcome.cut, bool(outcome.problems)) for outcome in answers]
    problems = [
        f"request {outcome.case.number} ({', '.join(outcome.case.kinds)}): {problem}; sent {outcome.case.data!r}"
        for outcome in requests
        for problem in outcome.problems
    ]
    problems += [
        f"answer {outcome.odd.number} ({', '.join(outcome.odd.kinds)}): {problem}; of {outcome.odd.data!r}"
        for outcome in answers
        for problem in outcome.problems
    ]
    forwarded = sum(outcome.forwarded for outcome in requests)
    return Report(seed, parsers, _rows(asked), _rows(said), forwarded, problems)


def _rows(outcomes: Sequence[tuple[Sequence[str], bool, bool, bool]]) -> list[Row]:
    kinds = sorted({kind for outcome in outcomes for kind in outcome[0]})
    rows = [_row(kind, [outcome for outcome in outcomes if kind in outcome[0]]) for kind in kinds]
    return [*rows, _row("all", outcomes)]


def _row(what: str, outcomes: Sequence[tuple[Sequence[str], bool, bool, bool]]) -> Row:
    passed, cut = sum(outcome[1] for outcome in outcomes), sum(outcome[2] for outcome in outcomes)
    refused = sum(not outcome[1] and not outcome[2] for outcome in outcomes)
    return Row(what, len(outcomes), passed, refused, cut, sum(outcome[3] for outcome in outcomes))


def table(report: Report) -> str:
    """Both directions, as Markdown."""
    parsers, clients = ", ".join(report.parsers), ", ".join(CLIENT_READERS)
    requests, answers = _spaced(report.requests[-1].count), _spaced(report.answers[-1].count)
    seen = f"{_spaced(report.forwarded)} requests reached a backend, and were read there by {parsers}:"
    return "\n\n".join(
        [
            f"Seed {report.seed}, {requests} odd requests, alone and in rows. Of all that stood in them {seen}",
            _markdown("oddity of a request", report.requests),
            f"{answers} odd answers, read by {clients} behind Farebox:",
            _markdown("oddity of an answer", report.answers),
        ]
    )


def _markdown(what: str, rows: Iterable[Row]) -> str:
    lines = [f"| {what} | | passed | refused | cut | wrong |", "|---|--:|--:|--:|--:|--:|"]
    for row in rows:
        numbers = (row.count, row.passed, row.refused, row.cut, row.wrong)
        lines.append(" | ".join([f"| {row.what}", *map(_spaced, numbers)]) + " |")
    return "\n".join(lines)


def _spaced(number: int) -> str:
    return f"{number:,}".replace(",", " ")


def as_json(report: Report) -> dict[str, Any]:
    return asdict(report)


def write_page(page: Path, text: str) -> None:
    """Between the marks of a page; what stands around them stays."""
    before, _, rest = page.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", "utf-8")

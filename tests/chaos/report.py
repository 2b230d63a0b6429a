"""What came of a run: tables for people, JSON for machines, and the part of docs/chaos.md between its marks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.audit import REFUSALS, Wrong, quoted
from tests.chaos.calls import Kind, Outcome
from tests.chaos.conductor import Run

BEGIN, END = "<!-- The table of `make chaos` begins. -->", "<!-- The table of `make chaos` ends. -->"


@dataclass(frozen=True, slots=True)
class Row:
    """One variant: how it was run, what was done to it, what its clients saw, what it cost, and what was wrong."""

    name: str
    rounds: int
    kills: int
    stops: int
    outages: int
    calls: int
    delivered: int
    failed: int
    refused: int
    cut: int
    received: int
    charged: int
    given_away: int
    quoted: int
    quoted_unreceived: int
    quoted_failed: int
    wrong: dict[str, int]

    @property
    def breaches(self) -> int:
        return sum(self.wrong.values())


LAWS = "laws broken"


def row_of(run: Run) -> Row:
    calls, books = run.books.clients.calls, run.books
    holds, received = books.ledger.holds, {receipt.request_id: receipt for receipt in books.backend}
    whole = [call for call in calls if call.outcome is Outcome.ANSWERED]
    told = {call.request_id for call in whole if call.status not in (200, 202)}
    lonely = {call.id for call in calls if call.kind is Kind.LONELY_JOB}
    died = [hold for hold in holds.values() if hold.expired]
    mine = [hold for hold in died if hold.request_id not in received or received[hold.request_id].call not in lonely]
    by_quote = [hold for hold in mine if quoted(hold)]
    wrong: dict[str, int] = {kind: sum(breach.wrong is kind for breach in run.breaches) for kind in Wrong}
    return Row(
        name=run.plan.variant.name,
        rounds=len(run.plan.rounds),
        kills=run.kills,
        stops=run.stops,
        outages=len(books.outages),
        calls=len(calls),
        delivered=sum(call.status in (200, 202) for call in whole),
        failed=sum(call.status in (500, 502, 504) for call in whole),
        refused=sum(call.status in REFUSALS for call in whole),
        cut=len(calls) - len(whole),
        received=len(books.backend),
        charged=sum(hold.settled > 0 for hold in holds.values()),
        given_away=sum(hold.state == "expired" and hold.request_id in received for hold in mine),
        quoted=len(by_quote),
        quoted_unreceived=sum(hold.request_id not in received for hold in by_quote),
        quoted_failed=sum(hold.request_id in told for hold in by_quote),
        wrong={**wrong, LAWS: len(run.laws)},
    )


_DONE = {
    "rounds": "rounds",
    "kills": "kills",
    "stops": "stops",
    "outages": "outages",
    "calls": "calls",
    "delivered": "delivered",
    "failed": "failed",
    "refused": "refused",
    "cut": "broken off",
    "received": "received",
    "charged": "charged",
}
COST = {
    "given_away": "given away",
    "quoted": "quoted",
    "quoted_unreceived": "of which never received",
    "quoted_failed": "of which told to have failed",
}


def tables(rows: Sequence[Row], seed: int) -> str:
    """Three tables in Markdown, which can be read as they are."""
    parts = [f"Seed {seed}, {sum(row.kills for row in rows)} kills, {sum(row.calls for row in rows)} calls."]
    for columns in (_DONE, COST):
        cells = [[row.name, *(getattr(row, name) for name in columns)] for row in rows]
        parts.append(_table(["", *columns.values()], cells))
    wrong = [*Wrong, LAWS]
    parts.append(_table(["", *wrong], [[row.name, *(row.wrong[name] for name in wrong)] for row in rows]))
    return "\n\n".join(parts)


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """With a last row of sums where there are several, and columns that stand under each other."""
    if len(rows) > 1:
        rows = [*rows, ["all", *(sum(row[index] for row in rows) for index in range(1, len(head)))]]
    lines = [
        list(head),
        *(
            [str(cell) if index == 0 else f"{cell:,}".replace(",", " ") for index, cell in enumerate(row)]
            for row in rows
        ),
    ]
    widths = [max(len(line[index]) for line in lines) for index in range(len(head))]
    told = [
        "| " + " | ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) + " |" for line in lines
    ]
    rule = "|" + "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]) + "|"
    return "\n".join([told[0], rule, *told[1:]])


def as_json(runs: Sequence[Run], seed: int) -> dict[str, Any]:
    variants = []
    for run in runs:
        row = row_of(run)
        figures = {name: getattr(row, name) for name in (*_DONE, *COST)}
        listed = [{"wrong": breach.wrong, "where": breach.where, "what": breach.what} for breach in run.breaches]
        variants.append({"variant": row.name, **figures, "wrong": row.wrong, "breaches": listed, "laws": run.laws})
    return {"seed": seed, "ok": not any(row_of(run).breaches for run in runs), "variants": variants}


def write_page(page: Path, text: str) -> None:
    """Replace what stands between the marks of the page."""
    before, begin, rest = page.read_text("utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin, f"{page} has the mark where the table begins"
    assert end, f"{page} has the mark where the table ends"
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", "utf-8")

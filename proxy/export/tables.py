"""Rows of the ledger as CSV, or as a JSON array with one object on each line.

Credits are exact decimals with six places, never floats: plain numbers in CSV, texts in JSON, so that no reader rounds
them unasked. In CSV a text that a spreadsheet would take for a formula begins with an apostrophe, which makes it a text
again: descriptions and user ids come from strangers.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from policies.pricing import exact_credits
from policies.refusals import iso
from policies.terms import Funding
from store.export import Exported, Row
from store.ids import id_text

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""How a cell begins that spreadsheets may run (OWASP, CSV injection); some also where it begins in full width."""

Cells = dict[str, Any]
"""A row by the names of its columns: texts, numbers, moments, mappings."""


def _entry(row: Row) -> Cells:
    return {
        "account": row["account_id"],
        "entry": row["version"],
        "at": row["at"],
        "kind": row["kind"],
        "source": row["source"],
        "credits": exact_credits(row["amount"]),
        "balance": exact_credits(row["balance_after"]),
        "hold": _id(row["hold_id"]),
        "grant": _id(row["grant_id"]),
        "description": row["description"],
    }


def _grant(row: Row) -> Cells:
    return {
        "grant": id_text(row["id"]),
        "account": row["account_id"],
        "key": row["key"],
        "source": row["source"],
        "credits": exact_credits(row["amount"]),
        "remaining": exact_credits(row["remaining"]),
        "held": exact_credits(row["held"]),
        "priority": row["priority"],
        "effective_at": row["effective_at"],
        "expires_at": row["expires_at"],
        "created_at": row["created_at"],
        "description": row["description"],
    }


def _hold(row: Row) -> Cells:
    return {
        "hold": id_text(row["id"]),
        "account": row["account_id"],
        "user": row["user_id"],
        "key": row["key_id"],
        "state": row["state"],
        "funding": row["funding"],
        "reserved": _amount(row, "amount"),
        "charged": _amount(row, "settled_amount"),
        "refunded": _amount(row, "refunded_amount"),
        "model": row["model_key"],
        "action": row["action"],
        "route": row["route_id"],
        "rule": row["rule"],
        "policy_revision": row["policy_revision"],
        "price_version": row["price_version"],
        "units": row["units"],
        "job": row["job_id"],
        "created_at": row["created_at"],
        "deadline": row["deadline"],
        "on_deadline": row["on_deadline"],
        "on_late": row["on_late"],
        "overrun": row["overrun"],
        "ended_at": row["ended_at"],
        "end_reason": row["end_reason"],
        "late_at": row["late_at"],
    }


def _usage(row: Row) -> Cells:
    return {
        "request": id_text(row["id"]),
        "account": row["account_id"],
        "user": row["user_id"],
        "key": row["key_id"],
        "model": row["model_key"],
        "action": row["action"],
        "route": row["route_id"],
        "funding": row["funding"],
        "quoted": _amount(row, "quoted"),
        "charged": _amount(row, "charged"),
        "refunded": _amount(row, "refunded"),
        "units": row["units"],
        "estimated": bool(row["estimated"]),
        "upstream_status": row["upstream_status"],
        "latency_ms": row["latency_ms"],
        "at": row["at"],
    }


CELLS: Mapping[Exported, Callable[[Row], Cells]] = {
    Exported.ENTRIES: _entry,
    Exported.GRANTS: _grant,
    Exported.HOLDS: _hold,
    Exported.USAGE: _usage,
}


def _id(number: int | None) -> str | None:
    return None if number is None else id_text(number)


def _amount(row: Row, name: str) -> Decimal | int | None:
    """Credits, or whole units when quota funds the hold."""
    amount: int | None = row[name]
    return exact_credits(amount) if amount is not None and row["funding"] == Funding.CREDITS else amount


class CsvWriter:
    """RFC 4180 with a header line, every text in quotes; lines end with LF."""

    def __init__(self, what: Exported) -> None:
        self._cells = CELLS[what]
        self._begun = False

    def rows(self, rows: Sequence[Row]) -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        if not self._begun:
            writer.writerow(self._cells(_Zeros()))
            self._begun = True
        writer.writerows([_csv(value) for value in self._cells(row).values()] for row in rows)
        return text.getvalue()

    def end(self) -> str:
        """The header of a table without rows."""
        return "" if self._begun else self.rows([])


class _Zeros(dict[str, int]):
    """A row of nothing, for the names of its cells."""

    def __missing__(self, name: str) -> int:
        return 0


class _Plain(Decimal):
    """A number as it is written without an exponent."""

    def __str__(self) -> str:
        return format(self, "f")


def _csv(value: object) -> object:
    if isinstance(value, Decimal):
        return _Plain(value)
    if isinstance(value, int | None) and not isinstance(value, bool):
        return value
    text = _text(value)
    return f"'{text}" if text.startswith(FORMULA) else text


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    return str(value)


class JsonWriter:
    """One array; each row is an object on a line of its own."""

    def __init__(self, what: Exported) -> None:
        self._cells = CELLS[what]
        self._before = "[\n"

    def rows(self, rows: Sequence[Row]) -> str:
        parts: list[str] = []
        for row in rows:
            parts += self._before, json.dumps(self._cells(row), ensure_ascii=False, default=_json)
            self._before = ",\n"
        return "".join(parts)

    def end(self) -> str:
        return "[]\n" if self._before == "[\n" else "\n]\n"


def _json(value: object) -> str:
    return format(value, "f") if isinstance(value, Decimal) else _text(value)

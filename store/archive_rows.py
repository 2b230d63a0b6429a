"""The rows of an archive: one for each hold that has ended, with its usage if it has any, as texts of a CSV file.

Everything that the database knows of a request is in its row, so that a charge can be explained from the file alone,
and the row be made again. Amounts are whole numbers: micro-credits, a millionth of a credit, where credits fund the
hold, and units of quota where quota does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from policies.terms import HoldId
from store.ids import id_text, parse_id
from store.tables import holds, usage_events

ArchiveRow = Mapping[str, str]

COLUMNS = {
    "id": "The request's id, as in X-Request-Id; the rows are in its order.",
    "created_at": "When the amount was reserved.",
    "ended_at": "When the hold ended.",
    "charged_at": "When it became usage; empty where it never did.",
    "state": "settled, released or expired.",
    "end_reason": "What ended it.",
    "account_id": "Who paid.",
    "user_id": "Who called.",
    "key_id": "The API key, where one was used.",
    "model_key": "The model.",
    "action": "What was done, as the route names it.",
    "route_id": "The route.",
    "rule": "The rule of the policy that allowed it.",
    "policy_revision": "The policy in force.",
    "price_version": "The version of the model's price.",
    "funding": "credits (amounts are micro-credits), quota (amounts are units) or exempt.",
    "reserved": "What was taken aside.",
    "charged": "What was charged.",
    "refunded": "How much of that was given back later.",
    "taken": "The grants or windows that it came from, as JSON.",
    "units": "What was asked for, as JSON.",
    "used_units": "What was measured or, where it is an estimate, asked for, as JSON.",
    "estimated": "true where nothing could be measured and the quote was charged.",
    "upstream_status": "The HTTP status of the backend, where there was one answer.",
    "latency_ms": "Milliseconds until the backend's answer began.",
    "job_id": "The backend's id of the job, where there was one.",
    "on_deadline": "What would have become of it at its deadline.",
    "deadline": "When that would have been.",
    "on_late": "What would have become of a charge that came after the deadline.",
    "overrun": "What was agreed for usage above the quote.",
}
"""Every column with its meaning. Moments are UTC; what has no value is empty."""

_hold, _event = holds.c, usage_events.c
_STORED: dict[str, sa.ColumnElement[Any]] = {
    "reserved": _hold.amount,
    "charged": _hold.settled_amount,
    "refunded": _hold.refunded_amount,
    # As they are stored: JSON is text already.
    "taken": sa.type_coerce(_hold.taken, sa.Text),
    "units": sa.type_coerce(_hold.units, sa.Text),
    "used_units": sa.type_coerce(_event.units, sa.Text),
    "charged_at": _event.at,
    **{name: _event[name] for name in ("estimated", "upstream_status", "latency_ms")},
}
_ARCHIVED = [_STORED[name] if name in _STORED else _hold[name] for name in COLUMNS]
_QUERY = sa.select(*_ARCHIVED).join_from(holds, usage_events, _event.id == _hold.id, isouter=True)


def archive_rows(connection: Connection, *where: sa.ColumnElement[bool], limit: int | None = None) -> list[ArchiveRow]:
    """The rows of the holds that meet the conditions, which may speak of their usage, in the order of their ids."""
    query = _QUERY.where(*where).order_by(_hold.id).limit(limit)
    return [
        {name: "" if value is None else text(value) for name, text, value in zip(COLUMNS, _TEXTS, row, strict=True)}
        for row in connection.execute(query)
    ]


def _moment(value: datetime) -> str:
    return value.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _flag(value: bool) -> str:
    return "true" if value else "false"


_MADE: dict[str, Callable[[Any], str]] = {
    "id": id_text,
    **dict.fromkeys(("created_at", "ended_at", "charged_at", "deadline"), _moment),
    "estimated": _flag,
}
_TEXTS = [_MADE.get(name, str) for name in COLUMNS]


def is_usage(row: ArchiveRow) -> bool:
    """Whether its hold was charged, and has a usage event: settled, or late after it had expired."""
    return bool(row["charged_at"])


def number_of(row: ArchiveRow) -> HoldId:
    """The id of a row, as the database has it."""
    number = parse_id(row["id"])
    assert number is not None, "an archive has the ids of requests"
    return number


@dataclass(slots=True)
class Tally:
    """What the rows of an archive add up to. Two that are equal have met the same number of rows and amounts."""

    rows: int = 0
    first_id: str = ""
    last_id: str = ""
    states: Counter[str] = field(default_factory=Counter)
    usage: dict[str, Counter[str]] = field(default_factory=dict)
    """By funding: calls, charged, refunded."""

    def add(self, rows: Iterable[ArchiveRow]) -> None:
        for row in rows:
            self.first_id, self.last_id = self.first_id or row["id"], row["id"]
            self.rows += 1
            self.states[row["state"]] += 1
            if is_usage(row):
                amounts = {"calls": 1, "charged": int(row["charged"]), "refunded": int(row["refunded"])}
                self.usage.setdefault(row["funding"], Counter()).update(amounts)

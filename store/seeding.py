"""A set of catalogue entries put in one transaction, as the seeds name them.

Only what an entry names is written; what it does not name stays as it is, and starts as `otherwise` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection

from policies.terms import Catalogue
from store.catalogue import changed, load, put_app, put_model, put_plan


class Kind(StrEnum):
    """What there is in the catalogue, in the order in which one depends on the other."""

    APP = "app"
    MODEL = "model"
    PLAN = "plan"


@dataclass(frozen=True, slots=True)
class Entry:
    """An app, a model or a plan as it should be, by the columns of its table."""

    kind: Kind
    key: str
    named: Mapping[str, Any]
    otherwise: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Put:
    """What became of an entry: whether it is new, and every column that changed with its old and new value."""

    kind: Kind
    key: str
    created: bool
    changes: Mapping[str, tuple[Any, Any]]


def put_all(connection: Connection, entries: Sequence[Entry], now: datetime) -> list[Put]:
    """Create or change every entry, and announce the change if there was any. Safe to repeat."""
    before = load(connection)
    puts = [_put(connection, entry, before, now) for entry in entries]
    if any(put.changes for put in puts):
        changed(connection)
    return puts


def _put(connection: Connection, entry: Entry, before: Catalogue, now: datetime) -> Put:
    match entry.kind:
        case Kind.APP:
            created = entry.key not in before.apps
            changes = put_app(connection, entry.key, _values(entry, created))
        case Kind.MODEL:
            created = entry.key not in before.models
            changes = put_model(connection, entry.key, _values(entry, created))
        case Kind.PLAN:
            plan = next((plan for plan in before.plans if plan.plan_id == entry.key), None)
            created = plan is None
            values = _values(entry, created)
            position = values.pop("position")
            active = values.pop("active", plan is None or plan.active)
            changes = put_plan(connection, entry.key, values, position, active, now)
    return Put(entry.kind, entry.key, created, changes)


def _values(entry: Entry, created: bool) -> dict[str, Any]:
    return {**entry.otherwise, **entry.named} if created else dict(entry.named)

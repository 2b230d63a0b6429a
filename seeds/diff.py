"""What loading seeds has changed, in the words of the seed files: for people to read, and as JSON for machines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any

from policies.pricing import to_credits
from store.seeding import Put


class Change(StrEnum):
    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class SeedRow:
    """One entry of a seed. `fields` has the old and the new value of what changed; of a new entry the old is None."""

    kind: str
    key: str
    change: Change
    fields: Mapping[str, tuple[object, object]]


@dataclass(frozen=True, slots=True)
class SeedDiff:
    """Every entry that was loaded, in the order of loading."""

    rows: tuple[SeedRow, ...]

    @property
    def empty(self) -> bool:
        """Whether nothing has changed, as after every second load of the same files."""
        return all(row.change is Change.UNCHANGED for row in self.rows)

    def count(self, change: Change) -> int:
        return sum(row.change is change for row in self.rows)

    def as_json(self) -> dict[str, object]:
        rows = [
            {
                "kind": row.kind,
                "key": row.key,
                "change": row.change.value,
                "fields": {name: {"old": old, "new": new} for name, (old, new) in row.fields.items()},
            }
            for row in self.rows
        ]
        return {**{change.value: self.count(change) for change in Change}, "rows": rows}


def diff_of(puts: Iterable[Put]) -> SeedDiff:
    """The diff of what was put into the catalogue."""
    return SeedDiff(tuple(_row(put) for put in puts))


def _row(put: Put) -> SeedRow:
    change = Change.CREATED if put.created else Change.CHANGED if put.changes else Change.UNCHANGED
    fields = {}
    for column, (old, new) in put.changes.items():
        name, shown = _SHOWN.get(column, (column, _as_it_is))
        fields[name] = (None if old is None else shown(old), None if new is None else shown(new))
    return SeedRow(put.kind.value, put.key, change, fields)


def _as_it_is(value: Any) -> object:
    return value


def _rates(value: Mapping[str, str]) -> object:
    """Credits for one unit. As texts, since JSON readers would turn 0.000001 into something else."""
    return {unit: format(Decimal(rate).scaleb(-6).normalize(), "f") for unit, rate in value.items()}


_SHOWN: dict[str, tuple[str, Callable[[Any], object]]] = {
    "position": ("order", _as_it_is),
    "price_base": ("price.base", to_credits),
    "price_rates": ("price.per", _rates),
    "price_step": ("price.round_up_to", to_credits),
    "price_terms": ("price.terms", _as_it_is),
    "quota_terms": ("quota_cost.terms", _as_it_is),
    "price_version": ("price.version", _as_it_is),
    "price": ("price.amount", _as_it_is),
    "currency": ("price.currency", _as_it_is),
    "daily_quota": ("quota.daily", _as_it_is),
    "monthly_quota": ("quota.monthly", _as_it_is),
    "trial_days": ("trial.days", _as_it_is),
    "quota_timezone": ("quota.timezone", _as_it_is),
    "quota_day_starts": ("quota.day_starts", _as_it_is),
    "quota_month": ("quota.month", _as_it_is),
    "daily_rollover": ("quota.rollover.daily", _as_it_is),
    "monthly_rollover": ("quota.rollover.monthly", _as_it_is),
}
"""Columns that the seed files call otherwise, and how their values are written there."""

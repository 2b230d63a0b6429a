"""What is for sale: apps, models and plans, read as one immutable snapshot with a revision.

Written by seeds and operators, read into memory by every process, which asks for the revision now and then.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, time, tzinfo
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row
from sqlalchemy.exc import IntegrityError

from config.time_zones import UnknownZone, zone_named
from policies.terms import (
    App,
    Catalogue,
    Cycle,
    Model,
    ModelKey,
    Plan,
    QuotaMonth,
    QuotaRules,
    Tier,
)
from store.engine import StoreUnavailable
from store.price_rows import price_of, quota_price_of
from store.tables import apps, counters, models, plan_versions, plans

_REVISION = "catalogue_revision"


def revision(connection: Connection) -> int:
    """Counts the changes of the catalogue."""
    return connection.execute(sa.select(counters.c.value).where(counters.c.name == _REVISION)).scalar() or 0


def load(connection: Connection) -> Catalogue:
    """The whole catalogue. Plans come with their current version, in display order."""
    app_rows = connection.execute(sa.select(apps).order_by(apps.c.position, apps.c.id))
    model_rows = connection.execute(sa.select(models).order_by(models.c.key))
    on_sale = (
        sa.select(plan_versions, plans.c.active, plans.c.position)
        .join(plans, plans.c.version_id == plan_versions.c.id)
        .order_by(plans.c.position, plans.c.id)
    )
    return Catalogue(
        revision=revision(connection),
        models={row.key: _model(row) for row in model_rows},
        apps={row.id: _app(row) for row in app_rows},
        plans=tuple(plan_of(row, row.active, row.position) for row in connection.execute(on_sale)),
    )


def find_model(connection: Connection, key: str) -> Model | None:
    """A model as it is sold now, for who has no catalogue in memory."""
    row = connection.execute(sa.select(models).where(models.c.key == key)).first()
    return None if row is None else _model(row)


def _app(row: Row[Any]) -> App:
    return App(
        row.id,
        row.name,
        row.description,
        row.icon,
        row.version,
        row.route_prefix,
        row.enabled,
        row.beta,
        row.coming_soon,
        row.position,
        row.color,
    )


def _model(row: Row[Any]) -> Model:
    price = row.price_base, row.price_rates, row.price_step, row.price_version, row.price_terms
    return Model(
        key=ModelKey(row.key),
        app=row.app_id,
        # Only the first colon separates: model ids such as llama3:8b have their own.
        model_id=row.key.partition(":")[2],
        name=row.name,
        provider=row.provider,
        tier=Tier(row.tier),
        price=price_of(*price),
        quota_cost=row.quota_cost,
        enabled=row.enabled,
        beta=row.beta,
        description=row.description,
        capabilities=row.capabilities,
        quota_price=quota_price_of(row.quota_cost, row.quota_terms),
    )


def plan_of(row: Row[Any], active: bool, order: int) -> Plan:
    """A plan from a row of plan_versions. Raises StoreUnavailable where its time zone is not known here."""
    return Plan(
        version_id=row.id,
        plan_id=row.plan_id,
        version=row.version,
        tier=Tier(row.tier),
        name=row.name,
        description=row.description,
        price=row.price,
        currency=row.currency,
        cycle=Cycle(row.cycle),
        daily_quota=row.daily_quota,
        monthly_quota=row.monthly_quota,
        max_model_tier=Tier(row.max_model_tier),
        features=row.features,
        active=active,
        order=order,
        created_at=row.created_at,
        trial_days=row.trial_days,
        quota_rules=_quota_rules(row),
    )


def stored_zone(name: str) -> tzinfo:
    """The time zone of a plan, as it is stored. Raises StoreUnavailable where it is not known."""
    try:
        return zone_named(name)
    except UnknownZone as error:
        # A machine with newer zones has sold the plan. Rather than to count by another zone, nothing is counted here.
        raise StoreUnavailable(f"a plan has a time zone that is not known here: {error}; update tzdata") from None


def _quota_rules(row: Row[Any]) -> QuotaRules:
    return QuotaRules(
        zone=stored_zone(row.quota_timezone),
        day_starts=time.fromisoformat(row.quota_day_starts),
        month=QuotaMonth(row.quota_month),
        daily_rollover=row.daily_rollover,
        monthly_rollover=row.monthly_rollover,
    )


def put_app(connection: Connection, app_id: str, values: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Create or change an app; returns the fields that changed, with their old and new values."""
    return _put(connection, apps, apps.c.id, app_id, values)


def put_model(connection: Connection, key: str, values: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Create or change a model. A change of its price gets the next price version."""
    before = connection.execute(sa.select(models).where(models.c.key == key)).mappings().first()
    version = before["price_version"] if before else 1
    price = ("price_base", "price_rates", "price_step", "price_terms", "quota_cost", "quota_terms")
    if before and any(name in values and before[name] != values[name] for name in price):
        version += 1
    return _put(connection, models, models.c.key, key, {**values, "price_version": version})


def _put(
    connection: Connection, table: sa.Table, key_column: sa.Column[Any], key: str, values: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    before = connection.execute(sa.select(table).where(key_column == key)).mappings().first()
    old: dict[str, Any] = dict(before) if before else {}
    changes = {name: (old.get(name), value) for name, value in values.items() if old.get(name) != value}
    if before is None:
        connection.execute(sa.insert(table).values({key_column.name: key, **values}))
        return {key_column.name: (None, key), **changes}
    if changes:
        connection.execute(sa.update(table).where(key_column == key).values({name: values[name] for name in changes}))
    return changes


def put_plan(
    connection: Connection, plan_id: str, terms: Mapping[str, Any], position: int, active: bool, now: datetime
) -> dict[str, tuple[Any, Any]]:
    """Put a plan on sale. Changed terms are a new version; subscribers keep the version they have."""
    query = (
        sa.select(plan_versions, plans.c.active, plans.c.position)
        .join(plans, plans.c.version_id == plan_versions.c.id)
        .where(plans.c.id == plan_id)
    )
    before = connection.execute(query).mappings().first()
    old: dict[str, Any] = dict(before) if before else {}
    changes = {name: (old.get(name), value) for name, value in terms.items() if old.get(name) != value}
    offer = {"position": position, "active": active}
    offered = {name: (old.get(name), value) for name, value in offer.items() if old.get(name) != value}
    if changes:
        version = old.get("version", 0) + 1
        values = {**terms, "plan_id": plan_id, "version": version, "created_at": now}
        offer["version_id"] = connection.execute(
            sa.insert(plan_versions).values(values).returning(plan_versions.c.id)
        ).scalar_one()
    if before is None:
        connection.execute(sa.insert(plans).values(id=plan_id, **offer))
        return {"id": (None, plan_id), **changes, **offered}
    if changes or offered:
        connection.execute(sa.update(plans).where(plans.c.id == plan_id).values(offer))
    return {**changes, **offered}


def changed(connection: Connection) -> int:
    """Announce a change: every process reloads the catalogue when it sees the new revision."""
    return next_number(connection, _REVISION)


def next_number(connection: Connection, name: str) -> int:
    """The next value of a counter that processes share."""
    bumped = (
        sa.update(counters)
        .where(counters.c.name == name)
        .values(value=counters.c.value + 1)
        .returning(counters.c.value)
    )
    value = connection.execute(bumped).scalar()
    if value is None:
        try:
            with connection.begin_nested():
                connection.execute(sa.insert(counters).values(name=name, value=1))
        except IntegrityError:
            # Another node's first number came first, on a database with several writers.
            value = connection.execute(bumped).scalar_one()
    return 1 if value is None else int(value)

"""The rows of a Book as the values that the database's driver takes: moments as microseconds, free-form values as JSON.

Key columns come twice, as `id` for an INSERT and as `where_id` for an UPDATE; a statement takes what it names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from store.columns import to_micros
from store.rows import AccountRow, Entry, GrantRow, HoldRow, WindowRow
from store.verbs import Usage

_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode

Values = Mapping[str, Any]


def _micros(moment: datetime | None) -> int | None:
    return None if moment is None else to_micros(moment)


def account_values(row: AccountRow) -> Values:
    return {"where_id": row.id, "posted": row.posted, "pending": row.pending, "version": row.version}


def grant_values(row: GrantRow, now: int) -> Values:
    return {
        "id": row.id,
        "where_id": row.id,
        "account_id": row.account_id,
        "key": row.key,
        "source": row.source,
        "amount": row.amount,
        "remaining": row.remaining,
        "held": row.held,
        "priority": row.priority,
        "effective_at": to_micros(row.effective_at),
        "expires_at": _micros(row.expires_at),
        "description": row.description,
        "created_at": now,
    }


def window_values(row: WindowRow) -> Values:
    account_id, start, metric = row.key
    start_micros = to_micros(start)
    return {
        "account_id": account_id,
        "where_account_id": account_id,
        "window_start": start_micros,
        "where_window_start": start_micros,
        "metric": metric,
        "where_metric": metric,
        "window_end": to_micros(row.end),
        "limit": row.limit,
        "used": row.used,
        "held": row.held,
        "plan_version_id": row.plan_version_id,
    }


def hold_changes(row: HoldRow) -> dict[str, Any]:
    return {
        "where_id": row.id,
        "state": row.state,
        "settled_amount": row.settled_amount,
        "refunded_amount": row.refunded_amount,
        "taken": _json(row.taken),
        "job_id": row.job_id,
        "on_deadline": row.on_deadline,
        "deadline": to_micros(row.deadline),
        "ended_at": _micros(row.ended_at),
        "end_reason": row.end_reason,
    }


def hold_values(row: HoldRow) -> Values:
    request = row.request
    return hold_changes(row) | {
        "id": row.id,
        "account_id": row.account_id,
        "user_id": request.user_id,
        "key_id": request.key_id,
        "funding": row.funding,
        "amount": row.amount,
        "model_key": request.model_key,
        "action": request.action,
        "route_id": request.route_id,
        "policy_revision": request.policy_revision,
        "rule": request.rule,
        "price_version": request.price_version,
        "units": _json(request.units),
        "created_at": to_micros(row.created_at),
    }


def entry_values(entry: Entry, now: int) -> Values:
    return {
        "account_id": entry.account_id,
        "version": entry.version,
        "kind": entry.kind,
        "amount": entry.amount,
        "balance_after": entry.balance_after,
        "hold_id": entry.hold_id,
        "grant_id": entry.grant_id,
        "description": entry.description,
        "at": now,
    }


def usage_values(hold: HoldRow, usage: Usage, now: int) -> Values:
    request = hold.request
    return {
        "id": hold.id,
        "account_id": hold.account_id,
        "user_id": request.user_id,
        "key_id": request.key_id,
        "model_key": request.model_key,
        "action": request.action,
        "route_id": request.route_id,
        "funding": hold.funding,
        "quoted": hold.amount,
        "charged": hold.settled_amount,
        "units": _json(usage.units),
        "estimated": usage.estimated,
        "upstream_status": usage.upstream_status,
        "latency_ms": usage.latency_ms,
        "at": now,
    }

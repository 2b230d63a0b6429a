"""Idempotency keys: which request acts for a key, and the answer that is kept for those that come later.

A key is claimed in one transaction, before anything is reserved; of any number of equal requests, on any number of
nodes, one gets it. What became of that one is read from its hold, and judged by `policies.idempotency`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from policies.holds import HoldState
from policies.idempotency import First, Verdict, decide
from policies.terms import AccountId, HoldId, OnLate
from store.columns import Moment
from store.tables import holds, idempotency_keys
from store.verbs import KeptAnswer

_KEYS = idempotency_keys.c
_CLAIM = sa.text(
    "INSERT INTO idempotency_keys (account_id, key, fingerprint, request_id, claimed_at, expires_at)"
    " VALUES (:account_id, :key, :fingerprint, :request_id, :claimed_at, :expires_at)"
    " ON CONFLICT (account_id, key) DO NOTHING"
).bindparams(sa.bindparam("claimed_at", type_=Moment), sa.bindparam("expires_at", type_=Moment))


@dataclass(frozen=True, slots=True)
class Claim:
    """Who wants to act for a key, and for how long the key is kept; `patience` is for those who never reserved."""

    account_id: AccountId
    key: str
    fingerprint: str
    request_id: HoldId
    lasts: timedelta
    patience: timedelta


@dataclass(frozen=True, slots=True)
class Used:
    """A key that another request has, with what there is to tell about that one. Amounts are in the hold's unit."""

    verdict: Verdict
    request_id: HoldId
    answer: KeptAnswer | None
    state: str | None
    charged: int
    funding: str | None
    job_id: str | None


def claim(connection: Connection, wanted: Claim, clock: Callable[[Connection], datetime]) -> Used | None:
    """Take the key; None when it is ours now. Its row is the lock: nobody else decides about it meanwhile."""
    now = clock(connection)
    ours: dict[str, Any] = {
        "fingerprint": wanted.fingerprint,
        "request_id": wanted.request_id,
        "claimed_at": now,
        "expires_at": now + wanted.lasts,
    }
    if connection.execute(_CLAIM, {"account_id": wanted.account_id, "key": wanted.key, **ours}).rowcount == 1:
        return None
    where = (_KEYS.account_id == wanted.account_id) & (_KEYS.key == wanted.key)
    row = connection.execute(sa.select(idempotency_keys).where(where).with_for_update()).first()
    if row is None:
        # Forgotten between the two statements. Whoever asks again finds it free.
        return Used(Verdict.WAIT, wanted.request_id, None, None, 0, None, None)
    hold = connection.execute(sa.select(holds).where(holds.c.id == row.request_id)).first()
    verdict = decide(_first(row, hold, wanted.fingerprint), now, wanted.patience)
    if verdict is Verdict.RUN:
        fresh = {**ours, "status": None, "headers": None, "body": None}
        connection.execute(sa.update(idempotency_keys).where(where).values(fresh))
        return None
    kept = verdict is Verdict.REPLAY
    headers = [(name, value) for name, value in row.headers or ()]
    answer = KeptAnswer(wanted.key, row.status, headers, row.body) if kept else None
    request_id = HoldId(row.request_id)
    if hold is None:
        return Used(verdict, request_id, answer, None, 0, None, None)
    return Used(verdict, request_id, answer, hold.state, hold.settled_amount, hold.funding, hold.job_id)


def _first(row: Any, hold: Any, fingerprint: str) -> First:
    common = row.fingerprint == fingerprint, row.status is not None, row.claimed_at, row.expires_at
    if hold is None:
        return First(*common, None)
    return First(
        *common, HoldState(hold.state), hold.job_id is not None, OnLate(hold.on_late), hold.late_at is not None
    )


def keep(connection: Connection, account_id: AccountId, request_id: HoldId, answer: KeptAnswer) -> None:
    """Keep the answer for those that come later, as long as the key is the request's. The ledger does it, together with
    the end of the hold or the job's binding: so there is no moment at which one of them is there without the other.
    """
    values = {"status": answer.status, "headers": [*answer.headers], "body": answer.body}
    where = _is_of(account_id, answer.key, request_id)
    connection.execute(sa.update(idempotency_keys).where(where).values(values))


def give_up(connection: Connection, claimed: Claim) -> None:
    """Free the key of a request that has reserved nothing, or forget that it ever claimed it."""
    made = sa.select(holds.c.id).where(holds.c.id == claimed.request_id)
    where = _is_of(claimed.account_id, claimed.key, claimed.request_id)
    connection.execute(sa.delete(idempotency_keys).where(where, ~sa.exists(made)))


def _is_of(account_id: AccountId, key: str, request_id: HoldId) -> sa.ColumnElement[bool]:
    return (_KEYS.account_id == account_id) & (_KEYS.key == key) & (_KEYS.request_id == request_id)


def forget_expired(connection: Connection, now: datetime, limit: int) -> int:
    """Delete keys that are not kept any more. Nobody waits for it: an expired key is as good as none."""
    chosen = sa.select(_KEYS.account_id, _KEYS.key).where(_KEYS.expires_at <= now).order_by(_KEYS.expires_at)
    pairs = [(row.account_id, row.key) for row in connection.execute(chosen.limit(limit))]
    if pairs:
        # Once more by its time: a key that was claimed anew meanwhile stays.
        named = sa.tuple_(_KEYS.account_id, _KEYS.key).in_(pairs)
        connection.execute(sa.delete(idempotency_keys).where(named, _KEYS.expires_at <= now))
    return len(pairs)

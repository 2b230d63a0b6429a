"""The decision log: one record for each metered request that was decided, behind the request and never before it.

A record is put into a bounded queue and written with others, into the store and, where the settings name one, into a
file of JSON lines. A queue that is full drops the record and counts it: what is dropped is missing from explanations
and comparisons, and no request waits for it. User ids are digests unless the settings say otherwise; tokens, e-mail
addresses and bodies are never part of a record.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from config.settings import LoadedSettings
from policies.callers import Caller
from policies.evaluate import Allow, Ask
from policies.pricing import to_credits
from policies.recorded import kept_ask, kept_caller
from policies.refusals import Reason, Refusal, iso
from policies.terms import Funding, HoldId
from policies.values import value
from proxy.candidate import Candidate
from proxy.metrics import Metrics
from store import decisions
from store.decisions import Row
from store.engine import StoreUnavailable
from store.ids import id_text
from store.opening import Store
from store.verbs import Hold

MAX_WAITING = 20_000
"""Records that may wait, at about 1 KiB each: some seconds of a busy process while the store is slow."""

BATCH = 500
"""Records written at once, so that the ledger's batches wait for milliseconds."""

MAX_MODEL = 200
"""Characters of a model's key that are kept."""

PAUSE_S = 0.25
"""Between two batches: a record can be found a quarter of a second after its request."""

PURGE_EVERY = 400
"""Rounds between two purges: once in about two minutes."""

log = logging.getLogger(__name__)


@value
class Took:
    """Seconds: of the policy alone, and until the ledger had answered as well."""

    policy_s: float
    reserved_s: float


@value
class Call:
    """What was decided about: a request, by its id, of a caller; and how long that took."""

    request_id: HoldId
    caller: Caller
    ask: Ask
    revision: str
    now: datetime
    took: Took


class DecisionLog:
    """The records of one process. `add` never waits; `writing` surrounds the time in which they are written."""

    def __init__(self, settings: LoadedSettings, store: Store, metrics: Metrics, candidate: Candidate) -> None:
        self._settings = settings.values.decisions
        self._file = settings.folder / self._settings.file if self._settings.file is not None else None
        self._store = store
        self._metrics = metrics
        self._candidate = candidate
        self._waiting: deque[Row] = deque()

    def add(self, call: Call, decided: Allow | Refusal, outcome: Hold | Refusal) -> None:
        """What the policy decided, and the hold that came of it, or with what the request was refused in the end."""
        refusal = outcome if isinstance(outcome, Refusal) else None
        other = self._candidate.differs(call.caller, call.ask, decided, call.now)
        wanted = self._settings.record
        if other is None and (wanted == "none" or (wanted == "refused" and refusal is None)):
            return
        if len(self._waiting) >= MAX_WAITING:
            self._metrics.decision_dropped()
            return
        row = self._row(call, decided, refusal, other)
        if isinstance(outcome, Hold):
            held = {"funding": outcome.funding, "amount": outcome.amount, "left": outcome.available}
            row["details"]["held"] = held
        self._waiting.append(row)

    def _row(self, call: Call, decided: Allow | Refusal, refusal: Refusal | None, other: str | None) -> Row:
        masked = self._settings.users == "masked"
        caller = kept_caller(call.caller, call.now, masked=masked)
        details: dict[str, Any] = {"caller": caller, "ask": kept_ask(call.ask)}
        details["policy_us"], details["reserved_us"] = (
            round(call.took.policy_s * 1e6),
            round(call.took.reserved_s * 1e6),
        )
        if isinstance(decided, Allow):
            rule = decided.rule
            details["quote"] = {
                "credits": decided.quote.credits,
                "quota": decided.quote.quota,
                "fundings": list(decided.quote.fundings),
            }
            details["notices"] = [[notice.rule, notice.mode] for notice in decided.notices]
        else:
            rule = str(decided.fields.get("rule") or "")
        if refusal is not None and refusal.reason is Reason.RATE_LIMITED:
            rule = str(refusal.fields.get("limit"))
        if other is not None:
            details["candidate"] = other
        return {
            "id": call.request_id,
            "account_id": call.caller.account.account_id,
            "at": call.now,
            "allowed": refusal is None,
            "code": str(refusal.reason) if refusal is not None else None,
            "rule": rule or None,
            "revision": call.revision,
            # What a client sent as a model may be anything.
            "model_key": call.ask.model_key[:MAX_MODEL],
            "route_id": call.ask.route or "",
            "details": details,
        }

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """Records are written meanwhile, and the last of them at the end."""
        task = asyncio.create_task(self._run(), name="decision log")
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await self._write_waiting()

    async def _run(self) -> None:
        rounds = 0
        while True:
            await asyncio.sleep(PAUSE_S)
            await self._write_waiting()
            rounds += 1
            if rounds % PURGE_EVERY == 0:
                await self._purge()

    async def _write_waiting(self) -> None:
        while self._waiting:
            rows = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            try:
                await self._store.database.write(decisions.write, rows)
            except StoreUnavailable as error:
                self._metrics.decision_dropped(len(rows))
                log.warning("%d decisions were not written down: %s", len(rows), error)
            except Exception:
                # A fault in some rows must not end the writing of all that come after them.
                self._metrics.decision_dropped(len(rows))
                log.exception("%d decisions could not be written down", len(rows))
            if self._file is not None:
                await asyncio.to_thread(_append, self._file, rows)

    async def _purge(self) -> None:
        with suppress(StoreUnavailable):
            await self._store.database.write(decisions.purge, self._store.clock() - self._settings.keep)


def record_of(row: Row) -> dict[str, Any]:
    """A row as JSON lines and operators have it."""
    return {
        "request_id": id_text(row["id"]),
        "at": iso(row["at"]),
        "account": row["account_id"],
        "allowed": row["allowed"],
        "code": row["code"],
        "rule": row["rule"],
        "revision": row["revision"],
        "model": row["model_key"],
        "route": row["route_id"],
        **_told(row["details"]),
        "action": row["details"]["ask"]["action"],
        "units": row["details"]["ask"]["units"],
    }


def _told(details: dict[str, Any]) -> dict[str, Any]:
    """What was kept beside the request, with prices in credits."""
    told = {name: value for name, value in details.items() if name != "ask"}
    if "quote" in told:
        told["quote"] = {**told["quote"], "credits": to_credits(told["quote"]["credits"])}
    if "held" in told and told["held"]["funding"] == Funding.CREDITS:
        held = told["held"]
        told["held"] = {**held, "amount": to_credits(held["amount"]), "left": to_credits(held["left"])}
    return told


def _append(path: Path, rows: Sequence[Row]) -> None:
    """Whoever rotates the file need not tell us: it is opened for each batch."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(record_of(row), ensure_ascii=False) + "\n" for row in rows)
    except OSError as error:
        log.warning("%d decisions were not written to %s: %s", len(rows), path, error.strerror)

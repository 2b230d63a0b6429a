"""Changes from outside: policy files, rollbacks and the catalogue, looked at every second, and on demand.

A reload that somebody asks for reaches every process of the node: the main one reads the policy, has its workers do the
same, and hears of each. Nobody waits longer than `PATIENCE_S` for that.

A change becomes a new rulebook, as one assignment; a mistake changes nothing. Files that change are put in force when
they have been the same for one look, so that half of a file is not taken for a policy because it happens to be one.
"""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from config.findings import Finding
from proxy.candidate import Candidate
from proxy.services import Services
from proxy.workers import node_of
from store import audit, catalogue, policy_history
from store.audit import Act, Outcome, Result
from store.engine import StoreUnavailable
from store.policy_history import StoredPolicy

INTERVAL_S = 1.0
"""Between two looks: people do not notice it, and reading a few small files a second costs nothing."""

REPORT_EVERY = timedelta(seconds=30)
"""How often a process says again what it has said: a quarter of the time after which it is forgotten."""

PATIENCE_S = 3.0
"""For all workers together: more than one needs that has to notice by itself."""

LOOK_S = 0.05
"""Between two looks at what the workers say."""

NODE = node_of(os.getpid())
ITSELF = "farebox"
"""In the audit log, who has done what nobody asked for: a file was saved, a policy was rolled back elsewhere."""

log = logging.getLogger(__name__)


async def watch(services: Services, candidate: Candidate) -> None:
    """Runs until it is cancelled. Trouble with the store or the files is logged, and tried again."""
    reporter = Reporter(services)
    while True:
        try:
            await reporter.report()
            if await _asked(services):
                await reload(services)
            else:
                await _look(services)
            # Under the same lock: two threads that compile at once have Python parse in both, which 3.11.7 cannot.
            async with services.reloading:
                await asyncio.to_thread(candidate.look, services.rulebooks.current.catalogue)
        except StoreUnavailable as error:
            log.warning("cannot look for changes of the catalogue: %s", error)
            await asyncio.sleep(INTERVAL_S)
        except Exception:
            log.exception("looking for changes failed")
            await asyncio.sleep(INTERVAL_S)


async def _asked(services: Services) -> bool:
    """Wait until it is time to look; whether that is because somebody has asked for it."""
    try:
        await asyncio.wait_for(services.asked.wait(), INTERVAL_S)
    except TimeoutError:
        return False
    services.asked.clear()
    return True


async def _look(services: Services) -> None:
    rulebooks, database = services.rulebooks, services.store.database
    settled, changed = rulebooks.settled(), rulebooks.changed_on_disk()
    known = rulebooks.knows(await database.read(catalogue.revision))
    known = known and rulebooks.knows_stored(await database.read(policy_history.latest_number))
    if (changed and settled) or not known:
        await reload(services)


async def reload(
    services: Services, by: str = ITSELF, place: str = NODE, role: str | None = None
) -> tuple[Finding, ...]:
    """Put what is on disk and in the catalogue in force; returns what is wrong with it, and then nothing changed.

    Compiled in a thread, so that requests go on by the old policy meanwhile. `by`, `place` and `role` tell who has
    asked for it, from where, and as which operator.
    """
    async with services.reloading:
        database, rulebooks = services.store.database, services.rulebooks
        before = rulebooks.current
        for_sale, stored = await database.read(catalogue.load), await database.read(policy_history.latest)
        findings = await asyncio.to_thread(rulebooks.reload, for_sale, services.now(), stored)
        # Only what is new: two nodes with different files would else write in turns for ever.
        if not findings and rulebooks.current is not before:
            await keep(services, "files")
        await _note(services, Act(by, place, "policy reload", {}, role), before.revision, findings)
        return findings


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What came of it: what is wrong with the files, or which workers do not have the policy yet, by their names."""

    findings: tuple[Finding, ...]
    workers: int = 0
    behind: tuple[str, ...] = ()


async def reload_node(services: Services, by: str, place: str, role: str | None = None) -> Reloaded:
    """Put what is on disk in force in every process of this node. What is refused here is tried nowhere else."""
    findings = await reload(services, by, place, role)
    if findings:
        return Reloaded(findings)
    with suppress(StoreUnavailable):
        # Whoever looks at `policy nodes` next sees this process among the others.
        await Reporter(services).report()
    behind = tuple(map(node_of, sorted(await _follow(services))))
    if behind:
        log.warning("workers that do not say yet that they have the policy: %s", ", ".join(behind))
    return Reloaded((), len(services.workers.pids), behind)


async def _follow(services: Services) -> set[int]:
    """Ask the workers to look, and wait until they say that they have what this process has. Those that do not."""
    revision, workers = services.rulebooks.current.revision, services.workers
    behind, asked = workers.pids, set[int]()
    with suppress(TimeoutError, StoreUnavailable):
        async with asyncio.timeout(PATIENCE_S):
            while behind:
                said = await workers.said(services.store.database)
                behind = {pid for pid in workers.pids if said.get(pid) != revision}
                # Who has said nothing is not up, and reads the files in any case; a signal would end it.
                for pid in (behind & said.keys()) - asked:
                    workers.ask(pid)
                    asked.add(pid)
                if behind:
                    await asyncio.sleep(LOOK_S)
    return behind


async def _note(services: Services, act: Act, before: str, findings: tuple[Finding, ...]) -> None:
    """Into the audit log: what somebody has asked for, and of what this process does by itself, what makes a change."""
    after = services.rulebooks.current.revision
    if act.actor == ITSELF and after == before and not findings:
        return
    outcome = Outcome.REFUSED if findings else Outcome.DONE
    # The first line of each says what and where; the others quote the file.
    wrong = "; ".join(str(finding).partition("\n")[0] for finding in findings)
    result = Result(outcome, wrong or None, before, after)
    try:
        await services.store.database.write(audit.note, act, result, services.now())
    except StoreUnavailable as error:
        log.error("not in the audit log, %s %s by %s: %s", act.operation, result, act.actor, error)


async def keep_first(services: Services, stored: StoredPolicy | None) -> None:
    """The policy of a start, where it is another one than the last that was in force."""
    await keep(services, "files")
    before, after = stored.revision if stored is not None else None, services.rulebooks.current.revision
    if stored is None or not services.rulebooks.knows_stored(stored.number):
        act = Act(ITSELF, NODE, "policy start", {})
        await services.store.database.write(audit.note, act, Result(Outcome.DONE, None, before, after), services.now())


async def keep(services: Services, origin: str) -> None:
    """Write down the policy in force, for a start without a good file, and for going back to it."""
    rulebooks = services.rulebooks
    if rulebooks.policy.files and not rulebooks.status.using_last_good:
        texts, revision = rulebooks.policy.texts, rulebooks.current.revision
        arguments = (revision, texts, origin, rulebooks.overruled, services.now())
        rulebooks.remember(await services.store.database.write(policy_history.record, *arguments))


class Reporter:
    """Says in the store which policy this process has, when that changes and now and then."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._said: dict[str, Any] = {}
        self._said_at: datetime | None = None

    async def report(self) -> None:
        status, now = self._services.rulebooks.status, self._services.now()
        state = {
            "revision": status.revision,
            "loaded_at": status.loaded_at,
            "using_last_good": status.using_last_good,
            "error": str(status.findings[0]) if status.findings else None,
        }
        if state == self._said and self._said_at is not None and now - self._said_at < REPORT_EVERY:
            return
        await self._services.store.database.write(policy_history.report, NODE, state, now)
        self._said, self._said_at = state, now

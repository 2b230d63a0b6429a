"""Jobs that finish later: reading how they ended from the answers that pass by.

A route accepts a job and its hold stays open; another route's answers tell how jobs stand. Whoever sees the end first
ends the hold, and everybody later finds it ended. A job belongs to the account that started it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from config.routes import Job, Poll
from policies.callers import Caller
from policies.refusals import Reason, Refusal
from proxy.pipeline.exchange import Routed
from proxy.strict_json import Unreadable, find, tokens
from store.ledger import Ledger
from store.opening import Store
from store.reports import JobHold, job_holds
from store.verbs import Release, Settle, Usage

MAX_JOB_ID = 200
MAX_ITEMS = 1000
"""Jobs looked at in one answer; a list page of a backend has some tens."""


def accepted_job(job: Job, documents: Sequence[Any]) -> str | None:
    """The id of the job that an answer has accepted, if it names one."""
    return _text_at(documents[0], job.id.json_) if documents else None


async def foreign_job(poll: Poll, routed: Routed, caller: Caller, store: Store) -> Refusal | None:
    """404 for a job of another account, as if it did not exist."""
    if poll.id.path is None:
        return None
    holds = await store.database.read(job_holds, poll.of, [routed.parameters[poll.id.path]])
    if any(hold.account_id != caller.account.account_id for hold in holds):
        return Refusal(Reason.NOT_FOUND, "Not Found", "There is no such job for this account.")
    return None


async def observe(poll: Poll, routed: Routed, caller: Caller, documents: Sequence[Any], store: Store) -> None:
    """End the holds of the jobs that an answer says have ended: completed ones are settled, failed ones released."""
    states = dict(_job_states(poll, routed, documents[0])) if documents else {}
    ended = {job: state for job, state in states.items() if state in poll.completed or state in poll.failed}
    if not ended:
        return
    for hold in await store.database.read(job_holds, poll.of, list(ended)):
        if hold.can_be_charged and hold.account_id == caller.account.account_id:
            await _end(hold, ended[hold.job_id] in poll.completed, store.ledger)


async def _end(hold: JobHold, completed: bool, ledger: Ledger) -> None:
    if completed:
        await ledger.end(Settle(hold.hold_id, hold.account_id, None, Usage(hold.units), "job completed"))
    else:
        await ledger.end(Release(hold.hold_id, hold.account_id, "job failed"))


def _job_states(poll: Poll, routed: Routed, document: Any) -> Iterable[tuple[str, str]]:
    """Every job that an answer speaks of, with its state."""
    for item in _items(poll, document):
        job_id = routed.parameters[poll.id.path] if poll.id.path is not None else _first_text(poll, item)
        state = _text_at(item, poll.status.json_)
        if job_id is not None and state is not None:
            yield job_id, state


def _items(poll: Poll, document: Any) -> Sequence[Any]:
    if poll.items is None:
        return (document,)
    try:
        items = find(document, tokens(poll.items.json_))
    except Unreadable:
        return ()
    return items[:MAX_ITEMS] if isinstance(items, list) else ()


def _first_text(poll: Poll, item: Any) -> str | None:
    return next((text for pointer in poll.id.json_ or () if (text := _text_at(item, pointer)) is not None), None)


def _text_at(document: Any, pointer: str) -> str | None:
    """A text or whole number, as text: backends use both as ids."""
    try:
        value = find(document, tokens(pointer))
    except Unreadable:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = str(value)
    return text if 0 < len(text) <= MAX_JOB_ID and text.isprintable() else None

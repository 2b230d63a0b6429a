"""Step 7: how a hold ends. Exactly once, whatever happens to the client, the backend or this process.

A verb that was submitted is carried out even when the task that waits for it is cancelled, and an open hold is its
own durable record: what this process cannot end, its deadline does.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

from policies.pricing import to_credits, true_cost
from policies.scope import Mode
from policies.terms import Funding, OnDeadline
from proxy.headers import HeaderList
from proxy.pipeline.exchange import Held, Measured
from proxy.pipeline.jobs import watch_of
from proxy.pipeline.usage import Passed, usage_in
from proxy.upstream.client import UpstreamAnswer
from store.job_holds import job_holds
from store.opening import Store
from store.verbs import BindJob, Ended, Hold, KeptAnswer, Refused, Release, Settle, Usage

log = logging.getLogger(__name__)


def measure(held: Held, documents: Sequence[Any], passed: Passed, complete: bool) -> Measured:
    """What the exchange consumed, by what its answer says; `complete` tells whether all of the answer was seen."""
    asked, route = held.admitted.asked, held.admitted.asked.routed.route
    stated = usage_in(documents, route.usage, passed) if route.usage else None
    if stated is not None:
        return priced(held, {**asked.units, **stated})
    if route.usage and complete:
        log.warning("no usable usage in the answer on route %s; the quote is charged", route.id)
    quoted = {name: str(value) for name, value in asked.units.items()}
    return Measured(None, quoted, estimated=bool(route.usage))


def priced(held: Held, units: Mapping[str, Decimal]) -> Measured:
    """What `units` cost, in what pays for the hold."""
    amount = true_cost(held.admitted.allow.model, units, held.hold.funding)
    return Measured(amount, {name: str(value) for name, value in units.items()}, estimated=False)


def passed(held: Held, answer: UpstreamAnswer, moment: float) -> Passed:
    """What was seen of an exchange until a moment of the event loop."""
    request = held.admitted.asked.routed.incoming.request
    return Passed(answer.headers, request.content.total_bytes, answer.taken, max(moment - held.asked_at, 0.0))


def settle_verb(held: Held, measured: Measured, status: int, latency: timedelta, reason: str) -> Settle:
    usage = Usage(measured.units, measured.estimated, status, latency // timedelta(milliseconds=1))
    return Settle(held.hold.hold_id, held.hold.account_id, measured.amount, usage, reason)


def release_verb(held: Held, reason: str) -> Release:
    return Release(held.hold.hold_id, held.hold.account_id, reason)


def abort_verb(held: Held, measured: Measured, status: int, latency: timedelta) -> Settle | Release:
    """What a client that leaves in the middle of an answer owes, by its route's rule."""
    rule = held.admitted.asked.routed.route.settings.on_abort
    if rule == "release":
        return release_verb(held, "aborted")
    if rule == "quote":
        measured = Measured(None, measured.units, estimated=True)
    return settle_verb(held, measured, status, latency, "aborted")


async def bind_job(
    held: Held, job_id: str, document: Any, kept: KeptAnswer | None, store: Store
) -> Hold | Ended | Refused:
    """Leave the hold open for a job that the backend has accepted, until the job ends or its deadline.

    `document` is the answer that accepted it. An outcome that is Ended tells that the job has ended already.

    JOB_TAKEN tells that the id is that of another account's job, or of one that ended unpaid, and that the hold is
    still open.
    """
    route = held.admitted.asked.routed.route
    job = route.settings.job
    assert job is not None, "only routes with a job bind one"
    hold = held.hold
    watch = watch_of(job, route.asked, job_id, document)
    verb = BindJob(hold.hold_id, hold.account_id, job_id, job.deadline, OnDeadline(job.on_deadline), watch, kept)
    outcome = await store.ledger.bind_job(verb)
    if outcome is Refused.NOT_OPEN:
        # A callback was faster than the acceptance. Nothing can change any more, so this only reads what became of it.
        return await store.ledger.release(hold.hold_id, hold.account_id, "")
    if outcome is Refused.JOB_TAKEN:
        known = await store.database.read(job_holds, [route.id], [job_id])
        if any(other.account_id == hold.account_id and other.pays for other in known):
            # The backend answered with a job that is paid for already: nothing new was started.
            return await store.ledger.release(hold.hold_id, hold.account_id, "job is paid for already")
    return outcome


def headers_of(outcome: Hold | Ended | Refused) -> HeaderList:
    """`funding_headers` of an outcome; a hold that could not be found has none to show."""
    return [] if isinstance(outcome, Refused) else funding_headers(outcome)


def funding_headers(outcome: Hold | Ended) -> HeaderList:
    """What the caller is told: who paid, how much was charged or is still reserved, and what is left."""
    amount = outcome.amount if isinstance(outcome, Hold) else outcome.charged
    if outcome.funding is Funding.EXEMPT:
        # What is counted for fair use is no charge.
        return [("X-Farebox-Funding", str(outcome.funding)), ("X-Farebox-Charged", "0")]
    label = "X-Farebox-Reserved" if isinstance(outcome, Hold) else "X-Farebox-Charged"
    if outcome.funding is Funding.QUOTA:
        shown, left, remaining = str(amount), "X-Farebox-Quota-Remaining", str(outcome.available)
    else:
        shown, left, remaining = credits_text(amount), "X-Farebox-Credits-Remaining", credits_text(outcome.available)
    return [("X-Farebox-Funding", str(outcome.funding)), (label, shown), (left, remaining)]


def reserved_headers(held: Held) -> HeaderList:
    """What the client is told of a hold that is still open."""
    return funding_headers(held.hold) + notice_headers(held)


def notice_headers(held: Held) -> HeaderList:
    """What entries of the policy in mode `warn` would have done, in one line of ASCII each."""
    admitted = held.admitted
    told = [(notice.rule, notice.sentence) for notice in admitted.allow.notices if notice.mode is Mode.WARN]
    told += [
        (entry.id, entry.content.because or "This limit is exceeded")
        for entry in admitted.passing.exceeded
        if entry.mode is Mode.WARN
    ]
    return [
        ("X-Farebox-Warning", f"{rule}: {sentence.encode('ascii', 'backslashreplace').decode()}")
        for rule, sentence in told
        if sentence.isprintable()
    ]


def credits_text(micro_credits: int) -> str:
    """Credits as decimal text without an exponent."""
    credits = to_credits(micro_credits)
    return str(credits) if isinstance(credits, int) else f"{credits:.6f}".rstrip("0")

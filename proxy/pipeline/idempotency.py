"""`Idempotency-Key` on metered routes: a request that is sent again is forwarded once and charged once.

The key is claimed after the request is understood and before anything is reserved. A key counts within its account, and
for one request: its method, target, content type and body. An answer that was charged, or that accepted a job, is kept
up to a bound; a longer one cannot be repeated, and those that come later are told what became of the first.

Everything else that a key decides is in `policies.idempotency`, and what it remembers in `store.idempotency`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from config.deadlines import EXCHANGE_SHARE
from policies.callers import Caller
from policies.idempotency import Verdict
from policies.pricing import to_credits
from policies.refusals import Reason, Refusal, invalid_request
from policies.terms import Funding
from proxy.headers import HeaderList, end_to_end
from proxy.pipeline.exchange import Asked, Incoming
from proxy.pipeline.metering import Reader
from proxy.pipeline.relay import write_again
from proxy.services import Services
from proxy.upstream.client import UpstreamAnswer
from store import idempotency
from store.engine import StoreUnavailable
from store.idempotency import Claim, Used
from store.ids import id_text
from store.verbs import KeptAnswer

_KEY = re.compile(r"[!-~]{1,255}")

WAIT_S = 1
"""When to ask again while the first request runs: most are over by then."""

log = logging.getLogger(__name__)


def has_key(incoming: Incoming) -> bool:
    return bool(incoming.values("idempotency-key"))


class Keeper:
    """Has claimed a key for a request, and sees its answer pass."""

    def __init__(self, services: Services, claim: Claim) -> None:
        self._services = services
        self._claim = claim
        self._loop = asyncio.get_running_loop()
        # Others take the claim of a process that died over when its patience is over; a slow one gives it up before.
        self._until = self._loop.time() + claim.patience.total_seconds() * EXCHANGE_SHARE

    @property
    def in_time(self) -> bool:
        """Whether the claim certainly stands, so that what was reserved for it may be forwarded."""
        return self._loop.time() < self._until

    def kept(self, method: str, answer: UpstreamAnswer, reader: Reader) -> KeptAnswer | None:
        """The complete answer, for those who ask again; None where it is too long, or only the head that HEAD gets."""
        assert isinstance(reader, Watching), "the answer was read by what `watching` has made"
        if reader.body is None or method == "HEAD":
            return None
        return KeptAnswer(self._claim.key, answer.status, end_to_end(answer.headers), reader.body)

    async def give_up(self) -> None:
        """Nothing was reserved: whoever comes next with the key runs."""
        try:
            await self._services.store.database.write(idempotency.give_up, self._claim)
        except StoreUnavailable as error:
            log.error("the key of request %s stays claimed for a while: %s", id_text(self._claim.request_id), error)

    def watching(self, reader: Reader) -> Watching:
        return Watching(reader, self._services.settings.values.idempotency.answer)


class Watching:
    """Hands the pieces of an answer on to its reader, and remembers them, up to a bound."""

    def __init__(self, reader: Reader, limit: int) -> None:
        self._reader = reader
        self._limit = limit
        self._seen: bytearray | None = bytearray()

    def feed(self, piece: bytes) -> None:
        self._reader.feed(piece)
        if self._seen is not None:
            self._seen += piece
            if len(self._seen) > self._limit:
                self._seen = None

    def documents(self) -> Sequence[Any]:
        return self._reader.documents()

    @property
    def body(self) -> bytes | None:
        """What has passed, or None when that was too much to keep."""
        return None if self._seen is None else bytes(self._seen)


async def claim_key(asked: Asked, caller: Caller, services: Services) -> Keeper | Used | Refusal:
    """The right to act for the key of a request. Used, with an answer, is to be repeated."""
    incoming = asked.routed.incoming
    key = key_of(incoming.values("idempotency-key"))
    if isinstance(key, Refusal):
        return key
    values, store = services.settings.values, services.store
    wanted = Claim(
        account_id=caller.account.account_id,
        key=key,
        fingerprint=fingerprint(asked, caller.user_id),
        request_id=incoming.id,
        lasts=values.idempotency.keep,
        patience=values.limits.request_deadline,
    )
    # Before the question, so that the time which the store takes counts against us.
    keeper = Keeper(services, wanted)
    used = await store.database.write(idempotency.claim, wanted, store.database.now)
    if used is None:
        return keeper
    return used if used.answer is not None else _refusal(used)


def key_of(values: Sequence[str]) -> str | Refusal:
    """The key that the headers of this name state."""
    if len(values) != 1 or not _KEY.fullmatch(values[0]):
        hint = "Send one key of 1 to 255 visible characters, such as a UUID."
        return invalid_request("The idempotency key cannot be used", "Idempotency-Key", hint)
    return values[0]


def fingerprint(asked: Asked, user_id: str) -> str:
    """The same for requests of one user that ask for the same, by all that the backend decides by but its headers.

    Users of one account must not get each other's answers.
    """
    incoming = asked.routed.incoming
    units = sorted((name, str(value)) for name, value in asked.units.items())
    parts = [user_id, incoming.method, incoming.target.raw, incoming.values("content-type"), asked.model_key, units]
    # As JSON no two lists are one text.
    return hashlib.sha256(json.dumps(parts).encode() + b"\0" + asked.body.peeked).hexdigest()


def _refusal(used: Used) -> Refusal:
    first: dict[str, object] = {"firstRequest": id_text(used.request_id)}
    match used.verdict:
        case Verdict.CONFLICT:
            hint = "Use a new key for a new request."
            return Refusal(Reason.IDEMPOTENCY_CONFLICT, "The idempotency key was used for another request", hint, first)
        case Verdict.WAIT:
            error, hint = "The first request with this idempotency key still runs", "Ask again with the same key."
            return Refusal(Reason.IDEMPOTENCY_IN_PROGRESS, error, hint, first, retry_after_s=WAIT_S)
        case _:
            charged = to_credits(used.charged) if used.funding == Funding.CREDITS else used.charged
            # What is counted for fair use is no charge.
            charged = 0 if used.funding == Funding.EXEMPT else charged
            first |= {"outcome": used.state, "funding": used.funding, "charged": charged, "jobId": used.job_id}
            error = "The first request with this idempotency key has been answered, and its answer is not kept"
            hint = "Nothing was done again. Use a new key to run, and pay for, the request once more."
            return Refusal(Reason.IDEMPOTENCY_ANSWERED, error, hint, first)


async def replay(incoming: Incoming, used: Used) -> web.StreamResponse:
    """The answer that the first request got, for nothing."""
    assert used.answer is not None, "only what was kept can be repeated"
    extra: HeaderList = [
        ("Idempotent-Replayed", "true"),
        ("X-Farebox-First-Request", id_text(used.request_id)),
        ("X-Farebox-Charged", "0"),
    ]
    answer = used.answer
    return await write_again(incoming, answer.status, [*answer.headers, *extra], answer.body)

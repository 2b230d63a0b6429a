"""Steps 2 to 4: identify, evaluate, reserve. Policy decides, the ledger takes, and both see the same account.

Identity and entitlement come from memory; the ledger compares the account's revision in the transaction that takes
the funds. When the account has changed meanwhile, nothing was taken and everything is decided again. A refusal is
never decided from memory alone: whoever has just subscribed is not told to subscribe.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import perf_counter

from policies.callers import Caller
from policies.evaluate import Allow, Ask, evaluate
from policies.refusals import (
    Refusal,
    account_frozen,
    insufficient_credits,
    policy_error,
    quota_exceeded,
    store_unavailable,
)
from policies.rulebook import Rulebook
from policies.terms import OnDeadline, OnLate, Overrun, Scope
from policies.values import value
from proxy.limiting import Pass
from proxy.pipeline.exchange import Admitted, Asked, Held, Incoming
from proxy.services import Services
from store.verbs import Hold, LacksCredits, LacksQuota, Refused, Request, Reserve

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""Decisions of one request: an account that changes three times while one request is decided is being attacked."""


async def identify(incoming: Incoming, services: Services, *, fresh: bool = False) -> Caller | Refusal:
    """Who calls, and not whether they may."""
    return await services.identifier.identify(incoming.shown, Scope.USE, fresh=fresh)


Reserving = Callable[[Asked, Caller | Refusal], Awaitable[Held | Refusal]]
"""`reserve`, with everybody told who has to know of its decision."""


@value
class Reserved:
    """What came of a request: the hold, or why there is none; with the decision, on whom it was, and by which policy.

    `decided` is None where it did not come to a decision. `deciding_s` is what the policy alone took, in seconds.
    """

    outcome: Held | Refusal
    caller: Caller | None = None
    decided: Allow | Refusal | None = None
    revision: str = ""
    deciding_s: float = 0.0


async def reserve(asked: Asked, caller: Caller | Refusal, services: Services) -> Reserved:
    """The quote, taken aside for a caller whom policy allows and whose limits have room."""
    fresh, passing, held, deciding_s = False, None, None, 0.0
    try:
        for _ in range(ATTEMPTS):
            if isinstance(caller, Refusal):
                return Reserved(caller)
            rulebook = services.rulebooks.current
            started = perf_counter()
            allow = decide(asked, caller, rulebook, services)
            deciding_s += perf_counter() - started
            if isinstance(allow, Allow):
                # What is over a limit now is so for fresh eyes as well, or will be let through a moment later.
                passing = await services.limiter.admit(allow.limits, caller, asked.routed.incoming.id, services.now())
                if isinstance(passing, Refusal):
                    return Reserved(passing, caller, allow, rulebook.revision, deciding_s)
                admitted = Admitted(asked, caller, allow, rulebook, passing)
                asked_at = asyncio.get_running_loop().time()
                outcome = await services.store.ledger.reserve(_verb(admitted, services))
                if outcome is not Refused.STALE:
                    held = _held(admitted, outcome, asked_at)
                    return Reserved(held, caller, allow, rulebook.revision, deciding_s)
                await passing.undo()
            elif fresh:
                return Reserved(allow, caller, allow, rulebook.revision, deciding_s)
            caller, fresh = await identify(asked.routed.incoming, services, fresh=True), True
        return Reserved(store_unavailable())
    finally:
        if isinstance(passing, Pass) and not isinstance(held, Held):
            passing.leave()


def ask_of(asked: Asked) -> Ask:
    """The request as policies see it."""
    route = asked.routed.route.settings
    return Ask(asked.model_key, asked.units, route.action or route.id, route.id)


def decide(asked: Asked, caller: Caller, rulebook: Rulebook, services: Services) -> Allow | Refusal:
    """The decision of the policy. A fault in it is never a reason to let a call through."""
    try:
        return evaluate(caller, ask_of(asked), rulebook, services.now())
    except Exception:
        log.exception("policy %s could not be evaluated for %s", rulebook.revision, asked.routed.incoming.id_text)
        return policy_error()


def _held(admitted: Admitted, outcome: Hold | LacksCredits | LacksQuota | Refused, asked_at: float) -> Held | Refusal:
    match outcome:
        case Hold():
            return Held(admitted, outcome, asked_at)
        case LacksCredits():
            return insufficient_credits(outcome.required, outcome.current)
        case LacksQuota():
            lacks = outcome.credits
            credits = None if lacks is None else (lacks.required, lacks.current)
            return quota_exceeded(outcome.metric, outcome.used, outcome.limit, outcome.resets_at, credits)
        case _:
            # The account is gone between identification and reservation.
            return account_frozen()


def _verb(admitted: Admitted, services: Services) -> Reserve:
    asked, allow, caller = admitted.asked, admitted.allow, admitted.caller
    route, incoming = asked.routed.route.settings, asked.routed.incoming
    request = Request(
        user_id=caller.user_id,
        key_id=caller.key_id,
        model_key=asked.model_key,
        action=route.action or route.id,
        route_id=route.id,
        policy_revision=allow.revision,
        rule=allow.rule,
        price_version=allow.model.price.version,
        units={name: str(value) for name, value in asked.units.items()},
    )
    return Reserve(
        hold_id=incoming.id,
        account_id=allow.account.account_id,
        revision=allow.account.revision,
        fundings=allow.quote.fundings,
        credits=allow.quote.credits,
        quota=allow.quote.quota,
        quota_terms=allow.account.quota_terms,
        request=request,
        lasts=services.settings.values.limits.request_deadline,
        on_deadline=OnDeadline(route.on_crash),
        on_late=OnLate(route.on_late),
        overrun=Overrun(route.overrun),
        fair_use=allow.exempt.terms if allow.exempt is not None else None,
    )

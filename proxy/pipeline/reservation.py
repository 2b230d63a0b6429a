"""Steps 2 to 4: identify, evaluate, reserve. Policy decides, the ledger takes, and both see the same account.

Identity and entitlement come from memory; the ledger compares the account's revision in the transaction that takes
the funds. When the account has changed meanwhile, nothing was taken and everything is decided again. A refusal is
never decided from memory alone: whoever has just subscribed is not told to subscribe.
"""

from __future__ import annotations

import asyncio

from policies.callers import Caller
from policies.evaluate import Allow, evaluate
from policies.refusals import Refusal, account_frozen, insufficient_credits, quota_exceeded, store_unavailable
from policies.terms import OnDeadline, OnLate, Overrun, Scope
from proxy.pipeline.exchange import Admitted, Asked, Held, Incoming
from proxy.services import Services
from store.verbs import Hold, LacksCredits, LacksQuota, Refused, Request, Reserve

ATTEMPTS = 3
"""Decisions of one request: an account that changes three times while one request is decided is being attacked."""


async def identify(incoming: Incoming, services: Services, *, fresh: bool = False) -> Caller | Refusal:
    """Who calls, and not whether they may."""
    credentials = incoming.values("authorization"), incoming.values("x-api-key")
    return await services.identifier.identify(*credentials, Scope.USE, fresh=fresh)


async def reserve(asked: Asked, caller: Caller | Refusal, services: Services) -> Held | Refusal:
    """The quote, taken aside for a caller whom policy allows."""
    fresh = False
    for _ in range(ATTEMPTS):
        if isinstance(caller, Refusal):
            return caller
        rulebook = services.rulebooks.current
        allow = evaluate(caller, asked.model_key, asked.units, rulebook, services.now())
        if isinstance(allow, Allow):
            admitted = Admitted(asked, caller, allow, rulebook)
            asked_at = asyncio.get_running_loop().time()
            outcome = await services.store.ledger.reserve(_verb(admitted, services))
            if outcome is not Refused.STALE:
                return _held(admitted, outcome, asked_at)
        elif fresh:
            return allow
        caller, fresh = await identify(asked.routed.incoming, services, fresh=True), True
    return store_unavailable()


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
    )

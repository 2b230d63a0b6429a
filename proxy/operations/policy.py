"""Why a caller may or may not use a model, and what it would cost: the gate's own decision, with its reasons."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from config.findings import did_you_mean
from config.roles import Role
from policies.callers import Account, Caller
from policies.evaluate import Allow, Ask, Quote, evaluate, situation_of
from policies.pricing import to_credits
from policies.recorded import kept_subscription
from policies.refusals import Refusal, invalid_request, iso
from policies.rulebook import Rulebook
from policies.terms import Credential, Funding
from proxy.operations import policy_history
from proxy.operations.arguments import Moment, Name, UnitTexts, units_of
from proxy.operations.entitlement import tier_because
from proxy.operations.naming import named_user
from proxy.operations.operation import Answer, Arguments, Desk, Operation, not_found
from proxy.operations.trials import try_entries
from store import api_keys, reports
from store.quota_reports import fair_use_now, windows_now

AHEAD = timedelta(days=3660)
"""How far ahead is answered for: a subscription is followed there period by period, in the time of everybody else."""


class Explain(Arguments):
    user: Name
    """The user who asks, or the number of an account with one user."""
    model: Name
    """The key of the model, such as video-generator:veo3."""
    unit: UnitTexts = []
    """What the request asks for, such as duration_seconds=10; may be given several times."""
    route: Name | None = None
    """The route of the request, by its id; without it, whatever routes there are."""
    at: Moment | None = None
    """The moment of the request, at most ten years ahead; without it, now."""
    key: Name | None = None
    """Ask with this API key of the user, by its id, instead of with a token."""


async def explain(desk: Desk, given: Explain) -> Answer | Refusal:
    if given.at is not None and given.at > desk.now() + AHEAD:
        return invalid_request(f"{iso(given.at)} is too far away; expected at most ten years ahead", "at")
    caller = await _caller(desk, given)
    if isinstance(caller, Refusal):
        return caller
    rulebook, now = await desk.rulebook(), given.at or desk.now()
    model = rulebook.catalogue.models.get(given.model)
    if model is None:
        return not_found(f"There is no model {given.model!r}" + did_you_mean(given.model, rulebook.catalogue.models))
    account = caller.account.at(now)
    ask = _ask(given, rulebook)
    if isinstance(ask, Refusal):
        return ask
    decision = evaluate(caller, ask, rulebook, now)
    funds = await _funds(desk, account, decision)
    situation = situation_of(caller, account, model, ask, rulebook, now)
    trials = try_entries(rulebook, situation)
    return {
        "user": caller.user_id,
        "account": account.account_id,
        "type": account.account_type,
        "tier": account.tier(rulebook.payg_tier),
        "tier_because": tier_because(kept_subscription(account, now)),
        "credential": caller.credential,
        "model": given.model,
        "model_tier": model.tier,
        "policy_revision": rulebook.revision,
        "rules": [
            {"rule": trial.rule, "effect": trial.effect, "mode": trial.mode, "fits": trial.fits, "why": trial.why}
            for trial in trials
        ],
        **_verdict(decision, funds),
        "funds": funds,
    }


def _ask(given: Explain, rulebook: Rulebook) -> Ask | Refusal:
    """The request that is asked about."""
    route = next((route for route in rulebook.routes if route.route_id == given.route), None)
    if given.route is not None and route is None:
        names = [route.route_id for route in rulebook.routes]
        return not_found(f"There is no metered route {given.route!r}" + did_you_mean(given.route, names))
    units = units_of(given.unit) if given.unit or given.route else None
    return Ask(given.model, units, route.action if route else None, given.route)


async def _caller(desk: Desk, given: Explain) -> Caller | Refusal:
    user = await named_user(desk.store, given.user)
    if isinstance(user, Refusal):
        return user
    if given.key is None:
        return Caller(user.user_id, user.account, Credential.JWT, user.email)
    keys = await desk.store.database.read(api_keys.page, user.account.account_id)
    key = next((key for key in keys if key["id"] == given.key and key["user_id"] == user.user_id), None)
    if key is None:
        return not_found(f"User {user.user_id!r} has no key {given.key!r}", "See: farebox keys list")
    models = tuple(key["models"])
    return Caller(user.user_id, user.account, Credential.API_KEY, user.email, key["id"], models)


async def _funds(desk: Desk, account: Account, decision: Allow | Refusal) -> Answer:
    """What the account could pay with at this moment: available credits, and the units left in each window."""
    database, now = desk.store.database, desk.now()
    balance = await database.read(reports.balance, account.account_id, now)
    funds: dict[str, Any] = {"credits": to_credits(balance.available)}
    terms, exempt = account.quota_terms, decision.exempt if isinstance(decision, Allow) else None
    if terms is not None:
        windows = await database.read(
            lambda connection: windows_now(connection, account.account_id, terms, database.now(connection))
        )
        funds |= {f"{row.metric}_quota": max(row.allowed - row.in_use, 0) for row in windows}
    fair = exempt.terms if exempt is not None else None
    if fair is not None:
        row = await database.read(
            lambda connection: fair_use_now(connection, account.account_id, fair, database.now(connection))
        )
        funds["fair_use"] = max(row.allowed - row.in_use, 0)
    return funds


def _verdict(decision: Allow | Refusal, funds: Answer) -> Answer:
    if isinstance(decision, Refusal):
        reason = decision.fields.get("reason") or decision.error
        refused = {"rule": decision.fields.get("rule"), "required_tier": decision.fields.get("requiredTier")}
        return {"allowed": False, **refused, "reason": reason, "passes": False}
    quote = decision.quote
    payers = [funding for funding in quote.fundings if _could_pay(funding, quote, funds)]
    return {
        "allowed": True,
        "rule": decision.rule,
        "credits": to_credits(quote.credits),
        "quota": quote.quota,
        "fundings": list(quote.fundings),
        "paid_with": payers[0] if payers else None,
        "reason": None if payers else "The account cannot pay for it now",
        "passes": bool(payers),
    }


def _could_pay(funding: Funding, quote: Quote, funds: Answer) -> bool:
    if funding is Funding.EXEMPT:
        return bool(funds.get("fair_use", 1))
    if funding is Funding.CREDITS:
        return bool(to_credits(quote.credits) <= funds["credits"])
    return all(quote.quota <= left for name, left in funds.items() if name.endswith("_quota"))


OPERATIONS = (
    Operation("policy", "explain", "Tells why a user may or may not use a model, rule by rule, and what it costs.",
              "policy explain user-1001 video-generator:veo3 --unit duration_seconds=10",
              Explain, explain, Role.VIEWER, positional=("user", "model"), passes="passes"),
    *policy_history.OPERATIONS,
)  # fmt: skip

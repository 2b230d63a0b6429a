"""Why a caller may or may not use a model, and what it would cost: the gate's own decision, with its reasons."""

from __future__ import annotations

from typing import Any

from config.findings import did_you_mean
from policies.callers import Account, Caller
from policies.evaluate import Allow, evaluate
from policies.pricing import to_credits
from policies.refusals import Refusal
from policies.terms import Credential, Funding
from proxy.operations.arguments import Name, UnitTexts, units_of
from proxy.operations.naming import named_user
from proxy.operations.operation import Answer, Arguments, Desk, Operation, not_found
from proxy.operations.trials import try_rules
from store import api_keys, reports
from store.quota_reports import windows_now


class Explain(Arguments):
    user: Name
    """The user who asks, or the number of an account with one user."""
    model: Name
    """The key of the model, such as video-generator:veo3."""
    unit: UnitTexts = []
    """What the request asks for, such as duration_seconds=10; may be given several times."""
    key: Name | None = None
    """Ask with this API key of the user, by its id, instead of with a token."""


async def explain(desk: Desk, given: Explain) -> Answer | Refusal:
    caller = await _caller(desk, given)
    if isinstance(caller, Refusal):
        return caller
    rulebook, now = await desk.rulebook(), desk.now()
    model = rulebook.catalogue.models.get(given.model)
    if model is None:
        return not_found(f"There is no model {given.model!r}" + did_you_mean(given.model, rulebook.catalogue.models))
    account = caller.account.at(now)
    decision = evaluate(caller, given.model, units_of(given.unit), rulebook, now)
    funds = await _funds(desk, account)
    trials = try_rules(caller, model, rulebook, now)
    return {
        "user": caller.user_id,
        "account": account.account_id,
        "type": account.account_type,
        "tier": account.tier(rulebook.payg_tier),
        "credential": caller.credential,
        "model": given.model,
        "model_tier": model.tier,
        "policy_revision": rulebook.revision,
        "rules": [
            {"rule": trial.rule, "effect": "allow" if trial.allows else "deny", "fits": trial.fits, "why": trial.why}
            for trial in trials
        ],
        **_verdict(decision, funds),
        "funds": funds,
    }


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


async def _funds(desk: Desk, account: Account) -> Answer:
    """What the account could pay with at this moment: available credits, and the units left in each window."""
    database, now = desk.store.database, desk.now()
    balance = await database.read(reports.balance, account.account_id, now)
    funds: dict[str, Any] = {"credits": to_credits(balance.available)}
    terms = account.quota_terms
    if terms is not None:
        windows = await database.read(
            lambda connection: windows_now(connection, account.account_id, terms, database.now(connection))
        )
        funds |= {f"{row.metric}_quota": max(row.allowed - row.in_use, 0) for row in windows}
    return funds


def _verdict(decision: Allow | Refusal, funds: Answer) -> Answer:
    if isinstance(decision, Refusal):
        reason = decision.fields.get("reason") or decision.error
        refused = {"rule": decision.fields.get("rule"), "required_tier": decision.fields.get("requiredTier")}
        return {"allowed": False, **refused, "reason": reason, "passes": False}
    quote = decision.quote
    payers = [
        funding
        for funding in quote.fundings
        if (
            to_credits(quote.credits) <= funds["credits"]
            if funding is Funding.CREDITS
            else all(quote.quota <= left for name, left in funds.items() if name != "credits")
        )
    ]
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


OPERATIONS = (
    Operation("policy", "explain", "Tells why a user may or may not use a model, rule by rule, and what it costs.",
              "policy explain user-1001 video-generator:veo3 --unit duration_seconds=10",
              Explain, explain, positional=("user", "model"), passes="passes"),
)  # fmt: skip

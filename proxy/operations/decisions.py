"""The decision log: what was decided about metered requests, newest last as in a log, or one by its request id."""

from __future__ import annotations

from dataclasses import asdict

from config.findings import InvalidDocument
from config.roles import Role
from policies.evaluate import Allow, evaluate, situation_of
from policies.recorded import ask_of, caller_of, users_named_in
from policies.refusals import Refusal
from policies.rulebook import Rulebook
from proxy.operations.arguments import Cursor, Hold, Limit, Name
from proxy.operations.compiling import compiled_again
from proxy.operations.entitlement import changes_since, tier_was_because
from proxy.operations.naming import named_account
from proxy.operations.operation import Answer, Arguments, Desk, Operation, conflict, not_found
from store import accounts, decisions, policy_history
from store.decisions import Row

TOLD = (
    "request_id", "at", "account", "allowed", "code", "rule", "model", "route", "revision", "candidate", "policy_us",
    "reserved_us",
)  # fmt: skip
"""What a list says of each; the rest is told of one."""


class Tail(Arguments):
    account: Name | None = None
    """Only of this account, by its number or the id of one of its users."""
    rule: Name | None = None
    """Only by this rule or limit."""
    refused: bool = False
    """Only refusals."""
    differs: bool = False
    """Only where the candidate would have decided otherwise."""
    before: Cursor | None = None
    """Only decisions before this one of an earlier answer."""
    limit: Limit = 20
    """How many."""


async def tail(desk: Desk, given: Tail) -> Answer | Refusal:
    account_id = None
    if given.account is not None:
        account = await named_account(desk.store, given.account)
        if isinstance(account, Refusal):
            return account
        account_id = account.account_id
    rows = await desk.store.database.read(
        lambda connection: decisions.page(
            connection,
            account_id=account_id,
            rule=given.rule,
            refused=given.refused,
            differs=given.differs,
            before=given.before,
            limit=given.limit + 1,
        )
    )
    shown = rows[: given.limit]
    told = [{key: record.get(key) for key in TOLD} for record in map(_record, reversed(shown))]
    return {"decisions": told, "next": shown[-1]["id"] if len(rows) > given.limit else None}


class One(Arguments):
    request: Hold
    """The id of the request, as in X-Request-Id."""


async def show(desk: Desk, given: One) -> Answer | Refusal:
    row = await desk.store.database.read(decisions.find, given.request)
    if row is None:
        hint = "Only metered requests that came to a decision are kept, as `decisions` in farebox.yaml says."
        return not_found("No decision about this request is kept", hint)
    return _record(row)


async def explain(desk: Desk, given: One) -> Answer | Refusal:
    """The kept call, decided again by the policy of then, on what is for sale now."""
    row = await desk.store.database.read(decisions.find, given.request)
    if row is None:
        return not_found("No decision about this request is kept", "See: farebox decisions show --help")
    kept = await desk.store.database.read(policy_history.find, row["revision"])
    try:
        # What is not kept may be the built-in policy, which has no files.
        rulebook = await compiled_again(desk, kept.source if kept is not None else ())
    except InvalidDocument as error:
        return conflict("The policy of then does not fit what is for sale now", str(error))
    if kept is None and rulebook.revision != row["revision"]:
        return not_found(f"The policy {row['revision']} of this decision is not kept", "See: farebox policy history")
    account = await desk.store.database.read(accounts.find_account, row["account_id"])
    changes = changes_since(row["details"]["caller"], account, desk.now())
    return {**_record(row), **_reasons(row, rulebook), "changed_since": changes}


def _record(row: Row) -> Answer:
    from proxy.decision_log import record_of

    return record_of(row)


def _reasons(row: Row, rulebook: Rulebook) -> Answer:
    """Each entry of the policy, tried on the call of a row."""
    from proxy.operations.trials import try_entries

    caller = caller_of(row["details"]["caller"], row["at"], users_named_in(rulebook))
    ask = ask_of(row["details"]["ask"])
    model = rulebook.catalogue.models.get(ask.model_key)
    decision = evaluate(caller, ask, rulebook, row["at"])
    account = caller.account.at(row["at"])
    answer: Answer = {
        "type": account.account_type,
        "tier": account.tier(rulebook.payg_tier),
        "tier_because": tier_was_because(row["details"]["caller"]),
        "decided_again": "allow" if isinstance(decision, Allow) else "deny",
    }
    if isinstance(decision, Refusal):
        answer["reason"] = decision.fields.get("reason") or decision.error
    if model is not None:
        situation = situation_of(caller, account, model, ask, rulebook, row["at"])
        answer["rules"] = [asdict(trial) for trial in try_entries(rulebook, situation)]
    return answer


OPERATIONS = (
    Operation("decisions", "tail", "Lists decisions on metered requests, the latest last.",
              "decisions tail --refused --limit 50", Tail, tail, Role.VIEWER),
    Operation("decisions", "show", "Shows the decision about one request.",
              "decisions show 07FXRM4800808", One, show, Role.VIEWER, positional=("request",)),
    Operation("decisions", "explain", "Tells why a request was let through or refused, entry by entry.",
              "decisions explain 07FXRM4800808", One, explain, Role.VIEWER, positional=("request",)),
)  # fmt: skip

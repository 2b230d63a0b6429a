"""Recorded decisions, decided again by another policy: what would have been otherwise, for whom, at what cost.

What was decided then is compared with what the candidate decides for the same caller, request and moment. Only the
policy is asked: who could not pay then was allowed by the policy all the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from policies.evaluate import Allow, evaluate
from policies.pricing import to_credits
from policies.recorded import ask_of, caller_of, users_named_in
from policies.refusals import Reason, iso
from policies.rulebook import Rulebook
from store.decisions import Row
from store.ids import id_text

MAX_LISTED = 100
"""Requests that are listed one by one; all of them are counted."""

_ALLOWED = {None, *map(str, (Reason.INSUFFICIENT_CREDITS, Reason.QUOTA_EXCEEDED, Reason.RATE_LIMITED))}
"""The codes of requests that the rules allowed, whatever became of them."""


@dataclass
class Replay:
    """What came of it. Credits are micro-credits of the quotes."""

    decided: int = 0
    to_deny: int = 0
    to_allow: int = 0
    otherwise_paid: int = 0
    accounts: set[int] = field(default_factory=set)
    credits_before: int = 0
    credits_after: int = 0
    flips: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {
            "decided_again": self.decided,
            "would_be_denied": self.to_deny,
            "would_be_allowed": self.to_allow,
            "would_be_paid_otherwise": self.otherwise_paid,
            "accounts": len(self.accounts),
            "credits_before": to_credits(self.credits_before),
            "credits_after": to_credits(self.credits_after),
            "requests": self.flips,
        }


def replay(rows: Iterable[Row], candidate: Rulebook) -> Replay:
    """Every row decided again by `candidate`."""
    found, users = Replay(), users_named_in(candidate)
    for row in rows:
        details, now = row["details"], row["at"]
        decision = evaluate(caller_of(details["caller"], now, users), ask_of(details["ask"]), candidate, now)
        allowed, quote = row["code"] in _ALLOWED, details.get("quote")
        found.decided += 1
        before = quote["credits"] if quote is not None and quote["fundings"][0] == "credits" else 0
        after = _credits(decision)
        found.credits_before += before
        found.credits_after += after
        told = _difference(allowed, quote, decision)
        if told is None:
            continue
        found.to_deny += told == "deny"
        found.to_allow += told == "allow"
        found.otherwise_paid += told == "pay otherwise"
        found.accounts.add(row["account_id"])
        if len(found.flips) < MAX_LISTED:
            found.flips.append(_flip(row, told, decision))
    return found


def _credits(decision: object) -> int:
    """What a call would take of credits, where they would be asked first."""
    if isinstance(decision, Allow) and decision.quote.fundings[0] == "credits":
        return decision.quote.credits
    return 0


def _difference(allowed: bool, quote: Any, decision: object) -> str | None:
    if not isinstance(decision, Allow):
        return "deny" if allowed else None
    if not allowed:
        return "allow"
    fundings = [str(funding) for funding in decision.quote.fundings]
    same = (decision.quote.credits, decision.quote.quota, fundings) == (
        quote["credits"],
        quote["quota"],
        quote["fundings"],
    )
    return None if same else "pay otherwise"


def _flip(row: Row, told: str, decision: object) -> dict[str, Any]:
    rule = decision.rule if isinstance(decision, Allow) else getattr(decision, "fields", {}).get("rule")
    return {
        "request_id": id_text(row["id"]),
        "at": iso(row["at"]),
        "account": row["account_id"],
        "model": row["model_key"],
        "would": told,
        "rule_before": row["rule"],
        "rule_after": rule,
    }

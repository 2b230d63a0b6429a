"""Whether the table that calls are decided by comes to what Casbin comes to, on a sample of calls.

Done whenever a policy is compiled. The tests do the same for random policies; this is for the one that is about to be
put in force, on the machine that will decide by it. Casbin looks at every row for every question, so the sample is
smaller the more rows there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from policies.access import Question, Verdict
from policies.callers import Account, Caller
from policies.document import Rule
from policies.fitting import Occasion, Situation, truths, verdict
from policies.rulebook import Entry, Rulebook
from policies.scope import Scope
from policies.selection import selector, traits_of, values_of
from policies.terms import AccountId, AccountKind, AccountType, Credential, Model, UserId

MAX_ROWS = 20_000
"""Rows that Casbin looks at for the whole sample: a fraction of a second."""

MAX_CALLS = 30

_SOME_TIME = datetime(2026, 1, 15, 12, tzinfo=UTC)


def disagreement(rulebook: Rulebook) -> str | None:
    """A call of the sample on which the two differ, in words; None when there is none."""
    for situation in _sample(rulebook):
        table, authority = verdict(rulebook, situation), by_authority(rulebook, situation)
        # Where several rules allow, the two may name different ones of them.
        if table.allowed != authority.allowed or (not table.allowed and table.rule != authority.rule):
            call = f"{situation.caller.user_id} of tier {situation.tier} on {situation.model.key}"
            return f"{call}: the table says {table}, Casbin says {authority}"
    return None


def by_authority(rulebook: Rulebook, situation: Situation) -> Verdict:
    """What Casbin says of a call whose action and route are known."""
    occasion, caller = situation.occasion, situation.caller
    traits = traits_of(values_of(caller, situation.account_type), situation.tier)
    known = truths(rulebook.rules.entries, situation)
    model_key, action, route = situation.model.key, occasion.action or "", occasion.route or ""
    return rulebook.authority.decide(Question(situation.tier, traits, model_key, action, route, known))


def _sample(rulebook: Rulebook) -> Iterator[Situation]:
    """For rules spread over the whole policy: a call that the rule is about, or nearly so."""
    entries, models = rulebook.rules.entries, list(rulebook.catalogue.models.values())
    count = min(MAX_CALLS, max(MAX_ROWS // rulebook.authority.rows, 3))
    for number in range(count if models else 0):
        entry = entries[number * len(entries) // count % len(entries)]
        yield _call_of(entry, rulebook, models, number)


def _call_of(entry: Entry[Rule], rulebook: Rulebook, models: list[Model], number: int) -> Situation:
    scope: Scope = entry.content
    who, selects = scope.who, selector(scope).selects
    model = next((model for model in models if selects(model)), models[number % len(models)])
    account = Account(
        AccountId(int(who.team[0])) if who.team and who.team[0].isdecimal() else AccountId(1),
        0,
        AccountKind.TEAM if who.team else AccountKind.USER,
        frozenset((who.tag or ())[:1]),
    )
    credential = who.credential[0] if who.credential else Credential.JWT
    user = UserId(who.user[0] if who.user else "someone")
    caller = Caller(user, account, credential, roles=frozenset((who.role or ())[:1]))
    account_type = who.account_type[0] if who.account_type else AccountType.SUBSCRIPTION
    tier = rulebook.tiers[number % len(rulebook.tiers)]
    action, route = (scope.action or ["any"])[0], (scope.route or ["any"])[0]
    return Situation(caller, account_type, tier, model, Occasion(action, route, {}, _SOME_TIME))

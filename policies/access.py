"""The only file that knows Casbin: may a caller of this tier, with these traits, use this model?

The matcher is `g(tier) && who(traits) && what(model)`, the effect *some allow and no deny*. Subjects are a closed set:
tiers go through Casbin's role graph, everything else about a caller arrives as traits, so that no user id ever
enters the graph (`g` keeps every name that it is asked about).

Casbin validates nothing and allows everything when its policy is empty and the effect is deny-override; the rulebook
validates first, an `Access` without an allow rule cannot be built, and an enforcer is never changed after that.
Answers are memoised: a decision is a dictionary look-up once it has been made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import casbin
from casbin.model import Model as CasbinModel

from policies.terms import Model, Tier

_MATCHER = """
[request_definition]
r = tier, traits, model
[policy_definition]
p = tier, who, what, eft, rule
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = g(r.tier, p.tier) && who(r.traits, p.who) && what(r.model, p.what)
"""

MEMO_SIZE = 65_536
"""Remembered answers: some hundred models times some hundred kinds of callers, at about 200 bytes each."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A predicate with its canonical text, which stands for it in Casbin's rows and in explanations."""

    text: str
    holds: Callable[[frozenset[str]], bool]


@dataclass(frozen=True, slots=True)
class Selector:
    """A choice of models with its canonical text."""

    text: str
    selects: Callable[[Model], bool]


@dataclass(frozen=True, slots=True)
class Grant:
    """One Casbin row: callers whose tier is at least or exactly `tier`, meeting `who`, on the models of `what`."""

    rule: str
    allow: bool
    tier: Tier
    exact: bool
    who: Condition
    what: Selector

    @property
    def row(self) -> list[str]:
        tier = _exactly(self.tier) if self.exact else _at_least(self.tier)
        return [tier, self.who.text, self.what.text, "allow" if self.allow else "deny", self.rule]


@dataclass(frozen=True, slots=True)
class Verdict:
    """`rule` is the deciding one; None when no rule allows."""

    allowed: bool
    rule: str | None


class Access:
    """An immutable set of grants over an immutable set of models."""

    def __init__(self, grants: Sequence[Grant], tiers: Sequence[Tier], models: Mapping[str, Model]) -> None:
        if not any(grant.allow for grant in grants):
            raise ValueError("a policy without a rule that allows anything cannot be put in force")
        self._enforcer = _enforcer(grants, tiers, models)
        self.decide = lru_cache(maxsize=MEMO_SIZE)(self._decide)

    def _decide(self, tier: Tier, traits: frozenset[str], model_key: str) -> Verdict:
        """The verdict on a caller and a model of the catalogue. `traits` are of the kinds that rules mention."""
        allowed, row = self._enforcer.enforce_ex(_exactly(tier), "\n".join(sorted(traits)), model_key)
        return Verdict(bool(allowed), row[4] if row else None)


def _enforcer(grants: Sequence[Grant], tiers: Sequence[Tier], models: Mapping[str, Model]) -> casbin.Enforcer:
    model = CasbinModel()
    model.load_model_from_text(_MATCHER)
    for grant in grants:
        # Rows are fed directly: Casbin's CSV reader would split names at commas.
        model.add_policy("p", "p", grant.row)
    for rank, tier in enumerate(tiers):
        for lower in tiers[: rank + 1]:
            # Every edge is drawn: Casbin silently stops following roles after nine hops.
            model.add_policy("g", "g", [_exactly(tier), _at_least(lower)])
    enforcer = casbin.Enforcer(model)
    enforcer.build_role_links()
    conditions = {grant.who.text: grant.who for grant in grants}
    selectors = {grant.what.text: grant.what for grant in grants}
    enforcer.add_function("who", lambda traits, text: conditions[text].holds(frozenset(traits.split("\n"))))
    enforcer.add_function("what", lambda key, text: selectors[text].selects(models[key]))
    return enforcer


def _exactly(tier: Tier) -> str:
    return f"tier:{tier}"


def _at_least(tier: Tier) -> str:
    return f"least:{tier}"

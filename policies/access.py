"""The only file that knows Casbin: the authority on who may use which model, on which occasion.

The matcher is `g(tier) && who(traits) && what(model) && on(action, route) && holds(when)`, the effect *some allow and
no deny*. Subjects are a closed set: tiers go through Casbin's role graph, everything else about a caller arrives as
traits, so that no user id ever enters the graph (`g` keeps every name that it is asked about).

Casbin looks at every row for every question, which takes milliseconds for a thousand rules. So calls are decided by
`policies.table`, and Casbin by the same rules says whether that is right: for a sample of calls whenever a policy is
put in force, for random policies in the tests.

Casbin validates nothing and allows everything when its policy is empty and the effect is deny-override; the rulebook
validates first, an `Authority` without an allow rule cannot be built, and an enforcer is never changed after that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import casbin
from casbin.model import Model as CasbinModel

from policies.terms import Model, Tier
from policies.truth import Truth
from policies.values import value

_MATCHER = """
[request_definition]
r = tier, traits, model, action, route, truths
[policy_definition]
p = tier, who, what, occasion, when, eft, rule
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = g(r.tier, p.tier) && who(r.traits, p.who) && what(r.model, p.what) && \
on(r.action, r.route, p.occasion) && holds(r.truths, p.when, p.eft)
"""

ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class Condition:
    """A predicate on callers with its canonical text, which stands for it in Casbin's rows and in explanations."""

    text: str
    holds: Callable[[frozenset[str]], bool]


@dataclass(frozen=True, slots=True)
class Selector:
    """A choice of models with its canonical text."""

    text: str
    selects: Callable[[Model], bool]


@dataclass(frozen=True, slots=True)
class Occasion:
    """A choice of actions and routes with its canonical text."""

    text: str
    fits: Callable[[str, str], bool]


@dataclass(frozen=True, slots=True)
class Grant:
    """One Casbin row: callers whose tier is at least or exactly `tier`, meeting `who`, on the models of `what`.

    `when` is the text of a condition whose truth is part of the question.
    """

    rule: str
    allow: bool
    tier: Tier
    exact: bool
    who: Condition
    what: Selector
    occasion: Occasion
    when: str | None = None


@value
class Verdict:
    """`rule` is the deciding one; None when no rule allows."""

    allowed: bool
    rule: str | None


@dataclass(frozen=True, slots=True)
class Question:
    """One call as Casbin sees it. `truths` are the conditions of the rules, by their texts."""

    tier: Tier
    traits: frozenset[str]
    model_key: str
    action: str
    route: str
    truths: Mapping[str, Truth]


class Authority:
    """An immutable set of grants over an immutable set of models."""

    def __init__(self, grants: Sequence[Grant], tiers: Sequence[Tier], models: Mapping[str, Model]) -> None:
        if not any(grant.allow for grant in grants):
            raise ValueError("a policy without a rule that allows anything cannot be put in force")
        # Conditions are numbered: their texts hold commas, at which Casbin would part a row.
        texts = dict.fromkeys(grant.when for grant in grants if grant.when is not None)
        self._labels = {text: f"when-{number}" for number, text in enumerate(texts)}
        self.rows = len(grants)
        self._enforcer = _enforcer(grants, tiers, models, self._labels)

    def decide(self, question: Question) -> Verdict:
        truths = {self._labels[text]: truth for text, truth in question.truths.items() if text in self._labels}
        allowed, row = self._enforcer.enforce_ex(
            _exactly(question.tier),
            "\n".join(sorted(question.traits)),
            question.model_key,
            question.action,
            question.route,
            truths,
        )
        return Verdict(bool(allowed), row[6] if row else None)


def _enforcer(
    grants: Sequence[Grant], tiers: Sequence[Tier], models: Mapping[str, Model], labels: Mapping[str, str]
) -> casbin.Enforcer:
    model = CasbinModel()
    model.load_model_from_text(_MATCHER)
    for grant in grants:
        tier = _exactly(grant.tier) if grant.exact else _at_least(grant.tier)
        when = ALWAYS if grant.when is None else labels[grant.when]
        effect = "allow" if grant.allow else "deny"
        # Rows are fed directly: Casbin's CSV reader would split names at commas.
        row = [tier, grant.who.text, grant.what.text, grant.occasion.text, when, effect, grant.rule]
        model.add_policy("p", "p", row)
    for rank, tier_name in enumerate(tiers):
        for lower in tiers[: rank + 1]:
            # Every edge is drawn: Casbin silently stops following roles after nine hops.
            model.add_policy("g", "g", [_exactly(tier_name), _at_least(lower)])
    enforcer = casbin.Enforcer(model)
    enforcer.build_role_links()
    conditions = {grant.who.text: grant.who for grant in grants}
    selectors = {grant.what.text: grant.what for grant in grants}
    occasions = {grant.occasion.text: grant.occasion for grant in grants}
    enforcer.add_function("who", lambda traits, text: conditions[text].holds(frozenset(traits.split("\n"))))
    enforcer.add_function("what", lambda key, text: selectors[text].selects(models[key]))
    enforcer.add_function("on", lambda action, route, text: occasions[text].fits(action, route))
    enforcer.add_function("holds", _holds)
    return enforcer


def _holds(truths: Mapping[str, Truth], when: str, effect: str) -> bool:
    """What is unknown never lets anything through: then a denial holds, and a grant does not."""
    truth = True if when == ALWAYS else truths.get(when)
    return truth is True or (truth is None and effect == "deny")


def _exactly(tier: Tier) -> str:
    return f"tier:{tier}"


def _at_least(tier: Tier) -> str:
    return f"least:{tier}"

"""Policy cases: what a policy is expected to decide, in YAML, tried on the same decision function as the gate.

A file names callers and tries each of them on every model of the catalogue. What no case lists is expected to be
refused: a rule that lets too much through is found by cases that were written before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, PlainValidator, model_validator

from config.documents import read_document
from config.findings import Finding, InvalidDocument, did_you_mean
from config.yaml_source import YamlSource
from policies.callers import Account, Caller
from policies.document import Name, Names, Patterns, Section
from policies.evaluate import Allow, evaluate
from policies.patterns import matches
from policies.pricing import to_credits, to_micro
from policies.refusals import Refusal
from policies.rulebook import Rulebook
from policies.subscription import Status, Subscription
from policies.terms import AccountId, Credential, Cycle, Plan, Tier, UserId


def _moment(value: object) -> datetime:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError('expected a moment with its zone, such as "2026-01-15T12:00:00Z"')
    return moment.astimezone(UTC)


def _number(value: object) -> Decimal:
    if type(value) is not int and not isinstance(value, Decimal):
        raise ValueError("expected a number")
    if not 0 <= value < 10**15:
        raise ValueError("expected a number of zero or more")
    return Decimal(value)


Number = Annotated[Decimal, PlainValidator(_number)]


class CaseCaller(Section):
    """Who asks. With `tier` a subscriber of a plan of that tier, without it a pay-as-you-go account."""

    tier: Name | None = None
    tags: Names = []
    user: Name = "someone"
    credential: Annotated[Credential, Field(strict=False)] = Credential.JWT
    models: Patterns = []
    """The patterns that an API key is limited to."""
    frozen: bool = False


class Case(Section):
    """What is expected for each of the callers on each of the models."""

    caller: Names
    allow: Patterns | None = None
    deny: Patterns | None = None
    units: dict[Name, Number] = {}
    rule: Name | None = None
    price: Number | None = None
    """Credits."""
    requires: Name | None = None
    """The tier that a refused caller is told of."""

    @model_validator(mode="after")
    def _one_effect(self) -> Self:
        if (self.allow is None) == (self.deny is None):
            raise ValueError("a case has exactly one of `allow` and `deny`, each with the models it is about")
        if self.allow is None and self.price is not None:
            raise ValueError("a refused call has no price")
        if self.deny is None and self.requires is not None:
            raise ValueError("`requires` is what a refused caller is told; it belongs to `deny`")
        return self

    @property
    def models(self) -> list[str]:
        return self.allow or self.deny or []


class CasesFile(Section):
    """One file of cases."""

    version: Literal[1]
    now: Annotated[datetime, BeforeValidator(_moment)]
    callers: Annotated[dict[Name, CaseCaller], Field(min_length=1)]
    cases: Annotated[list[Case], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One caller on one model. `problem` is None when all is as expected; `listed` tells whether a case says so."""

    file: str
    line: int
    caller: str
    model: str
    expected: str
    decided: str
    rule: str | None
    price: int | float | None
    listed: bool
    problem: str | None

    @property
    def passed(self) -> bool:
        return self.problem is None


def run_cases(path: Path, rulebook: Rulebook) -> list[Outcome]:
    """Every expectation of a file, in its order, then all that it does not list. Raises InvalidDocument."""
    document, source = read_document(path, CasesFile)
    findings = list(_unknown_names(document, source, rulebook))
    if findings:
        raise InvalidDocument(findings)
    callers = {name: imagined(caller, document.now) for name, caller in document.callers.items()}
    outcomes: list[Outcome] = []
    listed: set[tuple[str, str]] = set()
    for index, case in enumerate(document.cases):
        line = source.positions["cases", index][0]
        for name in case.caller:
            for model_key in _models(case.models, rulebook):
                listed.add((name, model_key))
                decision = evaluate(callers[name], model_key, case.units, rulebook, document.now)
                problem = _problem(case, decision)
                expected = "allow" if case.allow else "deny"
                outcomes.append(_outcome(source.file, line, (name, model_key), expected, decision, True, problem))
    for name, caller in callers.items():
        line = source.key_positions["callers", name][0]
        for model_key in sorted(rulebook.catalogue.models):
            if (name, model_key) not in listed:
                decision = evaluate(caller, model_key, {}, rulebook, document.now)
                problem = "allowed, and no case says so" if isinstance(decision, Allow) else None
                outcomes.append(_outcome(source.file, line, (name, model_key), "deny", decision, False, problem))
    return outcomes


def _models(patterns: Sequence[str], rulebook: Rulebook) -> list[str]:
    return [key for key in sorted(rulebook.catalogue.models) if any(matches(key, pattern) for pattern in patterns)]


def _unknown_names(document: CasesFile, source: YamlSource, rulebook: Rulebook) -> Iterable[Finding]:
    for name, caller in document.callers.items():
        if caller.tier is not None and caller.tier not in rulebook.tiers:
            message = f"unknown tier {caller.tier!r}" + did_you_mean(caller.tier, rulebook.tiers)
            yield source.finding(("callers", name, "tier"), "unknown-tier", message)
    for index, case in enumerate(document.cases):
        for position, name in enumerate(case.caller):
            if name not in document.callers:
                message = f"unknown caller {name!r}" + did_you_mean(name, document.callers)
                yield source.finding(("cases", index, "caller", position), "unknown-caller", message)
        effect = "allow" if case.allow is not None else "deny"
        for position, pattern in enumerate(case.models):
            if not _models([pattern], rulebook):
                message = f"no model of the catalogue fits {pattern!r}"
                message += did_you_mean(pattern, rulebook.catalogue.models)
                yield source.finding(("cases", index, effect, position), "unknown-model", message)
        if case.rule is not None and case.rule not in rulebook.rules:
            message = f"unknown rule {case.rule!r}" + did_you_mean(case.rule, rulebook.rules)
            yield source.finding(("cases", index, "rule"), "unknown-rule", message)


def _problem(case: Case, decision: Allow | Refusal) -> str | None:
    """What is not as the case expects, or None."""
    if isinstance(decision, Refusal):
        if case.allow is not None:
            return f"refused: {decision.fields.get('reason') or decision.error}"
        if case.requires is not None and decision.fields.get("requiredTier") != case.requires:
            return f"the caller is told of the tier {decision.fields.get('requiredTier')}, not {case.requires}"
        return _rule_problem(case, decision.fields.get("rule"))
    if case.deny is not None:
        return f"allowed by the rule {decision.rule}"
    if case.price is not None and decision.quote.credits != to_micro(case.price):
        return f"the price is {to_credits(decision.quote.credits)} credits, not {case.price}"
    return _rule_problem(case, decision.rule)


def _rule_problem(case: Case, rule: object) -> str | None:
    return f"decided by the rule {rule}, not {case.rule}" if case.rule is not None and rule != case.rule else None


def _outcome(
    file: str,
    line: int,
    pair: tuple[str, str],
    expected: str,
    decision: Allow | Refusal,
    listed: bool,
    problem: str | None,
) -> Outcome:
    if isinstance(decision, Allow):
        decided, rule, price = "allow", decision.rule, to_credits(decision.quote.credits)
        return Outcome(file, line, *pair, expected, decided, rule, price, listed, problem)
    named = decision.fields.get("rule")
    return Outcome(file, line, *pair, expected, "deny", str(named) if named else None, None, listed, problem)


def imagined(given: CaseCaller, now: datetime) -> Caller:
    """The caller that a case describes, with an account that exists nowhere else."""
    account = Account(
        account_id=AccountId(1),
        revision=0,
        tags=frozenset(given.tags),
        frozen=given.frozen,
        subscription=_subscription(Tier(given.tier), now) if given.tier is not None else None,
    )
    return Caller(UserId(given.user), account, given.credential, models=tuple(given.models))


def _subscription(tier: Tier, now: datetime) -> Subscription:
    """Active at `now`, to a plan that is nothing but its tier."""
    plan = Plan(
        version_id=1,
        plan_id=f"any-{tier}-plan",
        version=1,
        tier=tier,
        name=f"any plan of the tier {tier}",
        description="",
        price=0,
        currency="",
        cycle=Cycle.MONTHLY,
        daily_quota=0,
        monthly_quota=None,
        max_model_tier=tier,
        features={},
        active=True,
        order=0,
        created_at=now,
    )
    end = now + timedelta(days=1)
    return Subscription(1, AccountId(1), plan, Status.ACTIVE, now, now, now, end)


def untried_rules(outcomes: Iterable[Outcome], rulebook: Rulebook) -> list[str]:
    """Rules that decided none of the outcomes: nothing would notice if they were wrong."""
    deciding = {outcome.rule for outcome in outcomes}
    return [rule for rule in rulebook.rules if rule not in deciding]


def as_json(outcome: Outcome) -> Mapping[str, object]:
    fields = ("file", "line", "caller", "model", "expected", "decided", "rule", "price", "listed", "passed", "problem")
    return {name: getattr(outcome, name) for name in fields}

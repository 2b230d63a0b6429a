"""Policy cases: what a policy is expected to decide, in YAML, tried on the same decision function as the gate.

A file names callers and tries each of them on every model of the catalogue. What no case lists is expected to be
refused: a rule that lets too much through is found by cases that were written before it. Where rules ask about actions
or routes, that is so for every route on its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, PlainValidator, model_validator

from config.documents import read_document
from config.findings import Finding, InvalidDocument, did_you_mean
from config.yaml_source import YamlSource
from policies.evaluate import Allow, Ask, evaluate
from policies.patterns import matches
from policies.pricing import to_credits, to_micro
from policies.refusals import Refusal
from policies.rulebook import Rulebook
from policies.scope import Id, Name, Names, Patterns, Section
from policies.terms import Funding, MeteredRoute
from proxy.operations.imagined import CaseCaller, imagined


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


class Case(Section):
    """What is expected for each of the callers on each of the models."""

    caller: Names = Field(examples=["pro", ["pro", "partner"]])
    """A caller, or several."""
    allow: Patterns | None = Field(default=None, examples=["video-generator:*"])
    """A model that they may use, or several, as patterns. A case has this or `deny`."""
    deny: Patterns | None = Field(default=None, examples=["video-generator:veo3"])
    """A model that they may not use, or several."""
    action: Names | None = Field(default=None, examples=["generate_video"])
    """What the route of the request calls it, or several."""
    route: Name | None = Field(default=None, examples=["generate-video"])
    """The route of the request. Without `action`, `route` and `units` a case asks whether any request may pass."""
    units: dict[Name, Number] | None = Field(default=None, examples=[{"duration_seconds": 8}])
    """What the request asks for."""
    now: Annotated[datetime, BeforeValidator(_moment)] | None = Field(default=None, examples=["2026-01-17T23:30:00Z"])
    """The moment of this case; without it, that of the file."""
    rule: Id | None = Field(default=None, examples=["tier-models"])
    """The rule that has to decide."""
    price: Number | None = Field(default=None, examples=[8])
    """What it has to cost, in credits; for `allow` only."""
    funding: Funding | None = Field(default=None, strict=False, examples=["exempt"])
    """What has to pay first: `credits`, `quota` or `exempt`; for `allow` only."""
    requires: Name | None = Field(default=None, examples=["enterprise"])
    """The tier that a refused caller has to be told; for `deny` only."""

    @model_validator(mode="after")
    def _one_effect(self) -> Self:
        if (self.allow is None) == (self.deny is None):
            raise ValueError("a case has exactly one of `allow` and `deny`, each with the models it is about")
        if self.allow is None and (self.price is not None or self.funding is not None):
            raise ValueError("a refused call has no price, and nothing pays for it")
        if self.deny is None and self.requires is not None:
            raise ValueError("`requires` is what a refused caller is told; it belongs to `deny`")
        return self

    @property
    def models(self) -> list[str]:
        return self.allow or self.deny or []

    def asks(self, model_key: str, rulebook: Rulebook) -> Iterator[Ask]:
        """The requests for a model that the case is about."""
        route = next((route for route in rulebook.routes if route.route_id == self.route), None)
        actions: Sequence[str | None] = self.action or [route.action if route is not None else None]
        for action in actions:
            whole = self.units is not None or action is not None or self.route is not None
            yield Ask(model_key, self.units or {} if whole else None, action, self.route)


class CasesFile(Section):
    """One file of cases."""

    version: Literal[1] = Field(examples=[1])
    """The version of this language."""
    now: Annotated[datetime, BeforeValidator(_moment)] = Field(examples=["2026-01-15T12:00:00Z"])
    """The moment at which the cases are decided, with its zone."""
    callers: Annotated[dict[Name, CaseCaller], Field(min_length=1)] = Field(examples=[{"pro": {"tier": "pro"}}])
    """Callers by name."""
    cases: Annotated[list[Case], Field(min_length=1)] = Field(examples=[[{"caller": "pro", "allow": "chat:*"}]])
    """What is expected of them."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One caller on one model. `problem` is None when all is as expected; `listed` tells whether a case says so."""

    file: str
    line: int
    caller: str
    model: str
    request: str | None
    """The route, or the action, where the outcome is about one."""
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
    listed: set[tuple[str, str, str | None]] = set()
    for index, case in enumerate(document.cases):
        line = source.positions["cases", index][0]
        for name in case.caller:
            for ask in (ask for key in _models(case.models, rulebook) for ask in case.asks(key, rulebook)):
                listed.update((name, ask.model_key, occasion) for occasion in _listed_by(ask, rulebook))
                decision = evaluate(callers[name], ask, rulebook, case.now or document.now)
                expected = "allow" if case.allow else "deny"
                place = _Place(source.file, line, name, expected, listed=True)
                outcomes.append(place.outcome(ask, decision, _problem(case, decision)))
    for name, caller in callers.items():
        place = _Place(source.file, source.key_positions["callers", name][0], name, "deny", listed=False)
        for ask in _everything(rulebook):
            if (name, ask.model_key, ask.route) not in listed:
                decision = evaluate(caller, ask, rulebook, document.now)
                problem = "allowed, and no case says so" if isinstance(decision, Allow) else None
                outcomes.append(place.outcome(ask, decision, problem))
    return outcomes


def _everything(rulebook: Rulebook) -> Iterator[Ask]:
    """Every model; where rules ask about actions or routes, once for each route that leads to it."""
    for model_key in sorted(rulebook.catalogue.models):
        for route in _occasions(model_key, rulebook):
            yield Ask(model_key, None, route.action, route.route_id) if route is not None else Ask(model_key)


def _occasions(model_key: str, rulebook: Rulebook) -> Sequence[MeteredRoute | None]:
    """The routes of a model as far as they make a difference; one None where they make none."""
    if not any(rule.content.action or rule.content.route for rule in rulebook.rules.entries):
        return [None]
    app = rulebook.catalogue.models[model_key].app
    return [route for route in rulebook.routes if route.app == app] or [None]


def _listed_by(ask: Ask, rulebook: Rulebook) -> Iterator[str | None]:
    """The routes that a case speaks of: its own, those of its action, or all of them."""
    for route in _occasions(ask.model_key, rulebook):
        if route is None:
            yield None
        elif ask.route in (None, route.route_id) and ask.action in (None, route.action):
            yield route.route_id


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
        if case.route is not None and rulebook.routes and case.route not in (names := _route_ids(rulebook)):
            message = f"unknown route {case.route!r}" + did_you_mean(case.route, names)
            yield source.finding(("cases", index, "route"), "unknown-route", message)
        if case.rule is not None and case.rule not in rulebook.rules.by_id:
            message = f"unknown rule {case.rule!r}" + did_you_mean(case.rule, rulebook.rules.by_id)
            yield source.finding(("cases", index, "rule"), "unknown-rule", message)


def _route_ids(rulebook: Rulebook) -> list[str]:
    return [route.route_id for route in rulebook.routes]


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
    if case.funding is not None and decision.quote.fundings[0] is not case.funding:
        return f"{decision.quote.fundings[0]} pays first, not {case.funding}"
    return _rule_problem(case, decision.rule)


def _rule_problem(case: Case, rule: object) -> str | None:
    return f"decided by the rule {rule}, not {case.rule}" if case.rule is not None and rule != case.rule else None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an expectation stands."""

    file: str
    line: int
    caller: str
    expected: str
    listed: bool

    def outcome(self, ask: Ask, decision: Allow | Refusal, problem: str | None) -> Outcome:
        allowed = isinstance(decision, Allow)
        rule = decision.rule if isinstance(decision, Allow) else decision.fields.get("rule")
        return Outcome(
            self.file,
            self.line,
            self.caller,
            ask.model_key,
            ask.route or ask.action,
            self.expected,
            "allow" if allowed else "deny",
            str(rule) if rule else None,
            to_credits(decision.quote.credits) if isinstance(decision, Allow) else None,
            self.listed,
            problem,
        )


def untried_rules(outcomes: Iterable[Outcome], rulebook: Rulebook) -> list[str]:
    """Rules that decided none of the outcomes: nothing would notice if they were wrong."""
    deciding = {outcome.rule for outcome in outcomes}
    return [rule for rule in rulebook.rules.by_id if rule not in deciding]


def as_json(outcome: Outcome) -> Mapping[str, object]:
    fields = (
        "file",
        "line",
        "caller",
        "model",
        "request",
        "expected",
        "decided",
        "rule",
        "price",
        "listed",
        "passed",
        "problem",
    )
    return {name: getattr(outcome, name) for name in fields}

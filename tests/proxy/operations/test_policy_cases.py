"""Policy cases: what they find, and what is found wrong with them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from xml.etree import ElementTree

import pytest

from config.findings import InvalidDocument
from policies.rulebook import Rulebook
from policies.terms import Catalogue, MeteredRoute, UnitRange
from proxy.cli.junit import junit
from proxy.operations.policy_cases import run_cases, untried_rules
from proxy.policy_reading import load_rulebook
from store import catalogue
from store.opening import open_store
from tests.proxy.operations.desk import Clock

LADDER = Path(__file__).parents[3] / "policies" / "rules" / "tests" / "ladder.yaml"

POLICY = """
version: 1
rules:
  - {id: ladder, allow: use, who: {tier: at-least-model}}
  - {id: no-beta, deny: use, who: {not: {tag: tester}}, model: {beta: true}, because: This model is in beta}
"""

CASES = """
version: 1
now: "2026-01-15T12:00:00Z"
callers:
  payg: {}
  tester: {tier: basic, tags: [tester]}
cases:
"""


@pytest.fixture(scope="session")
def for_sale(seeded_file: Path) -> Catalogue:
    async def read() -> Catalogue:
        async with open_store(f"sqlite+aiosqlite:///{seeded_file}", Clock()) as store:
            return await store.database.read(catalogue.load)

    return asyncio.run(read())


@pytest.fixture
def rulebook(for_sale: Catalogue, tmp_path: Path) -> Rulebook:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "main.yaml").write_text(POLICY)
    return load_rulebook(tmp_path / "policies", for_sale)


def _file(tmp_path: Path, cases: str, head: str = CASES) -> Path:
    path = tmp_path / "cases.yaml"
    path.write_text(head + cases)
    return path


def test_the_packaged_cases_pass_on_the_default_policy(for_sale: Catalogue) -> None:
    """The tier ladder decides for every caller and every model of the catalogue as the example says."""
    rulebook = load_rulebook(None, for_sale)
    outcomes = run_cases(LADDER, rulebook)
    assert [outcome for outcome in outcomes if not outcome.passed] == []
    assert len({(outcome.caller, outcome.model) for outcome in outcomes}) == 7 * len(for_sale.models)
    assert untried_rules(outcomes, rulebook) == []


def test_what_no_case_lists_is_expected_to_be_refused(rulebook: Rulebook, tmp_path: Path) -> None:
    """A caller who may do more than the cases say is found, with the line of the caller."""
    path = _file(tmp_path, "  - {caller: payg, allow: 'video-generator:wan2.2'}\n")
    failed = [outcome for outcome in run_cases(path, rulebook) if not outcome.passed]
    assert {outcome.problem for outcome in failed} == {"allowed, and no case says so"}
    assert ("payg", "carousel-mix:canvas-standard", 5) in {(o.caller, o.model, o.line) for o in failed}
    assert ("payg", "video-generator:wan2.2") not in {(o.caller, o.model) for o in failed}


@pytest.mark.parametrize(
    ("case", "problem"),
    [
        ("{caller: payg, allow: 'video-generator:veo3'}", "refused: This model requires enterprise tier or higher"),
        ("{caller: payg, deny: 'video-generator:wan2.2'}", "allowed by the rule ladder"),
        ("{caller: payg, allow: 'video-generator:wan2.2', price: 6}", "the price is 5 credits, not 6"),
        ("{caller: payg, allow: 'video-generator:wan2.2', rule: no-beta}", "decided by the rule ladder, not no-beta"),
        (
            "{caller: payg, deny: 'video-generator:veo3', requires: pro}",
            "the caller is told of the tier enterprise, not pro",
        ),
        (
            "{caller: payg, deny: 'avatar-generator:controlnet-openpose-sd15', rule: ladder}",
            "decided by the rule no-beta, not ladder",
        ),
        ("{caller: tester, deny: 'avatar-generator:controlnet-openpose-sdxl'}", "allowed by the rule ladder"),
    ],
)
def test_a_broken_expectation_is_told(rulebook: Rulebook, tmp_path: Path, case: str, problem: str) -> None:
    """Decision, rule, price and the tier that would unlock: each that differs is named with what was decided."""
    outcomes = run_cases(_file(tmp_path, f"  - {case}\n"), rulebook)
    (listed,) = [outcome for outcome in outcomes if outcome.listed]
    assert (listed.problem, listed.line) == (problem, 8)


def test_a_kept_expectation_passes(rulebook: Rulebook, tmp_path: Path) -> None:
    """Rule, price by its units, the sentence's rule and the unlocking tier, all at once."""
    cases = """
  - {caller: payg, allow: 'video-generator:wan2.2', units: {duration_seconds: 7.5}, price: 8, rule: ladder}
  - {caller: payg, deny: 'avatar-generator:controlnet-openpose-sd15', rule: no-beta}
  - {caller: payg, deny: 'video-generator:veo3', requires: enterprise}
  - {caller: tester, allow: ['avatar-generator:controlnet-openpose-sd15']}
"""
    listed = [outcome for outcome in run_cases(_file(tmp_path, cases), rulebook) if outcome.listed]
    assert [outcome.problem for outcome in listed] == [None] * 4


def test_rules_that_decide_nothing_are_named(rulebook: Rulebook, tmp_path: Path) -> None:
    """A rule that no caller of the cases ever meets could be wrong without anybody noticing."""
    head = CASES.replace("payg: {}", "tester2: {tier: pro, tags: tester}")
    outcomes = run_cases(_file(tmp_path, "  - {caller: tester, allow: '*'}\n", head), rulebook)
    assert untried_rules(outcomes, rulebook) == ["no-beta"]


@pytest.mark.parametrize(
    ("cases", "codes"),
    [
        ("  - {caller: pyag, allow: '*'}", ["unknown-caller"]),
        ("  - {caller: payg, allow: 'video-generator:veo4'}", ["unknown-model"]),
        ("  - {caller: payg, allow: '*', rule: lader}", ["unknown-rule"]),
        (
            "  - {caller: [pyag, payg], allow: ['nothing:*'], rule: nope}",
            ["unknown-caller", "unknown-model", "unknown-rule"],
        ),
        ("  - {caller: payg}", ["invalid-value"]),
        ("  - {caller: payg, allow: '*', deny: '*'}", ["invalid-value"]),
        ("  - {caller: payg, deny: '*', price: 5}", ["invalid-value"]),
        ("  - {caller: payg, allow: '*', requires: pro}", ["invalid-value"]),
        ("  - {caller: payg, allow: '*', price: -1}", ["invalid-value"]),
        ("  - {caller: payg, allow: '*', units: {seconds: .inf}}", ["ambiguous-value"]),
        ("  - {caller: payg, allow: '*', prize: 5}", ["unknown-key"]),
        ("  []", ["invalid-value"]),
        ("  - {caller: payg", ["yaml-syntax"]),
    ],
)
def test_mistakes_in_cases_are_located(rulebook: Rulebook, tmp_path: Path, cases: str, codes: list[str]) -> None:
    """Every name that does not exist and every contradiction is a finding in its line, not a case that passes."""
    with pytest.raises(InvalidDocument) as raised:
        run_cases(_file(tmp_path, cases + "\n"), rulebook)
    assert sorted(finding.code for finding in raised.value.findings) == codes


@pytest.mark.parametrize("now", ["2026-01-15", "noon", "2026-01-15T12:00:00"])
def test_the_moment_of_the_cases_is_exact(rulebook: Rulebook, tmp_path: Path, now: str) -> None:
    """A moment without its zone would be another one on another machine."""
    head = CASES.replace("2026-01-15T12:00:00Z", now)
    with pytest.raises(InvalidDocument):
        run_cases(_file(tmp_path, "  - {caller: payg, allow: '*'}\n", head), rulebook)


def test_an_unknown_tier_of_a_caller_is_found(rulebook: Rulebook, tmp_path: Path) -> None:
    """With the nearest one that exists."""
    head = CASES.replace("tier: basic", "tier: basik")
    with pytest.raises(InvalidDocument) as raised:
        run_cases(_file(tmp_path, "  - {caller: payg, allow: '*'}\n", head), rulebook)
    assert "did you mean 'basic'?" in raised.value.findings[0].message


ROUTES = (
    MeteredRoute("make", "make_video", "video-generator"),
    MeteredRoute("remake", "make_again", "video-generator"),
)
BY_ROUTE = """
version: 1
rules:
  - {id: base, allow: use, route: make, app: video-generator, who: {tier: at-least-model}}
  - {id: long, deny: use, action: make_video, app: video-generator, when: units.duration_seconds > 10}
exemptions: [{id: house, who: {tag: tester}, when: time.weekday == "sat"}]
"""


@pytest.fixture
def by_route(for_sale: Catalogue, tmp_path: Path) -> Rulebook:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "main.yaml").write_text(BY_ROUTE)
    routes = tuple(replace(route, units={"duration_seconds": UnitRange(Decimal(1), Decimal(60))}) for route in ROUTES)
    return load_rulebook(tmp_path / "policies", for_sale, routes)


def test_what_is_not_listed_is_refused_on_every_route(by_route: Rulebook, tmp_path: Path) -> None:
    """A case about one route says nothing about another; one about none speaks of all."""
    wan = "video-generator:wan2.2"
    cases = f"  - {{caller: [payg, tester], allow: '{wan}', route: make, units: {{duration_seconds: 5}}}}\n"
    failed = [outcome for outcome in run_cases(_file(tmp_path, cases), by_route) if not outcome.passed]
    assert {(outcome.caller, outcome.model, outcome.request) for outcome in failed} == {
        ("tester", "video-generator:veo2", "make"),
    }
    wrong = f"  - {{caller: payg, allow: '{wan}', route: remake}}\n"
    problems = [outcome.problem for outcome in run_cases(_file(tmp_path, wrong), by_route) if outcome.listed]
    assert problems == ["refused: No policy rule allows this model for this account"]


def test_a_case_has_units_a_moment_and_a_funding(by_route: Rulebook, tmp_path: Path) -> None:
    """The rule that decides, and what pays, follow from them."""
    wan = "'video-generator:wan2.2'"
    cases = (
        f"  - {{caller: payg, deny: {wan}, route: make, units: {{duration_seconds: 11}}, rule: long}}\n"
        f"  - {{caller: payg, allow: {wan}, route: make, units: {{duration_seconds: 9}}, funding: credits}}\n"
        f"  - {{caller: tester, allow: {wan}, route: make, units: {{duration_seconds: 9}}, funding: quota}}\n"
        f"  - {{caller: tester, allow: {wan}, route: make, units: {{duration_seconds: 9}}, funding: exempt,"
        f' now: "2026-01-17T12:00:00Z"}}\n'
        f"  - {{caller: tester, allow: {wan}, route: make, units: {{duration_seconds: 9}}, funding: exempt}}\n"
    )
    problems = [outcome.problem for outcome in run_cases(_file(tmp_path, cases), by_route) if outcome.listed]
    assert problems == [None, None, None, None, "quota pays first, not exempt"]


def test_outcomes_are_junit_for_ci(by_route: Rulebook, tmp_path: Path) -> None:
    """A test for each outcome, a failure for each that is not as expected, and counts that add up."""
    cases = "  - {caller: payg, allow: 'video-generator:veo3', route: make}\n"
    outcomes = run_cases(_file(tmp_path, cases), by_route)
    document = ElementTree.fromstring(junit(outcomes))
    (suite,) = document
    assert (document.tag, suite.tag) == ("testsuites", "testsuite")
    assert suite.get("tests") == str(len(outcomes)) == str(len(suite))
    failures = [case.get("name") for case in suite if case.find("failure") is not None]
    assert suite.get("failures") == str(len(failures))
    assert "payg on video-generator:veo3 by make: allow" in failures

"""Seed files: what they say is read exactly, and what is wrong with them is found, all of it, with its place."""

from decimal import Decimal
from pathlib import Path

import pytest

from config.findings import InvalidDocument
from policies.terms import QuotaMonth
from seeds.reading import default_files, read_demo, read_seeds

APP = """
apps:
  - {id: chat, name: Chat, description: Talks, icon: x, version: "1", route_prefix: /chat, order: 1, color: red}
"""
MODEL = """
models:
  - key: chat:small
    name: Small
    description: A small model
    provider: openai
    tier: free
    price: {base: 0.01, per: {input_tokens: 0.0000001}}
    quota_cost: 1
"""
PLAN = """
plans:
  - id: pro
    tier: pro
    name: Pro
    description: For many calls
    price: {amount: 99000, currency: IDR}
    cycle: monthly
    quota: {daily: 50}
    max_model_tier: pro
    order: 1
"""


def _file(folder: Path, text: str, name: str = "seed.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def _findings(folder: Path, text: str) -> list[str]:
    with pytest.raises(InvalidDocument) as caught:
        read_seeds([_file(folder, text)])
    return [f"{finding.line}:{finding.column}: {finding.code}: {finding.message}" for finding in caught.value.findings]


def test_credits_are_read_as_exact_micro_credits(tmp_path: Path) -> None:
    """A price of 0.01 credits is 10 000 micro-credits, and a rate may be finer than a micro-credit."""
    seeds = read_seeds([_file(tmp_path, APP + MODEL + PLAN)])
    price = seeds.models[0].price.price()
    assert (price.base, price.round_up_to) == (10_000, 1)
    assert price.rates == {"input_tokens": Decimal("0.1")}


def test_the_packaged_files_are_valid_alone_and_with_the_demo() -> None:
    """What comes with Farebox has no findings: five plans, seven apps and seventeen models; the demo adds its own."""
    seeds = read_seeds(default_files())
    assert (len(seeds.plans), len(seeds.apps), len(seeds.models)) == (5, 7, 17)
    demo = read_demo()
    assert (len(demo.apps), len(demo.models), len(demo.disabled_models), len(demo.users)) == (8, 19, 7, 2)
    assert len([model for model in demo.models if model.key not in demo.disabled_models]) == 12


@pytest.mark.parametrize(
    ("old", "new", "code", "message"),
    [
        ("base: 0.01", "base: -1", "invalid-value", "between 0 and 1000000000"),
        ("base: 0.01", "base: 0.0000001", "invalid-value", "more than six decimals"),
        ("base: 0.01", 'base: "5"', "invalid-value", "expected a number of credits"),
        ("base: 0.01", "base: yes", "invalid-value", "the boolean true"),
        ("base: 0.01", "base: 2000000000", "invalid-value", "between 0 and 1000000000"),
        ("base: 0.01", f"base: 0.{'1' * 30}", "invalid-value", "at most 24 digits"),
        ("base: 0.01,", "", "missing-key", "'base' is missing"),
        ("input_tokens: 0.0000001", "input_tokens: -0.1", "invalid-value", "between 0 and"),
        ("input_tokens: 0.0000001", f"input_tokens: 0.{'1' * 30}", "invalid-value", "at most 24 digits"),
        ("per: {", "round_up_to: 0, per: {", "invalid-value", "more than zero"),
        ("per:", "pre:", "unknown-key", "did you mean 'per'"),
        ("quota_cost: 1", "quota_cost: -1", "invalid-value", "greater than or equal to 0"),
        ("quota_cost: 1", "quota_cost: 1.5", "invalid-value", "whole number"),
        ("tier: free", "tier: fre", "unknown-tier", "unknown tier 'fre'; did you mean 'free'?"),
        ("key: chat:small", "key: small", "invalid-value", "should match pattern"),
        ("key: chat:small", "key: chat:*", "invalid-value", "should match pattern"),
        ("key: chat:small", "key: caht:small", "unknown-app", "unknown app 'caht'; did you mean 'chat'?"),
        ("tier: pro", "tier: por", "unknown-tier", "did you mean 'pro'?"),
        ("max_model_tier: pro", "max_model_tier: all", "unknown-tier", "unknown tier 'all'"),
        ("amount: 99000", "amount: -1", "invalid-value", "greater than or equal to 0"),
        ("amount: 99000", "amount: 990.5", "invalid-value", "whole number"),
        ("currency: IDR", "currency: Rp", "invalid-value", "should match pattern"),
        ("cycle: monthly", "cycle: weekly", "invalid-value", "'monthly' or 'yearly'"),
        ("daily: 50", "daily: -5", "invalid-value", "greater than or equal to 0"),
        ("daily: 50", "dayly: 50", "unknown-key", "did you mean 'daily'?"),
        ("route_prefix: /chat", "route_prefix: chat", "invalid-value", "should match pattern"),
        ("models:", "modles:", "unknown-key", "did you mean 'models'?"),
    ],
)
def test_a_mistake_is_found_on_its_line(tmp_path: Path, old: str, new: str, code: str, message: str) -> None:
    """Whatever is wrong in a seed is told with its line, and what was expected instead."""
    text = APP + MODEL + PLAN
    changed = text.replace(old, new, 1)
    assert changed != text
    pairs = zip(text.splitlines(), changed.splitlines(), strict=True)
    line = next(number for number, (one, other) in enumerate(pairs, 1) if one != other)
    findings = _findings(tmp_path, changed)
    assert any(
        finding.startswith(f"{line}:") and f" {code}: " in finding and message in finding for finding in findings
    ), findings


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("order: 1", "order: 1\n    trial: {days: 0}", "greater than or equal to 1"),
        ("order: 1", "order: 1\n    trial: {days: 366}", "less than or equal to 365"),
        ("order: 1", "order: 1\n    trial: {}", "'days' is missing"),
        ("order: 1", "order: 1\n    trial: 14", "mapping"),
        (
            "amount: 99000, currency: IDR}",
            "amount: 0, currency: IDR}\n    trial: {days: 14}",
            "costs nothing has no trial",
        ),
    ],
)
def test_a_trial_has_days_and_something_to_try(tmp_path: Path, old: str, new: str, message: str) -> None:
    """From a day to a year, of a plan that has a price."""
    assert read_seeds([_file(tmp_path, PLAN.replace("order: 1", "order: 1\n    trial: {days: 14}"))]).plans[0].trial
    (finding,) = _findings(tmp_path, PLAN.replace(old, new))
    assert message in finding


def test_all_mistakes_in_all_files_are_told_at_once(tmp_path: Path) -> None:
    """Two wrong files give the findings of both, so that nobody has to run the command twice."""
    one = _file(tmp_path, MODEL.replace("base: 0.01", "base: -1").replace("quota_cost: 1", "quota_cost: -1"), "a.yaml")
    other = _file(tmp_path, PLAN.replace("daily: 50", "daily: many"), "b.yaml")
    with pytest.raises(InvalidDocument) as caught:
        read_seeds([one, other])
    assert [Path(finding.file).name for finding in caught.value.findings] == ["a.yaml", "a.yaml", "b.yaml"]


@pytest.mark.parametrize(("section", "kind"), [(APP, "app"), (MODEL, "model"), (PLAN, "plan")])
def test_a_key_that_is_given_twice_is_a_finding_in_the_same_file_and_across_files(
    tmp_path: Path, section: str, kind: str
) -> None:
    """No second entry wins silently: the finding is at the second one and names the first."""
    item = section.split("\n", 2)[2]
    others = "".join(text for text in (APP, MODEL, PLAN) if text != section)
    findings = _findings(tmp_path, others + section + item)
    assert any(f"duplicate-{kind}" in finding and "is given in" in finding for finding in findings), findings
    first, second = _file(tmp_path, APP + MODEL + PLAN, "a.yaml"), _file(tmp_path, section, "b.yaml")
    with pytest.raises(InvalidDocument, match=rf"b\.yaml:3:.* duplicate-{kind}: .*a\.yaml:\d+ already"):
        read_seeds([first, second])


def test_an_own_ladder_of_tiers_is_accepted_when_the_policy_has_it(tmp_path: Path) -> None:
    """Tiers are the policy's to name: a seed may use those, and no others."""
    path = _file(tmp_path, APP + MODEL.replace("tier: free", "tier: bronze"))
    assert read_seeds([path], ["bronze", "gold"]).models[0].tier == "bronze"
    with pytest.raises(InvalidDocument, match="unknown tier 'bronze'"):
        read_seeds([path])


def test_an_app_may_be_in_the_store_instead_of_in_the_files(tmp_path: Path) -> None:
    """Models can be loaded alone, for apps that were loaded before."""
    path = _file(tmp_path, MODEL)
    assert read_seeds([path], apps=["chat"]).models[0].key == "chat:small"
    with pytest.raises(InvalidDocument, match="unknown app 'chat'; did you mean 'chats'"):
        read_seeds([path], apps=["chats"])


def test_a_missing_file_is_a_finding(tmp_path: Path) -> None:
    """A path that leads nowhere is told like every other mistake."""
    with pytest.raises(InvalidDocument, match="missing-file"):
        read_seeds([tmp_path / "none.yaml"])


@pytest.mark.parametrize(
    ("quota", "message"),
    [
        ("timezone: Asia/Jakart", "unknown time zone 'Asia/Jakart'; did you mean 'Asia/Jakarta'?"),
        ("timezone: asia/jakarta", "did you mean 'Asia/Jakarta'?"),
        ("timezone: WIB", "expected an IANA name, such as Asia/Jakarta"),
        ("timezone: localtime", "unknown time zone 'localtime'"),
        ("timezone: ../UTC", "unknown time zone"),
        ("timezone: 7", "expected a text"),
        ('day_starts: "24:00"', 'expected a time of day as "HH:MM"'),
        ('day_starts: "6:00"', 'expected a time of day as "HH:MM"'),
        ("day_starts: 6", "expected a text"),
        ("month: anchored", "'calendar' or 'subscription'"),
        ("month: subscription", "`month` says when the monthly quota renews, and there is none"),
        ("rollover: {daily: 1501}", "`rollover.daily` is 1501; at most 30 times the daily quota, 1500"),
        ("rollover: {monthly: 1}", "`rollover.monthly` is 1; at most the monthly quota, 0"),
        ("monthly: 900, rollover: {monthly: 901}", "at most the monthly quota, 900"),
        ("rollover: {daily: -1}", "greater than or equal to 0"),
        ("rollover: {weekly: 1}", "unknown key 'weekly'"),
        ("time_zone: UTC", "did you mean 'timezone'?"),
    ],
)
def test_a_mistake_in_a_quota_is_found(tmp_path: Path, quota: str, message: str) -> None:
    """What was found, what is possible instead, and where."""
    text = PLAN.replace("daily: 50", "daily: 50, " + quota)
    findings = _findings(tmp_path, text)
    line = next(number for number, line in enumerate(text.splitlines(), 1) if "daily" in line)
    assert any(finding.startswith(f"{line}:") and message in finding for finding in findings), findings


def test_a_quota_says_when_it_renews(tmp_path: Path) -> None:
    """A zone, the hour at which its days begin, the day of its months, and what may be carried over."""
    more = 'monthly: 3000, timezone: Asia/Jakarta, day_starts: "06:00", month: subscription, rollover: {daily: 20}'
    quota = read_seeds([_file(tmp_path, PLAN.replace("daily: 50", "daily: 50, " + more))]).plans[0].quota
    assert (quota.timezone, quota.day_starts, quota.month) == ("Asia/Jakarta", "06:00", QuotaMonth.SUBSCRIPTION)
    assert (quota.rollover.daily, quota.rollover.monthly) == (20, 0)
    plain = read_seeds([_file(tmp_path, PLAN)]).plans[0].quota
    assert (plain.timezone, plain.day_starts, plain.month) == ("UTC", "00:00", QuotaMonth.CALENDAR)
    assert (plain.rollover.daily, plain.rollover.monthly) == (0, 0)


def _priced(price: str, quota: str = "1") -> str:
    return f"""{APP}
models:
  - key: chat:small
    name: Small
    description: A small model
    provider: openai
    tier: free
    price:
      {price}
    quota_cost: {quota}
"""


@pytest.mark.parametrize(
    ("price", "found"),
    [
        ("base: -1", "12:"),
        ("{base: 1, per: {tokens: -0.1}}", "12:"),
        ("{base: 1, per: {tokens: abc}}", "expected a number of credits"),
        ("{base: 1, per: {tokens: true}}", "expected a number of credits"),
        ("{base: 1, per: {tokens: {credits: 1, step: 0}}}", "expected a number of more than zero"),
        ("{base: 1, per: {tokens: {credits: 1, stepp: 5}}}", "stepp"),
        ("{base: 1, per: {tokens: [{credits: 1, step: 5}, {step: 5}]}}", "credits"),
        ("{base: 1, per: {tokens: {credits: 1, above: -1}}}", "between 0"),
        ("{base: 1, fixed: -1}", "12:"),
        ("{base: 1, surcharges: [{when: {a: 1}}]}", "either `credits` or `percent`"),
        ("{base: 1, surcharges: [{credits: 1, percent: 1}]}", "either `credits` or `percent`"),
        ("{base: 1, surcharges: [{percent: -1}]}", "between 0"),
        ("{base: 1, surcharges: [{percent: 100001}]}", "100000"),
        ("{base: 1, surcharges: [{percent: 10, step: 5}]}", "`step` and `above` are of a `unit`"),
        ("{base: 1, surcharges: [{credits: 1, when: {a: {min: 2, max: 1}}}]}", "expected min <= max"),
        ("{base: 1, surcharges: [{credits: 1, when: {a: x}}]}", "expected a number"),
        ("{base: 1, surcharges: [{credits: 1, when: {A: 1}}]}", "12:"),
        ("{base: 1, surcharges: {credits: 1}}", "12:"),
        ("{base: 1, times: [a, b, c, d, e]}", "12:"),
        ("{base: 1, times: videos}", "12:"),
    ],
)
def test_what_is_wrong_with_a_price_is_found_at_its_place(tmp_path: Path, price: str, found: str) -> None:
    """Everything that is no price is a finding in the line of the price, before anything is sold by it."""
    findings = _findings(tmp_path, _priced(price))
    assert any(found in finding for finding in findings), findings
    assert all(finding.startswith(("11:", "12:")) for finding in findings), findings


@pytest.mark.parametrize("quota", ["-1", "1.5", "x", "true", "{per: {a: 1}}", "{base: 1, round_up_to: 2}"])
def test_what_is_wrong_with_a_quota_cost_is_found(tmp_path: Path, quota: str) -> None:
    """It is whole units, or a mapping with a base."""
    assert all(finding.startswith("13:") for finding in _findings(tmp_path, _priced("base: 1", quota)))


@pytest.mark.parametrize("quota", ["0", "3", "{base: 1, per: {a: 0.5}}", "{base: 0, fixed: 1, times: [a]}"])
def test_a_quota_cost_may_depend_on_units(tmp_path: Path, quota: str) -> None:
    (model,) = read_seeds([_file(tmp_path, _priced("base: 1", quota))]).models
    assert model.quota_cost.price().round_up_to == 1

"""Any text as a policy: it is put in force as a whole, or it changes nothing and says why."""

from __future__ import annotations

import random
from pathlib import Path

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies.rulebook import Rulebook
from proxy.policy_reading import load_rulebook
from proxy.rulebooks import Rulebooks
from tests.policies.samples import LADDER, NOW, TIERS, allowed, caller
from tests.proxy.findings import ROUTES

VALID = """version: 1
tiers: [free, basic, pro, enterprise]
payg: {tier: free}
subscription: {overflow: credits}
timezone: UTC
mode: enforce
rules:
  - {id: ladder, allow: use, who: {tier: at-least-model}}
  - id: long-videos
    deny: use
    who: {tier: [free, basic], not: {tag: staff}}
    app: video
    when: units.seconds > 10 and time.hour < 24
    because: Videos over 10 s need the pro tier
  - {id: beta, deny: use, who: {not: {tag: [tester, staff]}}, model: {beta: true}, mode: warn}
  - {id: partners, allow: use, who: {tag: partner, credential: api_key}, model: ["video:veo?", "poster:*"]}
exemptions:
  - {id: house, who: {tag: house}, funding: none, fair_use: 500/day}
limits:
  - {id: free-rate, who: {tier: free}, requests: 60/minute, concurrent: 2, per: user}
"""
_WORDS = """allow deny use who not tier tag free pro at-least-model at_least when because mode audit enforce rules
limits id exemptions fair_use 500/day units.seconds > 10 time.hour
no on 1e3 012 0x10 ~ null [] {} - : , & * ! | ' # %"""
WORDS = tuple(_WORDS.split())
FUZZ = settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])


def mutated(seed: int, changes: int) -> str:
    """A valid policy after some accidents: lines and characters lost, doubled, moved, words put in, the end cut off."""
    draw = random.Random(seed)
    text = VALID
    for _ in range(changes):
        lines = text.split("\n")
        at, place = draw.randrange(len(lines)), draw.randrange(max(len(text), 1))
        match draw.randrange(8):
            case 0:
                text = text[:place]
            case 1:
                text = text[:place] + text[place + draw.randrange(1, 6) :]
            case 2:
                text = text[:place] + draw.choice(WORDS) + text[place:]
            case 3:
                text = "\n".join(lines[:at] + lines[at + 1 :])
            case 4:
                text = "\n".join([*lines[:at], lines[at], *lines[at:]])
            case 5:
                draw.shuffle(lines)
                text = "\n".join(lines)
            case 6:
                found = text.split(" ")
                found[draw.randrange(len(found))] = draw.choice(WORDS)
                text = " ".join(found)
            case _:
                text = (
                    text[:place] + chr(draw.choice([0, 9, 10, 32, 0x85, 0x2028, 0xD7FF, 0x1F600])) + text[place + 1 :]
                )
    return text


def meaning(rulebook: Rulebook) -> list[bool]:
    """What a policy says about some callers and every model."""
    who = [caller(tier, tags=tags) for tier in (None, *TIERS) for tags in ((), ("staff",), ("partner",))]
    return [allowed(rulebook, one, key) for one in who for key in LADDER.models]


def whole(rulebook: Rulebook, text: str) -> bool:
    """Whether everything that another reader finds in a text is in the rulebook."""
    data = yaml.safe_load(text)
    for section, entries in (
        ("rules", rulebook.rules),
        ("exemptions", rulebook.exemptions),
        ("limits", rulebook.limits),
    ):
        written = [entry["id"] for entry in data.get(section) or ()]
        if [entry.id for entry in entries.entries] != (written or (["tier-models"] if section == "rules" else [])):
            return False
    return True


def check(folder: Path, text: str) -> bool:
    """Puts a text beside a live policy; whether it was put in force."""
    file = folder / "main.yaml"
    file.write_text(VALID, "utf-8")
    rulebooks = Rulebooks(folder, LADDER, NOW, ROUTES)
    before, said = rulebooks.current, meaning(rulebooks.current)
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    findings = rulebooks.reload(LADDER, NOW)
    assert meaning(before) == said, "a rulebook that is in force is never changed"
    if findings:
        assert rulebooks.current is before
        assert all(finding.line >= 1 and finding.column >= 1 and finding.message for finding in findings)
        return False
    assert whole(rulebooks.current, text)
    assert meaning(rulebooks.current) == meaning(load_rulebook(folder, LADDER, ROUTES))
    return True


@FUZZ
@given(seed=st.integers(0, 10**9), changes=st.integers(1, 4))
def test_a_policy_after_accidents(tmp_path: Path, seed: int, changes: int) -> None:
    """Never a crash, never half a policy, never a change of the one in force."""
    check(tmp_path, mutated(seed, changes))


_scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.sampled_from(WORDS))
_keys = st.sampled_from([*WORDS, "version", "tiers", "payg", "subscription", "app", "model", "requests", "concurrent"])
_data = st.recursive(
    _scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_keys, inner, max_size=4)),
    max_leaves=12,
)


@FUZZ
@given(sections=st.dictionaries(_keys, _data, max_size=5))
def test_any_yaml(tmp_path: Path, sections: dict[str, object]) -> None:
    """Keys and values of the language in any place."""
    check(tmp_path, yaml.safe_dump({"version": 1, **sections}, allow_unicode=True))


@FUZZ
@given(text=st.text(max_size=80))
def test_any_text(tmp_path: Path, text: str) -> None:
    """What is no YAML at all."""
    check(tmp_path, text)


def test_the_fuzzer_finds_both_ends(tmp_path: Path) -> None:
    """Some accidents leave a valid policy and some do not; a fuzzer that saw only one of them would test nothing."""
    results = {check(tmp_path, mutated(seed, 1)) for seed in range(60)}
    assert results == {True, False}

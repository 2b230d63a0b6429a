"""What a seed decides, and what it does not."""

from __future__ import annotations

from random import Random

import pytest

from tests.chaos.calls import decide
from tests.chaos.plan import KILLS, VARIANTS, Target, Variant, make_plan


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_a_seed_makes_one_plan(variant: Variant) -> None:
    """The same kills in the same order; another seed, others."""
    assert make_plan(variant, 7, 50) == make_plan(variant, 7, 50)
    assert make_plan(variant, 7, 50) != make_plan(variant, 8, 50)


def test_a_seed_makes_one_series_of_calls() -> None:
    """Each client's calls, in what they ask for and in what they do about the answer."""
    one, same, other = (Random(seed) for seed in ("1/3", "1/3", "2/3"))
    calls = [decide(str(number), "ann", one) for number in range(100)]
    assert calls == [decide(str(number), "ann", same) for number in range(100)]
    assert calls != [decide(str(number), "ann", other) for number in range(100)]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_a_plan_kills_as_often_as_it_says(variant: Variant) -> None:
    """At least as often as asked for, and a longer plan begins like a shorter one."""
    short, long = make_plan(variant, 1, 10), make_plan(variant, 1, 60)
    assert short.kills >= 10
    assert long.kills >= 60
    assert long.rounds[: len(short.rounds)] == short.rounds
    steps = [step for steps in long.rounds for step in steps]
    assert long.kills == len(long.first_starts) + sum(KILLS.get(step.target, 1) for step in steps)


def test_everything_happens_somewhere() -> None:
    """No target is left out of all variants, and both databases are meant."""
    assert {target for variant in VARIANTS for target in variant.targets} == set(Target)
    assert {variant.database for variant in VARIANTS} == {"sqlite", "postgresql"}

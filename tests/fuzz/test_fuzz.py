"""Every target holds for every input that is kept, and for some that are made of them; `make fuzz` looks for more."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import corpus
from tests.fuzz.corpus import NAMES, Target

AT_ONCE = 40
"""Inputs of one example: most take a few microseconds, and choosing them one by one would take longer than they do."""
MAX_CORPUS = 300_000
"""Bytes of all inputs that are kept: what is read in a review, and tried in seconds."""


@pytest.fixture(params=NAMES)
def target(request: pytest.FixtureRequest) -> Target:
    return corpus.load(request.param)


def test_what_is_kept(target: Target) -> None:
    """Seeds, and whatever once found a fault."""
    for data in target.inputs:
        target.check(data)


def test_what_is_made_of_it(target: Target) -> None:
    """Inputs after some accidents: pieces lost, repeated, exchanged for another one's, words put in."""

    @settings(max_examples=20 if target.slow else 60, suppress_health_check=list(HealthCheck))
    @given(seed=st.integers(0, 2**32))
    def holds(seed: int) -> None:
        for data in damaged(target, Random(seed)):
            target.check(data)

    holds()


def damaged(target: Target, chance: Random) -> Iterator[bytes]:
    """Some inputs close to those of a target, or made of its words."""
    for _ in range(1 if target.slow else AT_ONCE):
        pool = (*target.words, bytes([chance.randrange(256)]))
        data = chance.choice(target.inputs) if chance.random() < 0.7 else b"".join(chance.choices(pool, k=5))
        for _ in range(chance.randrange(5)):
            start = chance.randrange(len(data) + 1)
            lost, put = chance.choice((0, 0, 1, 3)), chance.choice((b"", chance.choice(pool), data[start : start + 9]))
            data = data[:start] + put + data[start + lost :]
        yield data


def test_the_corpus_is_small() -> None:
    """And has nothing twice, and no file of a target that is gone."""
    files = list((corpus.FOLDER / "corpus").iterdir())
    assert sum(file.stat().st_size for file in files) < MAX_CORPUS
    assert {file.stem for file in files} <= set(NAMES)
    for file in files:
        inputs = corpus.read(file)
        assert len(inputs) == len(set(inputs)), file.name

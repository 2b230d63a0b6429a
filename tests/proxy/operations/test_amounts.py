"""Amounts at the desk: whatever is given as one is taken exactly as it is written, or refused without any effect."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from policies.refusals import Reason, Refusal
from policies.terms import MAX_AMOUNT, MICRO
from store import reports
from store.accounts import find_user
from store.verify import verify
from tests.proxy.operations.desk import Clock, Counter, open_counter

NO_AMOUNTS: list[Any] = [
    "0", "-1", "-0", "0.0000001", "1e30", "1e3", "1E3", "NaN", "nan", "sNaN", "Infinity", "-inf", "1_000", " 5", "5 ",
    "+5", "0x10", "1,5", "", ".5", "5.", "½", "²", "１２", "٣", "५", "5\n", "5\x00", "--5", "1000000001", "9" * 40,
    "1" * 5000, 0, -5, 10**30, True, False, None, [], {}, [5], {"credits": 5}, float("nan"), float("inf"), 1e300,
    1e-300, Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity"), Decimal("1e999999"), Decimal("1e-999999"),
    Decimal("-0"),
]  # fmt: skip
"""Refused by every verb that takes more than zero credits."""

ANYTHING = st.one_of(
    st.sampled_from(NO_AMOUNTS),
    st.integers(),
    st.integers(1, 20),
    st.decimals(min_value=0, max_value=20, places=7),
    st.decimals(min_value=0, max_value=20, places=6).map(str),
    st.decimals(),
    st.floats(),
    st.text(),
    st.text("0123456789.-+eE_ ", max_size=12),
    st.from_regex(r"[0-9]{1,12}(\.[0-9]{1,8})?", fullmatch=True),
)


class Till:
    """One desk for all examples, with one user whose account is looked at before and after."""

    def __init__(self, runner: asyncio.Runner, counter: Counter) -> None:
        self._runner, self._counter = runner, counter
        self.hold = ""

    def do(self, verb: str, **given: object) -> dict[str, Any] | Refusal:
        return self._runner.run(self._counter.try_to(verb, **given))

    def reserve(self) -> str:
        return self._runner.run(self._counter.reserve("ana", 5 * MICRO))

    def state(self, hold: str) -> tuple[Any, ...]:
        """Everything that a verb could have changed."""
        return self._runner.run(self._state(hold))

    async def _state(self, hold: str) -> tuple[Any, ...]:
        database = self._counter.desk.store.database
        user = await database.read(find_user, "ana")
        assert user is not None
        balance = await database.read(reports.balance, user.account.account_id, self._counter.clock.now)
        shown = await self._counter.do("holds show", id=hold)
        return balance, shown["state"], shown["charged"], shown["refunded"]

    def sound(self) -> bool:
        database = self._counter.desk.store.database
        return not [check for check in self._runner.run(database.read(verify)) if check.breaches]


@pytest.fixture(scope="module")
def till(migrated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Till]:
    folder = tmp_path_factory.mktemp("amounts")
    (folder / "farebox.db").write_bytes(migrated_file.read_bytes())
    with asyncio.Runner() as runner:
        opening = open_counter(f"sqlite+aiosqlite:///{folder}/farebox.db", folder, Clock())
        made = Till(runner, runner.run(opening.__aenter__()))
        made.do("accounts create", user="ana", credits=100)
        yield made
        assert made.sound()
        runner.run(opening.__aexit__(None, None, None))


def _meant(value: Any) -> int | None:
    """The micro-credits that a value plainly says, if it does."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        return None
    if isinstance(value, str | float) and not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", str(value), re.ASCII):
        return None
    number = Decimal(str(value))
    if not number.is_finite() or not 0 <= number.copy_abs() <= MAX_AMOUNT:
        return None
    numerator, denominator = number.as_integer_ratio()
    micro, rest = divmod(numerator * MICRO, denominator)
    return micro if not rest else None


EXAMPLES = settings(deadline=None, max_examples=50, suppress_health_check=list(HealthCheck), derandomize=True)


@pytest.mark.parametrize("verb", ["credits grant", "credits deduct"])
@EXAMPLES
@given(value=ANYTHING)
def test_credits_are_taken_as_written_or_not_at_all(till: Till, verb: str, value: Any) -> None:
    """A grant and a deduction move exactly what was written; what is refused has moved nothing."""
    till.hold = till.hold or till.reserve()
    before, *rest = till.state(till.hold)
    answer = till.do(verb, account="ana", credits=value)
    after, *rest_after = till.state(till.hold)
    assert rest == rest_after
    if isinstance(answer, Refusal):
        assert after == before
        assert answer.reason in (Reason.INVALID_REQUEST, Reason.INSUFFICIENT_CREDITS)
        assert answer.error
    else:
        moved = _meant(value)
        assert moved is not None
        assert moved > 0
        assert after.posted - before.posted == (moved if verb == "credits grant" else -moved)
        # So that the account neither runs dry nor runs over.
        till.do("credits deduct" if verb == "credits grant" else "credits grant", account="ana", credits=value)


@pytest.mark.parametrize("verb", ["credits grant", "credits deduct"])
@pytest.mark.parametrize("value", NO_AMOUNTS, ids=lambda value: repr(value)[:30])
def test_what_is_no_amount_is_refused(till: Till, verb: str, value: Any) -> None:
    """By name, one by one: nothing that merely looks like a number is one."""
    till.hold = till.hold or till.reserve()
    before = till.state(till.hold)
    answer = till.do(verb, account="ana", credits=value)
    assert isinstance(answer, Refusal)
    assert (answer.reason, answer.fields.get("field")) == (Reason.INVALID_REQUEST, "credits")
    assert till.state(till.hold) == before


@EXAMPLES
@given(value=ANYTHING)
@example(value="5")
@example(value="5.000001")
@example(value="0")
def test_a_hold_is_settled_and_refunded_as_written_or_not_at_all(till: Till, value: Any) -> None:
    """Never above what is reserved, and never back more than was taken."""
    hold, meant = till.reserve(), _meant(value)
    before = till.state(hold)
    answer = till.do("holds settle", id=hold, amount=value)
    after = till.state(hold)
    if isinstance(answer, Refusal):
        assert after == before
        till.do("holds release", id=hold)
        return
    charged = 5 * MICRO if value is None else meant
    assert charged is not None
    assert 0 <= charged <= 5 * MICRO
    assert before[0].posted - after[0].posted == charged
    for verb in ("holds settle", "holds refund", "holds refund"):
        before = till.state(hold)
        answer = till.do(verb, id=hold, amount=value)
        after = till.state(hold)
        if isinstance(answer, Refusal):
            assert after == before
        elif verb == "holds settle":
            assert after == before, "a hold is settled once"
        else:
            assert 0 <= after[0].posted - before[0].posted <= charged
    till.do("holds refund", id=hold)


@pytest.mark.parametrize(
    "hold", ["0000000000001", "ZZZZZZZZZZZZZ", "", "x", "0", "-1", "1e3", "DROP TABLE ho", None, 5]
)
@pytest.mark.parametrize("verb", ["holds show", "holds release", "holds settle", "holds refund"])
def test_a_hold_that_never_was_is_told(till: Till, verb: str, hold: Any) -> None:
    """Unknown, or no id at all; nothing has changed."""
    answer = till.do(verb, id=hold)
    assert isinstance(answer, Refusal)
    assert answer.reason in (Reason.NOT_FOUND, Reason.INVALID_REQUEST)


@pytest.mark.parametrize(
    "account", ["nobody", "account:999", "999999999999999999", "", "\x00", "a" * 201, None, 1.5, []]
)
@pytest.mark.parametrize("verb", ["credits grant", "credits deduct"])
def test_an_account_that_never_was_is_told(till: Till, verb: str, account: Any) -> None:
    """Nothing is granted to nobody."""
    answer = till.do(verb, account=account, credits=5)
    assert isinstance(answer, Refusal)
    assert answer.reason in (Reason.NOT_FOUND, Reason.INVALID_REQUEST)


@pytest.mark.parametrize(
    "expires", ["2026-01-15", "2026-01-15T10:30:00Z", "2020-01-01", "0001-01-01", "soon", "", "0", 5]
)
def test_credits_cannot_lapse_in_the_past(till: Till, expires: Any) -> None:
    """Neither now nor before; nothing is granted."""
    till.hold = till.hold or till.reserve()
    before = till.state(till.hold)
    answer = till.do("credits grant", account="ana", credits=5, expires=expires)
    assert isinstance(answer, Refusal)
    assert (answer.reason, answer.fields) == (Reason.INVALID_REQUEST, {"field": "expires"})
    assert till.state(till.hold) == before


@pytest.mark.parametrize("priority", ["-1", "1001", "1.5", "first", "", "1e2", None, [], 10**30])
def test_what_is_no_priority_is_refused(till: Till, priority: Any) -> None:
    """A whole number from 0 to 1000, whose lowest is spent first."""
    answer = till.do("credits grant", account="ana", credits=5, priority=priority)
    assert isinstance(answer, Refusal)
    assert (answer.reason, answer.fields) == (Reason.INVALID_REQUEST, {"field": "priority"})

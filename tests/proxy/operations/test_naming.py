"""Which account a name means."""

from __future__ import annotations

import pytest

from policies.refusals import Reason
from tests.proxy.operations.desk import Counter


async def test_an_account_is_named_by_number_or_user(counter: Counter) -> None:
    """All four spellings of one account show the same account."""
    number = (await counter.do("accounts create", user="ana"))["account"]
    for name in ("ana", "user:ana", str(number), f"account:{number}"):
        assert (await counter.do("accounts show", account=name))["account"] == number


async def test_a_name_that_fits_two_accounts_is_asked_about(counter: Counter) -> None:
    """A user called like another account's number: nothing is charged before the operator has said which."""
    first = (await counter.do("accounts create", user="ana"))["account"]
    second = (await counter.do("accounts create", user=str(first)))["account"]
    refusal = await counter.refused("credits deduct", Reason.CONFLICT, account=str(first), credits=1)
    assert refusal.hint == f"Write account:{first} or user:{first}."
    assert (await counter.do("accounts show", account=f"account:{first}"))["account"] == first
    assert (await counter.do("accounts show", account=f"user:{first}"))["account"] == second


@pytest.mark.parametrize("name", ["nobody", "999", "account:999", "user:nobody", "9" * 40, "account:", "user:", "٣"])
async def test_a_name_of_nobody_is_not_found(counter: Counter, name: str) -> None:
    """Unknown users, numbers beyond every account, and halves of names are all told alike."""
    await counter.do("accounts create", user="ana")
    refusal = await counter.refused("accounts show", Reason.NOT_FOUND, account=name)
    assert name in refusal.error


@pytest.mark.parametrize("name", ["", "a\x00b", "a\nb", "\ud800", "x" * 201])
async def test_a_name_that_nobody_could_have_is_invalid(counter: Counter, name: str) -> None:
    """What no user id and no database could hold is refused before the database is asked."""
    await counter.refused("accounts show", Reason.INVALID_REQUEST, account=name)


async def test_an_id_with_a_colon_is_an_id(counter: Counter) -> None:
    """Identity providers use ids such as `auth0|1` and `user:7`; they name their users."""
    for user in ("auth0|1", "user:7", "account:x"):
        number = (await counter.do("accounts create", user=user))["account"]
        assert (await counter.do("accounts show", account=user))["account"] == number

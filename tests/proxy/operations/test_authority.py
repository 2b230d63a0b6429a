"""Who may do what at a desk, whichever door leads there: roles, ceilings, and what becomes of their refusals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import fields, replace
from decimal import Decimal

import pytest

from config.roles import Role
from policies.refusals import Reason, Refusal
from policies.terms import MICRO, Funding
from proxy.operations import auditing
from proxy.operations.authority import without
from proxy.operations.operation import Desk, Operation
from proxy.operations.table import OPERATIONS
from store.audit import Act
from store.ids import parse_id
from store.opening import Store
from tests.proxy.operations.desk import Counter


def _as(counter: Counter, role: Role, **limits: object) -> None:
    """The desk of an operator of the settings with this role."""
    admin = counter.desk.settings.admin
    admin = admin.model_copy(update={"limits": admin.limits.model_copy(update=limits)})
    settings = counter.desk.settings.model_copy(update={"admin": admin})
    counter.desk = replace(counter.desk, role=role, actor="otto", named=True, settings=settings)


def test_neither_a_verb_nor_a_desk_is_without_a_role() -> None:
    """There is no default: whoever forgets to say it has nothing that runs."""
    for kind in (Operation, Desk):
        (role,) = (field for field in fields(kind) if field.name == "role")
        assert role.default is role.default_factory, kind
    assert all(isinstance(operation.role, Role) for operation in OPERATIONS)


def test_roles_are_a_ladder() -> None:
    """Each covers itself and what is below it."""
    assert [[one.covers(other) for other in Role] for one in Role] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


async def test_a_hold_beyond_the_limit_is_the_owners(counter: Counter) -> None:
    """Released, charged or refunded: with the amount that is stated, or with all that there is."""
    await counter.do("accounts create", user="ana", credits=100)
    held = await counter.reserve("ana", 20 * MICRO)
    _as(counter, Role.OPERATOR, credits=Decimal(10))
    for verb in ("holds release", "holds settle"):
        refused = await counter.refused(verb, Reason.FORBIDDEN, id=held)
        assert refused.fields["limit"] == "admin.limits.credits"
    await counter.do("holds settle", id=held, amount=10)
    await counter.do("holds refund", id=held, amount=4)
    _as(counter, Role.OPERATOR, credits=Decimal(5))
    await counter.refused("holds refund", Reason.FORBIDDEN, id=held)
    await counter.refused("holds refund", Reason.FORBIDDEN, id=held, amount=6)
    _as(counter, Role.OWNER)
    assert (await counter.do("holds refund", id=held))["refunded"] == 6


async def test_what_is_not_charged_is_given_back(counter: Counter) -> None:
    """To settle a hold for nothing, or for next to nothing, is to release it: above the limit that is the owner's."""
    await counter.do("accounts create", user="ana", credits=100)
    held = await counter.reserve("ana", 20 * MICRO)
    _as(counter, Role.OPERATOR, credits=Decimal(10))
    for amount in (0, "0.000001", "9.999999"):
        await counter.refused("holds settle", Reason.FORBIDDEN, id=held, amount=amount)
    assert (await counter.do("credits balance", account="ana"))["held"] == 20


def _meanwhile(monkeypatch: pytest.MonkeyPatch, do: Callable[[], Awaitable[object]]) -> None:
    """Let something happen once, between the judgement of the next change and the change."""
    audited, others = auditing.audited, [do]

    @asynccontextmanager
    async def later(store: Store, act: Act) -> AsyncIterator[auditing.Entry]:
        while others:
            await others.pop()()
        async with audited(store, act) as entry:
            yield entry

    monkeypatch.setattr(auditing, "audited", later)


async def test_a_refund_is_of_what_was_judged(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the request ends at that moment: what it has cost by then was not asked about."""
    await counter.do("accounts create", user="ana", credits=100)
    held = await counter.reserve("ana", 20 * MICRO)
    hold_id = parse_id(held)
    assert hold_id is not None
    _as(counter, Role.OPERATOR, credits=Decimal(10))
    _meanwhile(monkeypatch, lambda: counter.settle(hold_id, "ana"))
    await counter.try_to("holds refund", id=held)
    assert (await counter.do("credits balance", account="ana"))["available"] == 80
    await counter.refused("holds refund", Reason.FORBIDDEN, id=held)


async def test_a_payment_is_within_the_limit_when_it_is_booked(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when a dearer plan is asked for at that moment: the store compares once more. An owner has no limit."""
    await counter.do("accounts create", user="ana", credits=0)
    dear = {"account": "ana", "plan": "enterprise-monthly"}
    _as(counter, Role.OPERATOR, payment=1000)
    _meanwhile(monkeypatch, lambda: counter.do("subscriptions subscribe", **dear))
    refused = await counter.refused("subscriptions confirm", Reason.CONFLICT, account="ana")
    assert refused.error.endswith("are due, and at most 1000 may be confirmed")
    assert (await counter.do("subscriptions payments", account="ana"))["payments"] == []
    _as(counter, Role.OWNER, payment=1000)
    await counter.do("subscriptions confirm", account="ana")


async def test_many_at_once_are_within_the_limit_of_a_day(counter_anywhere: Counter) -> None:
    """As many as fit are done, however many ask at the same moment; and each has its entry in the audit log."""
    counter = counter_anywhere
    await counter.do("accounts create", user="ana", credits=0)
    _as(counter, Role.OPERATOR, credits=Decimal(10), credits_per_day=Decimal(35))
    answers = await asyncio.gather(*(counter.try_to("credits grant", account="ana", credits=10) for _ in range(12)))
    refusals = [answer for answer in answers if isinstance(answer, Refusal)]
    # Who is refused counts until that is written down, so fewer than fit may be done; never more.
    granted = len(answers) - len(refusals)
    assert 1 <= granted <= 3
    assert {refusal.fields["limit"] for refusal in refusals} == {"admin.limits.credits_per_day"}
    assert (await counter.do("credits balance", account="ana"))["posted"] == 10 * granted
    assert len((await counter.do("audit list", actor="otto", operation="credits grant"))["entries"]) == 12


async def test_quota_has_a_limit_of_its_own(counter: Counter) -> None:
    """Units are no credits."""
    await counter.do("accounts create", user="ana", credits=0)
    await counter.do("subscriptions subscribe", account="ana", plan="pro-monthly", paid=True)
    held = await counter.reserve("ana", 20, Funding.QUOTA)
    _as(counter, Role.OPERATOR, credits=Decimal(0), quota=19)
    refused = await counter.refused("holds settle", Reason.FORBIDDEN, id=held)
    assert (refused.fields["limit"], refused.fields["most"]) == ("admin.limits.quota", 19)
    await counter.do("holds settle", id=held, amount=19)


async def test_what_is_mistaken_is_told_by_the_verb(counter: Counter) -> None:
    """A limit says nothing of holds, accounts and plans that there are not."""
    _as(counter, Role.OPERATOR, credits=Decimal(0), payment=0)
    nowhere = "02TG5K6Z9Q0A1"
    assert parse_id(nowhere) is not None
    for verb in ("holds release", "holds settle", "holds refund"):
        await counter.refused(verb, Reason.NOT_FOUND, id=nowhere)
    await counter.refused("subscriptions confirm", Reason.NOT_FOUND, account="nobody")
    await counter.refused("subscriptions subscribe", Reason.NOT_FOUND, account="nobody", plan="none", paid=True)


async def test_no_limit_on_payments_is_none(counter: Counter) -> None:
    """Unless the settings say one: prices are the catalogue's."""
    await counter.do("accounts create", user="ana", credits=0)
    _as(counter, Role.OPERATOR)
    await counter.do("subscriptions subscribe", account="ana", plan="enterprise-monthly", paid=True)


async def test_every_verb_that_moves_something_is_bounded(counter: Counter) -> None:
    """What makes credits, quota or paid time out of nothing has a limit; those who may go beyond are owners."""
    bounded = {operation.name for operation in OPERATIONS if operation.moves is not None}
    assert bounded == {
        "accounts create", "credits grant", "credits deduct", "holds release", "holds settle", "holds refund",
        "subscriptions confirm", "subscriptions subscribe",
    }  # fmt: skip
    assert all(operation.changes for operation in OPERATIONS if operation.moves is not None)


async def test_nobody_is_named_where_nobody_may(counter: Counter) -> None:
    """The hint says where operators are listed then, and of many names some."""
    _as(counter, Role.VIEWER)
    nobody = counter.desk.settings.admin.model_copy(update={"token": None})
    settings = counter.desk.settings.model_copy(update={"admin": nobody})
    counter.desk = replace(counter.desk, settings=settings)
    refused = await counter.refused("accounts freeze", Reason.FORBIDDEN, account="ana")
    assert refused.hint == "Nobody may: the operators are listed in farebox.yaml, under admin."


def test_only_what_is_named_is_masked() -> None:
    """However deep it is; what is not there stays that."""
    answer = {"email": None, "users": [{"email": "ana@example.com", "user": "ana"}], "n": 1}
    assert without(answer, ("email",)) == {"email": None, "users": [{"email": "***", "user": "ana"}], "n": 1}


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
async def test_a_command_has_no_role(counter: Counter, role: Role) -> None:
    """The audit log tells operators of the settings by their role, and others have none."""
    await counter.do("accounts create", user="ana")
    _as(counter, role)
    await counter.try_to("keys create", user="ana")
    entries = (await counter.do("audit list"))["entries"]
    assert [(entry["actor"], entry["role"]) for entry in entries] == [("otto", role), ("tester", None)]

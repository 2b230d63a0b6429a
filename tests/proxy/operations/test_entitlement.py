"""Why an account has its tier, and in what it has changed since a decision."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from policies.callers import Account
from policies.recorded import kept_caller, kept_subscription
from policies.subscription import Status
from policies.terms import AccountId, AccountKind
from proxy.operations.entitlement import changes_since, tier_because, tier_was_because
from tests.policies.samples import NOW, caller, plan, subscribed


def _account(status: Status | None) -> Account:
    subscription = None if status is None else subscribed(plan("basic"), status)
    return Account(AccountId(1), 0, AccountKind.USER, subscription=subscription)


@pytest.mark.parametrize(
    ("status", "days", "told"),
    [
        (None, 0, "no subscription: the tier that the policy gives to pay-as-you-go accounts"),
        (Status.ACTIVE, 0, "the plan basic-monthly, active until 2026-01-25T12:00:00.000Z"),
        (
            Status.ACTIVE,
            12,
            "the plan basic-monthly, past_due: its renewal is not paid, and the grace lasts until "
            "2026-02-01T12:00:00.000Z",
        ),
        (
            Status.ACTIVE,
            40,
            "the subscription is expired: the tier that the policy gives to pay-as-you-go accounts",
        ),
        (
            Status.INCOMPLETE,
            0,
            "the subscription is incomplete: the tier that the policy gives to pay-as-you-go accounts",
        ),
    ],
)
def test_a_tier_has_a_reason(status: Status | None, days: int, told: str) -> None:
    """The subscription as it is at that moment, whatever its row says: active, in grace, lapsed, or none."""
    assert tier_because(kept_subscription(_account(status), NOW + timedelta(days=days))) == told


def test_an_older_record_says_what_it_does_not_know() -> None:
    """A record from before reasons were kept has a tier alone; none is invented for it."""
    kept = {
        name: value for name, value in kept_caller(caller("pro"), NOW, masked=True).items() if name != "subscription"
    }
    assert tier_was_because(kept) == "a plan of the tier pro; which, and until when, was not recorded"
    assert "was not recorded" in tier_was_because({**kept, "tier": None})
    assert changes_since(kept, caller("pro").account, NOW) == []


def test_changes_are_told_by_what_policies_can_ask() -> None:
    """A plan that has ended, one that is another one, tags, and an account that is no more."""
    before = caller("pro", tags=["staff"])
    kept = kept_caller(before, NOW, masked=True)
    assert changes_since(kept, before.account, NOW) == []
    assert changes_since(kept, None, NOW) == ["the account is gone"]
    ended = ["tier of the plan: pro then, none now", "status: active then, expired now"]
    assert changes_since(kept, before.account, NOW + timedelta(days=40)) == ended
    after = replace(before.account, tags=frozenset(), subscription=subscribed(plan("basic")))
    assert changes_since(kept, after, NOW) == [
        "tier of the plan: pro then, basic now",
        "tags: staff then, none now",
        "plan: pro-monthly then, basic-monthly now",
    ]

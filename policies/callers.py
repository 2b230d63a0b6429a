"""Who asks, and what they are entitled to at this moment.

An account's type and tier are never stored: they follow from its subscription and `now`, so that no job has to run
for an entitlement to end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from policies.quota import QuotaTerms, quota_terms
from policies.subscription import Subscription, resolve
from policies.terms import AccountId, AccountKind, AccountType, Credential, Plan, Scope, Tier, UserId


@dataclass(frozen=True, slots=True)
class Account:
    """Who pays. `revision` counts the changes of everything a decision depends on: tags, freeze, subscription."""

    account_id: AccountId
    revision: int
    kind: AccountKind = AccountKind.USER
    tags: frozenset[str] = frozenset()
    frozen: bool = False
    subscription: Subscription | None = None

    def at(self, now: datetime) -> Account:
        """The account with its subscription as it is at `now`."""
        if self.subscription is None:
            return self
        return replace(self, subscription=resolve(self.subscription, now)[0])

    @property
    def plan(self) -> Plan | None:
        """The plan that entitles the account, or None. Call on an account resolved with `at`."""
        return self.subscription.plan if self.subscription and self.subscription.entitled else None

    @property
    def quota_terms(self) -> QuotaTerms | None:
        """The quota of that plan."""
        return quota_terms(self.subscription) if self.subscription and self.subscription.entitled else None

    @property
    def account_type(self) -> AccountType:
        return AccountType.SUBSCRIPTION if self.plan else AccountType.PAYG

    def tier(self, payg_tier: Tier) -> Tier:
        return self.plan.tier if self.plan else payg_tier


@dataclass(frozen=True, slots=True)
class Caller:
    """The identity of one request: the user, the account that pays, and how it was proven."""

    user_id: UserId
    account: Account
    credential: Credential
    email: str | None = None
    key_id: str | None = None
    models: tuple[str, ...] = ()
    """Patterns of model keys that an API key is limited to; empty means no limit."""
    roles: frozenset[str] = frozenset()
    """What the credential says that the user is."""
    scopes: frozenset[Scope] = frozenset(Scope)
    """What the credential may be used for."""

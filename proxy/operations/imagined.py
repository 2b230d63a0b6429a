"""Callers that exist nowhere but in a question: those of policy cases, of comparisons, of explanations."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field, StringConstraints

from policies.callers import Account, Caller
from policies.recorded import subscription_of
from policies.scope import Name, Names, Patterns, Section
from policies.terms import AccountId, AccountKind, Credential, Tier, UserId


class CaseCaller(Section):
    """Who asks. With `tier` a subscriber of a plan of that tier, without it a pay-as-you-go account."""

    tier: Name | None = Field(default=None, examples=["pro"])
    """A subscriber of a plan of this tier; without it a pay-as-you-go account."""
    tags: Names = Field(default=[], examples=["trial"])
    """Tags of the account."""
    roles: Names = Field(default=[], examples=["editor"])
    """Roles of the user."""
    team: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,18}$")] | None = Field(default=None, examples=["12"])
    """The number of the account, which then belongs to a team."""
    user: Name = Field(default="someone", examples=["user-1001"])
    """The user id."""
    credential: Annotated[Credential, Field(strict=False)] = Field(default=Credential.JWT, examples=["api_key"])
    """`jwt`, `api_key` or `trusted_header`."""
    models: Patterns = Field(default=[], examples=["video-generator:*"])
    """The patterns that the API key is limited to."""
    frozen: bool = Field(default=False, examples=[True])
    """Whether the account is frozen."""


def imagined(given: CaseCaller, now: datetime) -> Caller:
    """The caller that a case describes, with an account that exists nowhere else."""
    account = Account(
        account_id=AccountId(int(given.team or 1)),
        revision=0,
        kind=AccountKind.TEAM if given.team is not None else AccountKind.USER,
        tags=frozenset(given.tags),
        frozen=given.frozen,
        subscription=subscription_of(Tier(given.tier), now) if given.tier is not None else None,
    )
    return Caller(
        UserId(given.user), account, given.credential, models=tuple(given.models), roles=frozenset(given.roles)
    )

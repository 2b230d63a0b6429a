"""The listener for operators: who they are, what each may do, and how much each may move. `admin` in the settings.

Operators are in the settings file alone. No verb can add one, change a role or raise a limit, so nobody can give
themselves more than they were given.
"""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from config.extractors import Number, Settings
from config.identity import Failures
from config.quantities import Address, ListenAddress
from config.roles import Role
from config.secrets import AdminToken

MAX_CREDITS = 10**9
"""Of a single grant; more decimals than six would be less than a micro-credit."""

OWNER_NAME = "admin"
"""In the audit log, whoever has `admin.token`."""

TAKEN_NAMES = frozenset({OWNER_NAME, "operator", "farebox", "signal"})
"""What the audit log calls others: the command line, a process by itself, a signal."""

RoleName = Annotated[Role, Field(strict=False)]
CreditLimit = Annotated[Number, Field(ge=0, le=MAX_CREDITS, decimal_places=6)]
HostName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]


class Operator(Settings):
    """A person, or a program, with a token of its own."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9._-]{0,49}$")]
    """What the audit log calls them; of one operator only, also of those that have left."""
    role: RoleName
    """`viewer` reads, `operator` does the day's work within `admin.limits`, `owner` does everything."""
    token: AdminToken
    """Bearer token of this operator alone, at least 24 characters that nobody guesses."""


class Ceilings(Settings):
    """How much the role `operator` may move. Above it, an owner has to do it."""

    credits: CreditLimit = Decimal(1000)
    """Credits that one call may grant, deduct, release, refund or charge, or give to a new account."""
    credits_per_day: CreditLimit = Decimal(10_000)
    """Credits that one operator may move in 24 hours, by all such calls together: many small ones are one large one."""
    quota: Annotated[int, Field(ge=0, le=MAX_CREDITS)] = 1000
    """Quota units that one call may release, refund or charge."""
    payment: Annotated[int, Field(ge=0, le=10**15)] | None = None
    """Minor units of the plan's currency that one call may confirm as paid; without it, whatever a plan costs."""


class Admin(Settings):
    listen: ListenAddress = Address("127.0.0.1", 8081)
    """For the admin API, probes and metrics. Keep it away from the outside."""
    token: AdminToken | None = None
    """Bearer token of an owner named `admin`. Without one, and without `operators`, the admin API is closed; probes and
    metrics stay open."""
    operators: Annotated[list[Operator], Field(max_length=100)] = []
    """Who else may use the admin API, each with a name, a role and a token."""
    limits: Ceilings = Ceilings()
    """How much an operator may move without an owner."""
    hosts: Annotated[list[HostName], Field(max_length=100)] = []
    """Names by which this listener is reached, beside `localhost` and plain addresses. A request to another name is
    refused: it may be a page of a stranger whose name was made to point here."""
    failures: Failures = Failures()
    """Bounds on guessing tokens."""

    @model_validator(mode="after")
    def _told_apart(self) -> Self:
        names = Counter(operator.name for operator in self.operators)
        for name, times in names.items():
            if times > 1:
                raise ValueError(f"{times} operators are named {name!r}; the audit log could not tell them apart")
            if name in TAKEN_NAMES:
                taken = ", ".join(sorted(TAKEN_NAMES))
                raise ValueError(f"no operator can be named {name!r}: the audit log says {taken} of others")
        owner_of: dict[str, str] = {}
        for operator in self.everybody:
            text = operator.token.get_secret_value()
            if text in owner_of:
                raise ValueError(f"{owner_of[text]!r} and {operator.name!r} have the same token; each needs its own")
            owner_of[text] = operator.name
        return self

    @property
    def everybody(self) -> tuple[Operator, ...]:
        """All operators, with the owner whom `token` stands for."""
        if self.token is None:
            return tuple(self.operators)
        # Not validated: the name is one that no other operator can have.
        owner = Operator.model_construct(name=OWNER_NAME, role=Role.OWNER, token=self.token)
        return (owner, *self.operators)

    def who_may(self, role: Role) -> list[str]:
        """The names of those who may do what needs this role."""
        return [operator.name for operator in self.everybody if operator.role.covers(role)]

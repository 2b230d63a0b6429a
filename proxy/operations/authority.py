"""Who may do what: the role that a verb needs, and how much of anything a role may move.

Asked by `Operation.perform` before every verb, from whichever door it comes. A route that is open to a role says
nothing about the values that travel on it: an operator may grant credits, and only so many. What is refused names who
could do it, and is in the audit log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from config.roles import Role
from policies.pricing import to_credits, to_micro
from policies.refusals import Reason, Refusal

if TYPE_CHECKING:
    from config.admin import Admin
    from proxy.operations.operation import Desk

MASKED = "***"

TOLD = 5
"""Names of those who may, in a refusal: somebody to ask, not a directory."""


class Kind(StrEnum):
    """What is moved: the key of `admin.limits` that bounds it."""

    CREDITS = "credits"
    QUOTA = "quota"
    PAYMENT = "payment"


@dataclass(frozen=True, slots=True)
class Moved:
    """What a call would move: micro-credits, quota units, or minor units of money.

    `stated` are the arguments that say so, where the call left it to be found: what is done is what was judged, also
    when there is more of it a moment later.
    """

    kind: Kind
    amount: int
    stated: Mapping[str, object] = field(default_factory=dict)


def role_refusal(name: str, least: Role, desk: Desk) -> Refusal | None:
    """Why whoever stands at the desk may not use a verb that needs the role `least`."""
    if desk.role.covers(least):
        return None
    fields = {"operation": name, "role": str(desk.role), "needs": str(least)}
    return Refusal(
        Reason.FORBIDDEN,
        f"{name} needs the role {least}, and {desk.actor} is {_a(desk.role)}",
        _who_may(desk.settings.admin, least),
        fields,
    )


def ceiling_refusal(moved: Moved, desk: Desk) -> Refusal | None:
    """Why whoever stands at the desk, and is no owner, may not move so much with one call."""
    limit = most(moved.kind, desk)
    if limit is None or moved.amount <= limit:
        return None
    return _above(f"{_shown(moved.kind, moved.amount)} in one call", moved.kind, moved.kind, limit, desk)


def counted_by_day(moved: Moved) -> int | None:
    """Micro-credits that count towards the limit of a day."""
    return moved.amount if moved.kind is Kind.CREDITS else None


def day_refusal(micro_credits: int, moved_before: int, desk: Desk) -> Refusal | None:
    """Why whoever stands at the desk may not move so many more, after those of the 24 hours before."""
    limit = to_micro(desk.settings.admin.limits.credits_per_day)
    if moved_before + micro_credits <= limit:
        return None
    asked = f"{_shown(Kind.CREDITS, micro_credits)}, after {to_credits(moved_before)} in the last 24 hours,"
    return _above(asked, "credits_per_day", Kind.CREDITS, limit, desk)


def most(kind: Kind, desk: Desk) -> int | None:
    """What whoever stands at the desk may move with one call; None is without a limit."""
    if desk.role is Role.OWNER:
        return None
    limits = desk.settings.admin.limits
    match kind:
        case Kind.CREDITS:
            return to_micro(limits.credits)
        case Kind.QUOTA:
            return limits.quota
        case Kind.PAYMENT:
            return limits.payment


def _above(asked: str, key: str, kind: Kind, limit: int, desk: Desk) -> Refusal:
    shown = to_credits(limit) if kind is Kind.CREDITS else limit
    fields = {"role": str(desk.role), "needs": str(Role.OWNER), "limit": f"admin.limits.{key}", "most": shown}
    error = f"{asked} is more than {_a(desk.role)} may move: {_shown(kind, limit)}"
    hint = f"{_who_may(desk.settings.admin, Role.OWNER)} The limit is admin.limits.{key} in farebox.yaml."
    return Refusal(Reason.FORBIDDEN, error, hint, fields)


def _shown(kind: Kind, amount: int) -> str:
    words = {Kind.CREDITS: "credits", Kind.QUOTA: "quota units", Kind.PAYMENT: "minor units of money"}
    return f"{to_credits(amount) if kind is Kind.CREDITS else amount} {words[kind]}"


def _a(role: Role) -> str:
    return f"{'a' if role is Role.VIEWER else 'an'} {role}"


def _who_may(admin: Admin, least: Role) -> str:
    names = admin.who_may(least)
    if not names:
        return "Nobody may: the operators are listed in farebox.yaml, under admin."
    more = f", and {len(names) - TOLD} more" if len(names) > TOLD else ""
    return f"Ask one who may: {', '.join(names[:TOLD])}{more}."


def without(answer: Any, keys: Iterable[str]) -> Any:
    """An answer with what stands under these keys masked, however deep it is."""
    hidden = frozenset(keys)
    if isinstance(answer, Mapping):
        return {
            key: MASKED if key in hidden and value is not None else without(value, hidden)
            for key, value in answer.items()
        }
    return [without(item, hidden) for item in answer] if isinstance(answer, list) else answer

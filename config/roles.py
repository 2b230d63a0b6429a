"""The roles of operators, from the least to the greatest: each may do what the ones before it may.

For the settings, which give every operator a role, and for the table of operator verbs, each of which states the least
role it needs. Roles of callers are another matter: those are claims of tokens, and policies ask for them.
"""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    VIEWER = "viewer"
    """Reads. E-mail addresses, and where operators work from, are masked."""
    OPERATOR = "operator"
    """The day's work: accounts, subscriptions, holds, and credits up to `admin.limits`."""
    OWNER = "owner"
    """Everything, without limits: also API keys, and which policy is in force."""

    def covers(self, least: Role) -> bool:
        """Whether whoever has this role may do what needs `least`."""
        return _ORDER.index(self) >= _ORDER.index(least)


_ORDER = tuple(Role)

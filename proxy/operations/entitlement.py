"""Where the tier of an account comes from, now or when a decision was made, and what has changed of it since.

Called by the explanations of policy and of kept decisions. Nothing here decides anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from policies.callers import Account
from policies.recorded import Kept, kept_subscription
from policies.subscription import Status

_DEFAULT = "the tier that the policy gives to pay-as-you-go accounts"


def tier_because(subscription: Mapping[str, Any] | None) -> str:
    """In words, from what `policies.recorded.kept_subscription` keeps."""
    if subscription is None:
        return f"no subscription: {_DEFAULT}"
    status, until = subscription["status"], subscription["until"]
    if not subscription["entitled"]:
        return f"the subscription is {status}: {_DEFAULT}"
    if status == Status.PAST_DUE:
        return f"the plan {subscription['plan']}, {status}: its renewal is not paid, and the grace lasts until {until}"
    return f"the plan {subscription['plan']}, {status} until {until}"


def tier_was_because(kept: Kept) -> str:
    """Of a decision that was kept. Older records have the tier of the plan and not the reason."""
    if "subscription" in kept:
        return tier_because(kept["subscription"])
    if kept["tier"] is None:
        return f"no plan entitled the account, and why was not recorded: {_DEFAULT}"
    return f"a plan of the tier {kept['tier']}; which, and until when, was not recorded"


def changes_since(kept: Kept, account: Account | None, now: datetime) -> list[str]:
    """What of the account is not as it was in a decision that was kept, as far as policies can ask about it."""
    if account is None:
        return ["the account is gone"]
    current = kept_subscription(account, now)
    entitled = current is not None and current["entitled"]
    facts = [
        ("tier of the plan", kept["tier"], current["tier"] if current is not None and entitled else None),
        ("tags", kept["tags"], sorted(account.tags)),
        ("frozen", kept["frozen"], account.frozen),
    ]
    if "subscription" in kept:
        before = kept["subscription"] or {"plan": None, "status": None}
        after = current or {"plan": None, "status": None}
        facts += [("plan", before["plan"], after["plan"]), ("status", before["status"], after["status"])]
    return [f"{what}: {_told(before)} then, {_told(after)} now" for what, before, after in facts if before != after]


def _told(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)

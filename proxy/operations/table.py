"""Every operator verb, for the admin API. The command line imports the nouns one by one, to start quickly."""

from __future__ import annotations

from typing import Any

from proxy.operations import (
    accounts,
    audit,
    credits,
    decisions,
    holds,
    jobs,
    keys,
    ledger,
    policy,
    subscriptions,
    usage,
)
from proxy.operations.operation import Operation

OPERATIONS: tuple[Operation[Any], ...] = (
    *accounts.OPERATIONS,
    *credits.OPERATIONS,
    *keys.OPERATIONS,
    *subscriptions.OPERATIONS,
    *holds.OPERATIONS,
    *usage.OPERATIONS,
    *ledger.OPERATIONS,
    *jobs.OPERATIONS,
    *policy.OPERATIONS,
    *decisions.OPERATIONS,
    *audit.OPERATIONS,
)

"""The ledger as a whole: are its laws kept?"""

from __future__ import annotations

from collections.abc import Sequence

from config.roles import Role
from proxy.operations.operation import Answer, Arguments, Desk, Operation
from store.verify import Check, verify


class Verify(Arguments):
    pass


async def verify_ledger(desk: Desk, given: Verify) -> Answer:
    return told(await desk.store.database.read(verify, desk.progress))


def told(checks: Sequence[Check]) -> Answer:
    """The laws that were checked, and what breaks them: each breach on a line of its own, with the ids concerned."""
    return {
        "ok": not any(check.breaches for check in checks),
        "checks": [
            {"law": check.name, "says": check.sentence, "checked": check.checked, "breaches": len(check.breaches)}
            for check in checks
        ],
        "breaches": [{"law": check.name, "what": what} for check in checks for what in check.breaches],
    }


OPERATIONS = (
    Operation("ledger", "verify", "Checks every law of the ledger on all accounts; reads only.",
              "ledger verify --json", Verify, verify_ledger, Role.OPERATOR, passes="ok"),
)  # fmt: skip

"""One transaction of the ledger: lock and load what a batch of verbs concerns, decide on a Book, write set-based.

Called by the committer, and where an account is made with its first grant. However many verbs there are, there is one
statement for each kind of row, and each verb is decided in its turn: a refusal does not stand in anybody's way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import Connection

from policies.spending import DEFAULT_ORDER, SpendOrder
from store.loading import load
from store.verbs import Outcome, Verb
from store.writing import write


def run_batch(
    connection: Connection,
    verbs: Sequence[Verb],
    clock: Callable[[Connection], datetime],
    order: SpendOrder = DEFAULT_ORDER,
) -> list[Outcome]:
    """The answers to `verbs`, in their order, with all effects written in the transaction of `connection`."""
    book = load(connection, verbs, clock, order)
    outcomes = [book.apply(verb) for verb in verbs]
    write(connection, book)
    return outcomes

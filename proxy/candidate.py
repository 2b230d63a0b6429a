"""A candidate beside the policy in force: it is asked about every metered request, and only counted and logged.

Its folder is watched like the other one. A candidate that is invalid is nobody's trouble but its own: findings go to
the log, and nothing is asked until it is valid again.
"""

from __future__ import annotations

import logging
from datetime import datetime
from pathlib import Path

from config.findings import InvalidDocument
from policies.callers import Caller
from policies.evaluate import Allow, Ask, evaluate
from policies.refusals import Refusal
from policies.rulebook import Rulebook
from policies.terms import Catalogue
from proxy.metrics import Metrics
from proxy.policy_reading import Routes, fingerprint, load_rulebook

log = logging.getLogger(__name__)


class Candidate:
    """The candidate of one process; without a folder there is none, and asking it costs nothing."""

    def __init__(self, folder: Path | None, routes: Routes, metrics: Metrics) -> None:
        self._folder = folder
        self._routes = routes
        self._metrics = metrics
        self._state: tuple[str, int] | None = None
        self.rulebook: Rulebook | None = None

    def look(self, catalogue: Catalogue) -> None:
        """Read the folder again when it, or what is for sale, has changed."""
        if self._folder is None:
            return
        state = (fingerprint(self._folder), catalogue.revision)
        if state == self._state:
            return
        self._state = state
        try:
            self.rulebook = load_rulebook(self._folder, catalogue, self._routes)
            log.info("the candidate policy %s is asked from now on", self.rulebook.revision)
        except InvalidDocument as error:
            self.rulebook = None
            log.error("the candidate policy is invalid, and is not asked:\n%s", error)

    def differs(self, caller: Caller, ask: Ask, live: Allow | Refusal, now: datetime) -> str | None:
        """How the candidate would have decided, where that is not the same; counted either way."""
        if self.rulebook is None:
            return None
        try:
            other = evaluate(caller, ask, self.rulebook, now)
        except Exception:
            # It is only asked what it would say: nobody's request fails by it.
            log.exception("the candidate policy could not be evaluated")
            return None
        told = difference(live, other)
        self._metrics.candidate(told or "same")
        if told is not None:
            log.info("candidate policy: %s on %s by %s: %s", told, ask.model_key, caller.account.account_id, ask.route)
        return told


def difference(live: Allow | Refusal, other: Allow | Refusal) -> str | None:
    """`would deny`, `would allow` or `would charge otherwise`; None where all is the same."""
    if isinstance(live, Allow) != isinstance(other, Allow):
        return "would deny" if isinstance(live, Allow) else "would allow"
    if isinstance(live, Allow) and isinstance(other, Allow) and live.quote != other.quote:
        return "would charge otherwise"
    return None

"""The rulebook in force: compiled from the policy folder and the catalogue, replaced as one reference.

A bad file changes nothing: the last good policy stays in force, and what is wrong is kept for the log, `/readyz`
and the metrics. The catalogue may change beside it: what is switched off is off, whatever is being edited. A request
holds one rulebook from its evaluation to its record.

What was put in force is kept in the store as well. There a process that starts with a bad file finds the last good
policy, and a rollback the text of an earlier one: it stands in for exactly the files that were on disk then, so that
the next save counts again.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from config.findings import Finding, InvalidDocument
from policies.rulebook import Rulebook
from policies.terms import Catalogue
from proxy.policy_reading import Policy, Routes, compiled, doubts_of, fingerprint, kept_policy, read_policy
from store.policy_history import StoredPolicy

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RulebookStatus:
    """For operators: what is in force, since when, and what stands in the way of what is on disk.

    `rolled_back` tells that an earlier policy stands in for the files on disk.
    """

    revision: str
    loaded_at: datetime
    using_last_good: bool
    findings: tuple[Finding, ...]
    rolled_back: bool = False


class Rulebooks:
    """Holds the current rulebook. `current` is one attribute read; `reload` is called by the watcher."""

    def __init__(
        self,
        folder: Path | None,
        catalogue: Catalogue,
        now: datetime,
        routes: Routes | None = None,
        stored: StoredPolicy | None = None,
    ) -> None:
        """`stored` is what was in force last. Raises InvalidDocument when there is no valid policy, neither on disk nor
        in the store: nothing may be forwarded without one.
        """
        self._folder = folder
        self._routes = routes
        self._fingerprint = self._seen = fingerprint(folder)
        self._catalogue_revision = catalogue.revision
        self._stored_number = stored.number if stored is not None else 0
        self._loaded_at = now
        self._findings: tuple[Finding, ...] = ()
        self._rolled_back = self._overrules(stored)
        try:
            self._policy = self._wanted(stored)
            self.current: Rulebook = compiled(self._policy, catalogue, routes)
        except InvalidDocument as error:
            if stored is None:
                raise
            # Should the one in the store not fit either, its findings are about texts that nobody sees.
            self._policy, self.current = self._last_good(stored, catalogue, error)

    def _last_good(self, stored: StoredPolicy, catalogue: Catalogue, error: InvalidDocument) -> tuple[Policy, Rulebook]:
        try:
            policy = kept_policy(stored.source)
            rulebook = compiled(policy, catalogue, self._routes)
        except InvalidDocument:
            raise error from None
        self._findings = error.findings
        log.error("the policy on disk is invalid, the last good one is in force again:\n%s", error)
        return policy, rulebook

    def _overrules(self, stored: StoredPolicy | None) -> bool:
        """Whether a rollback stands in for the files that are on disk now."""
        return stored is not None and stored.overrules is not None and stored.overrules == self._fingerprint

    def _wanted(self, stored: StoredPolicy | None) -> Policy:
        """What should be in force: an earlier policy, where one stands in for the files, else the files."""
        if stored is not None and self._overrules(stored):
            return kept_policy(stored.source)
        return read_policy(self._folder)

    @property
    def status(self) -> RulebookStatus:
        last_good, revision = bool(self._findings), self.current.revision
        return RulebookStatus(revision, self._loaded_at, last_good, self._findings, self._rolled_back)

    @property
    def policy(self) -> Policy:
        """The policy in force, with its texts."""
        return self._policy

    @property
    def overruled(self) -> str | None:
        """The fingerprint of the files that a rollback stands in for at this moment."""
        return self._fingerprint if self._rolled_back else None

    def changed_on_disk(self) -> bool:
        return fingerprint(self._folder) != self._fingerprint

    def settled(self) -> bool:
        """Whether files that have changed are the same as at the last look: a file that is being written is not."""
        before, self._seen = self._seen, fingerprint(self._folder)
        return before == self._seen

    def knows(self, catalogue_revision: int) -> bool:
        """Whether that catalogue was the last one to be put in force, or tried."""
        return catalogue_revision == self._catalogue_revision

    def knows_stored(self, number: int) -> bool:
        """Whether that was the last stored policy that was looked at."""
        return number == self._stored_number

    def reload(self, catalogue: Catalogue, now: datetime, stored: StoredPolicy | None = None) -> tuple[Finding, ...]:
        """Put what is on disk in force, or what stands in for it; or keep what is, and return what is wrong."""
        self._fingerprint, self._catalogue_revision = fingerprint(self._folder), catalogue.revision
        self._stored_number = stored.number if stored is not None else self._stored_number
        try:
            policy = self._wanted(stored)
            rulebook = compiled(policy, catalogue, self._routes)
        except InvalidDocument as error:
            self._findings = error.findings
            log.error("policy not changed, the last good one stays in force:\n%s", error)
            self._recompile(catalogue, now)
            return error.findings
        except BaseException:
            # Not a fault of the files: they are tried again at the next look.
            self._fingerprint = ""
            raise
        self._policy, self._findings, self._rolled_back = policy, (), self._overrules(stored)
        for doubt in doubts_of(policy, rulebook):
            log.warning("%s", doubt)
        self._put_in_force(rulebook, now)
        return ()

    def _recompile(self, catalogue: Catalogue, now: datetime) -> None:
        """The last good policy for a catalogue that may be new, unless they do not fit together."""
        try:
            self._put_in_force(compiled(self._policy, catalogue, self._routes), now)
        except InvalidDocument as error:
            log.error("catalogue not changed, the last good policy does not fit it:\n%s", error)

    def _put_in_force(self, rulebook: Rulebook, now: datetime) -> None:
        if rulebook.revision != self.current.revision:
            log.info("policy %s is in force, after %s", rulebook.revision, self.current.revision)
            self.current, self._loaded_at = rulebook, now

    def remember(self, number: int) -> None:
        """The policy in force is written down under this number."""
        self._stored_number = number

"""What the rooms of this floor share: put together once in `proxy.app`, and handed down explicitly."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from config.clock import Clock
from config.settings import LoadedSettings
from proxy.identity.identifier import Identifier
from proxy.rulebooks import Rulebooks
from store.opening import Store


@dataclass(frozen=True, slots=True)
class Services:
    """One process's working parts."""

    settings: LoadedSettings
    store: Store
    rulebooks: Rulebooks
    identifier: Identifier
    clock: Clock

    def now(self) -> datetime:
        return self.clock()

"""What the rooms of this floor share: put together once in `proxy.app`, and handed down explicitly."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime

from config.clock import Clock
from config.settings import LoadedSettings
from proxy.identity.identifier import Identifier
from proxy.limiting import Limiter, OwnLimiter
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
    limiter: Limiter = field(default_factory=OwnLimiter)
    reloading: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a policy is read and compiled: one at a time."""

    def now(self) -> datetime:
        return self.clock()

"""Changes from outside: policy files and the catalogue, looked at every second, and on demand.

A change becomes a new rulebook, as one assignment; a mistake changes nothing.
"""

from __future__ import annotations

import asyncio
import logging

from config.findings import Finding
from proxy.services import Services
from store import catalogue
from store.engine import StoreUnavailable

INTERVAL_S = 1.0
"""Between two looks: people do not notice it, and reading a few small files a second costs nothing."""

log = logging.getLogger(__name__)


async def watch(services: Services) -> None:
    """Runs until it is cancelled. Trouble with the store or the files is logged, and tried again."""
    while True:
        await asyncio.sleep(INTERVAL_S)
        try:
            await _look(services)
        except StoreUnavailable as error:
            log.warning("cannot look for changes of the catalogue: %s", error)
        except Exception:
            log.exception("looking for changes failed")


async def _look(services: Services) -> None:
    rulebooks = services.rulebooks
    if rulebooks.changed_on_disk() or not rulebooks.knows(await services.store.database.read(catalogue.revision)):
        await reload(services)


async def reload(services: Services) -> tuple[Finding, ...]:
    """Put what is on disk and in the catalogue in force; returns what is wrong with it, and then nothing changed."""
    for_sale = await services.store.database.read(catalogue.load)
    return services.rulebooks.reload(for_sale, services.now())

"""The catalogue that a policy is checked against without a running Farebox."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from config.clock import utc_now
from config.documents import read_document
from config.settings import LoadedSettings
from policies.document import PolicyFile
from policies.rulebook import DEFAULT_TIERS
from policies.terms import Catalogue
from proxy.policy_reading import policy_files
from seeds.load import load_catalogue
from seeds.reading import default_files
from store import catalogue
from store.engine import Database
from store.opening import open_store
from store.schema import check_schema


@dataclass(frozen=True, slots=True)
class AtHand:
    """A catalogue, and where it comes from, for people."""

    catalogue: Catalogue
    origin: str


async def packaged() -> AtHand:
    """The catalogue that comes with Farebox, by way of a database that is thrown away: read as it would be loaded."""
    with TemporaryDirectory() as folder:
        async with open_store(f"sqlite+aiosqlite:///{folder}/seeds.db", utc_now) as store:
            await load_catalogue(store, default_files())
            return AtHand(await store.database.read(catalogue.load), "the seeds that come with Farebox")


async def stored(settings: LoadedSettings) -> AtHand | None:
    """The catalogue of the database; None when there is no database yet, or nothing for sale in it.

    Never makes a database. Raises StoreUnavailable and SchemaOutdated.
    """
    if is_missing(settings):
        return None
    database = Database(settings.database_url, utc_now)
    try:
        await database.read(check_schema)
        found = await database.read(catalogue.load)
    finally:
        await database.close()
    return AtHand(found, "the database") if found.models else None


def is_missing(settings: LoadedSettings) -> bool:
    """Whether the embedded database has not been made yet."""
    scheme, _, path = settings.database_url.partition(":///")
    return scheme.startswith("sqlite") and not Path(path).exists()


def tiers_of(folder: Path | None) -> Sequence[str]:
    """The ladder that a policy folder says, which seeds have to keep to. Raises InvalidDocument."""
    for path in policy_files(folder) if folder is not None else ():
        document, _ = read_document(path, PolicyFile)
        if document.tiers is not None:
            return document.tiers
    return DEFAULT_TIERS

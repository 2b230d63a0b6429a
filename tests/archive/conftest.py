"""The till of the store's tests, for the tests of archives."""

from __future__ import annotations

from tests.store.conftest import shared_database, shared_url, till

__all__ = ["shared_database", "shared_url", "till"]

"""Secrets that can be recognised wherever they turn up, and the one place that looks for them.

Every secret that the tests give to Farebox has the mark in it. Whatever Farebox emits while a test runs is searched:
log records of all loggers, and what it and the processes that it starts write to their outputs, by a hook of pytest's
(`tests/conftest.py`); the answers of Farebox itself, by the clients of the tests; and metrics, decisions, the audit
log and the representations of settings and services, where a running Farebox of the tests ends. A canary that is
found fails the test.

Tokens and API keys are made while tests run, and are recognised by their form.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

MARK = "cAnArY7"

JWT_SECRET = f"jwt-{MARK}-that-only-tests-know-of-32-bytes"
ADMIN_TOKEN = f"admin-{MARK}-token-of-operators"
CALLBACK_SECRET = f"callback-{MARK}-secret-of-at-least-32-bytes"
PROXY_SECRET = f"proxy-{MARK}-secret-of-at-least-32-bytes"
BACKEND_KEY = f"backend-{MARK}-key"
DATABASE_PASSWORD = f"database-{MARK}-password"
COOKIE = f"cookie-{MARK}-value"
PERSONAL = f"{MARK}.example"
"""The domain of every e-mail address."""
BODY = f"body-{MARK}-text"
QUERY = f"query-{MARK}-secret"

_MADE = r"eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{16,}|fbx_\w{20,}"
_ANY = re.compile(f"{MARK}|{_MADE}")


def email(user_id: str) -> str:
    """Personal data: operators may read it in their tables, and nobody in a log."""
    return f"{user_id}@{PERSONAL}"


def found_in(text: str) -> list[str]:
    """Every canary in a text, with what stands around it."""
    return [text[max(match.start() - 80, 0) : match.end() + 40] for match in _ANY.finditer(text)]


def search(where: str, *texts: str | bytes) -> None:
    """Fails where a canary is told."""
    for text in texts:
        found = found_in(text if isinstance(text, str) else text.decode("utf-8", "replace"))
        assert not found, f"{where} tells a secret: {found[:3]}"


def told_in(sections: Iterable[tuple[str, str]]) -> str | None:
    """The first canary in what pytest has captured of a test, as a sentence."""
    for name, content in sections:
        for found in found_in(content):
            return f"{name} tells a secret: {found!r}"
    return None

"""A small valid farebox.yaml, and what reading one says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from config.findings import InvalidDocument
from config.settings import LoadedSettings, load_settings
from tests import canaries

SECRET = canaries.JWT_SECRET

BASE = f"""\
identity:
  jwt:
    - {{name: app, algorithms: [HS256], secret: "{SECRET}", user: userId}}
upstreams:
  lumiku: {{url: "http://127.0.0.1:3000"}}
routes:
  - id: generate
    match: POST /generate
    upstream: lumiku
    app: video
    model: {{json: /modelId}}
"""


def load(folder: Path, text: str, environment: Mapping[str, str] | None = None) -> LoadedSettings:
    """The settings of a file with this text."""
    path = folder / "farebox.yaml"
    path.write_text(text, "utf-8")
    return load_settings(path, environment or {})


def refused(folder: Path, text: str, environment: Mapping[str, str] | None = None) -> InvalidDocument:
    """What is wrong with a file of this text."""
    with pytest.raises(InvalidDocument) as caught:
        load(folder, text, environment)
    return caught.value


def told(error: InvalidDocument) -> list[str]:
    """The findings without file and excerpt: `line:column: code: message`."""
    return [f"{found.line}:{found.column}: {found.code}: {found.message}" for found in error.findings]

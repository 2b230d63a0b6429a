"""docs/generate.py as a module: docs/ is a folder of pages, not a package."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

from tests.docs.pages import DOCS


def generator() -> ModuleType:
    """The module, loaded from its file."""
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None, "the file is there"
    assert spec.loader is not None, "a Python file has a loader"
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up while they are made.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module

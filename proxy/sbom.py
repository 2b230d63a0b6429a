"""The software bill of materials: what is installed beside Farebox, as CycloneDX 1.6 JSON (ECMA-424).

From the metadata of the environment that runs, and so of what is really there, with its dependencies and licences.
Called by `farebox sbom`; it reads nothing else and asks nobody. The same environment gives the same document, but for
its time.
"""

from __future__ import annotations

import json
import platform
import re
import uuid
from collections.abc import Iterable
from datetime import datetime
from importlib.metadata import Distribution, distributions
from typing import Any

ROOT = "farebox"

_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_EXTRA = re.compile(r"\bextra\s*==")

MAX_LICENCE = 100
"""Characters: some packages put the whole text where its name belongs."""


def document(now: datetime, found: Iterable[Distribution] | None = None) -> dict[str, Any]:
    """The bill of all distributions that this process could import."""
    known = {_canonical(each.name): each for each in (distributions() if found is None else found) if each.name}
    root = known.pop(ROOT, None)
    components = [_component(name, known[name]) for name in sorted(known)]
    components.append(_runtime())
    described = _component(ROOT, root, "application") if root is not None else {"type": "application", "name": ROOT}
    described.setdefault("bom-ref", ROOT)
    refs = {name: _purl(name, each) for name, each in known.items()}
    depends = [{"ref": described["bom-ref"], "dependsOn": _needs(root, refs, extras=True) if root else []}]
    depends += [{"ref": refs[name], "dependsOn": _needs(known[name], refs)} for name in sorted(known)]
    content = {"components": components, "dependencies": depends}
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(content, sort_keys=True))
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "timestamp": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "lifecycles": [{"phase": "operations"}],
            "component": described,
        },
        **content,
    }


def _component(name: str, distribution: Distribution, kind: str = "library") -> dict[str, Any]:
    purl = _purl(name, distribution)
    component: dict[str, Any] = {"type": kind, "bom-ref": purl, "name": name, "version": distribution.version}
    summary = _said(distribution, "Summary")
    if summary:
        component["description"] = summary
    licence = _licence(distribution)
    if licence is not None:
        component["licenses"] = [licence]
    return {**component, "purl": purl}


def _licence(distribution: Distribution) -> dict[str, Any] | None:
    """An SPDX expression where the package states one (PEP 639), else what it calls its licence."""
    expression = _said(distribution, "License-Expression")
    if expression:
        return {"expression": expression}
    classifiers = distribution.metadata.get_all("Classifier") or []
    named = [text.rpartition(" :: ")[2] for text in classifiers if text.startswith("License ::")]
    named += [text for text in [_said(distribution, "License")] if text and "\n" not in text]
    return {"license": {"name": named[0][:MAX_LICENCE]}} if named else None


def _said(distribution: Distribution, field: str) -> str:
    metadata = distribution.metadata
    return str(metadata[field]).strip() if field in metadata else ""


def _needs(distribution: Distribution, refs: dict[str, str], *, extras: bool = False) -> list[str]:
    """What it requires and is there. With `extras` also what it may have: of Farebox, the driver of a database."""
    needed = set[str]()
    for requirement in distribution.requires or []:
        name, optional = _NAME.match(requirement), _EXTRA.search(requirement)
        if name is not None and (extras or optional is None):
            needed.add(_canonical(name[1]))
    return sorted(refs[name] for name in needed if name in refs)


def _runtime() -> dict[str, Any]:
    name, number = platform.python_implementation(), platform.python_version()
    return {"type": "platform", "bom-ref": f"runtime:{name}@{number}", "name": name, "version": number}


def _purl(name: str, distribution: Distribution) -> str:
    return f"pkg:pypi/{name}@{distribution.version.replace('+', '%2B')}"


def _canonical(name: str) -> str:
    """https://packaging.python.org/en/latest/specifications/name-normalization/"""
    return re.sub(r"[-_.]+", "-", name).lower()

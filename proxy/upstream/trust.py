"""Whom to trust behind https: the system's authorities, or those of a file. Certificates are always verified."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

from config.findings import Finding
from config.settings import LoadedSettings
from config.upstreams import Upstream as UpstreamSettings


def context_of(settings: UpstreamSettings, folder: Path) -> ssl.SSLContext | None:
    """For the https addresses of a backend; None when it has none. Raises OSError when its file cannot be used."""
    if not any(url.startswith("https:") for url in settings.targets):
        return None
    context = ssl.create_default_context(cafile=None if settings.ca is None else folder / settings.ca)
    # No other protocol is spoken here; a backend that would prefer one must know.
    context.set_alpn_protocols(["http/1.1"])
    return context


def findings_of(settings: LoadedSettings) -> Iterator[Finding]:
    """What is wrong with the files that `ca` names, each in its place."""
    for name, upstream in settings.values.upstreams.items():
        try:
            context_of(upstream, settings.folder)
        except OSError as error:
            reason = "it holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
            message = f"cannot use {upstream.ca!r}: {reason}"
            yield settings.source.finding(("upstreams", name, "ca"), "unusable-authorities", message)

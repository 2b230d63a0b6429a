"""Cross-origin requests of browsers (Fetch, "CORS protocol"): preflights, and who may read Farebox's own answers. Pure.

A preflight asks whether a request may be made; it costs nothing, carries no credential and names no model, so no
priced route can serve it. Where the settings have `cors`, Farebox answers it in the backend's place, and the backend
hears nothing of it. On open routes it passes like everything else.

Called by the pipeline before its routes, and for each answer that is Farebox's own.
"""

from __future__ import annotations

from collections.abc import Sequence

from config.cors import Cors
from proxy.errors import METHODS, Answer
from proxy.headers import HeaderList
from proxy.pipeline.exchange import Incoming

EXPOSED = "X-Request-Id, WWW-Authenticate, Retry-After, RateLimit, RateLimit-Policy"
"""Headers of our own answers that a page may read."""


def asked_for(incoming: Incoming) -> str | None:
    """The method that a preflight asks about; None for what is no preflight."""
    methods, origins = incoming.values("access-control-request-method"), incoming.values("origin")
    if incoming.method != "OPTIONS" or len(origins) != 1 or len(methods) != 1 or methods[0] not in METHODS:
        return None
    # With a body it is something else, and what is left of it would have to be read.
    return None if incoming.request.body_exists else methods[0]


class Sharing:
    """Who may share what, as the settings say; without `cors`, nobody."""

    def __init__(self, settings: Cors | None) -> None:
        self._settings = settings

    def preflight(self, incoming: Incoming) -> Answer | None:
        """The answer to a preflight, without what `granted` adds to every answer; None where its origin may not ask."""
        if self._settings is None or not self._shares(incoming.values("origin")):
            return None
        headers = [("Access-Control-Allow-Methods", incoming.values("access-control-request-method")[0])]
        asked = ", ".join(incoming.values("access-control-request-headers"))
        if asked:
            headers.append(("Access-Control-Allow-Headers", asked))
        headers.append(("Access-Control-Max-Age", str(round(self._settings.max_age.total_seconds()))))
        headers.append(("Vary", "Access-Control-Request-Method, Access-Control-Request-Headers"))
        return Answer(204, tuple(headers), b"")

    def granted(self, origins: Sequence[str]) -> HeaderList:
        """The headers by which a page of the one origin of a request may read an answer of ours."""
        if self._settings is None:
            return []
        everybody = "*" in self._settings.origins
        # Else a cache could give the answer for one origin to another.
        headers = [] if everybody else [("Vary", "Origin")]
        if self._shares(origins):
            headers.append(("Access-Control-Allow-Origin", "*" if everybody else origins[0]))
            headers += [("Access-Control-Allow-Credentials", "true")] if self._settings.credentials else []
            headers.append(("Access-Control-Expose-Headers", EXPOSED))
        return headers

    def _shares(self, origins: Sequence[str]) -> bool:
        allowed = () if self._settings is None else self._settings.origins
        return len(origins) == 1 and ("*" in allowed or origins[0] in allowed)

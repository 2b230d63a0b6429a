"""How long a hold lasts without a sign of life from its process, against how long its exchange may be silent.

A hold has to outlast every wait that `upstreams` allow, or an exchange that is still within its rights would be cut,
or find its hold ended. Called when the settings are loaded; the proxy cuts by the same share (`proxy.pipeline.lease`).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING

from config.yaml_source import PathKey

if TYPE_CHECKING:
    from config.settings import FareboxSettings
    from config.upstreams import Upstream

EXCHANGE_SHARE = 0.9
"""Of `limits.request_deadline`: when an exchange without a sign of life is cut. The rest is for ending its hold."""

SILENCE_SHARE = 0.8
"""Of the same: how long a backend may be silent, so that its next byte still comes before the cut."""


def deadline_problems(values: FareboxSettings) -> Iterable[tuple[PathKey, str, str]]:
    """One for each backend of a metered route that may be silent for longer than a hold lasts."""
    deadline = values.limits.request_deadline
    metered = {route.upstream for route in values.routes if route.access == "metered"}
    for name, upstream in values.upstreams.items():
        timeout, silence = _longest_silence(upstream)
        if name in metered and silence > deadline * SILENCE_SHARE:
            needed = -(-silence // (timedelta(seconds=1) * SILENCE_SHARE))
            message = (
                f"{name!r} may be silent for {_seconds(silence)} s, longer than holds last without a sign of life; "
                f"set `limits.request_deadline` (now {_seconds(deadline)} s) to {int(needed)}s or more"
            )
            # Where somebody has written one of the two; with both at their defaults there is nothing to tell.
            written = timeout in upstream.model_fields_set
            place: PathKey = ("upstreams", name, timeout) if written else ("limits", "request_deadline")
            yield place, "deadline-too-short", message


def _longest_silence(upstream: Upstream) -> tuple[str, timedelta]:
    """The longest time without a byte from a backend, and the setting that allows it."""
    head = upstream.connect_timeout + upstream.response_timeout
    if head >= upstream.idle_timeout:
        return "response_timeout", head
    return "idle_timeout", upstream.idle_timeout


def _seconds(duration: timedelta) -> str:
    return f"{duration.total_seconds():g}"

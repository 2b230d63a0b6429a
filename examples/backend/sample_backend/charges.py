"""What the apps say that a generation costs.

The real apps print a charge of their own in most answers, in credits of their own price list. It is a report, not a
deduction: this backend keeps no balances, and who may spend is decided in front of it. A sidecar may read the figure
or ignore it. All functions are pure; amounts are whole credits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

REPORTED_BALANCE = 100_000
"""The `creditBalance` in every answer: a constant, because the account is kept by the sidecar."""

INPAINT = 400
ENHANCE = 150

VIDEO_BASE = 500
VIDEO_DEFAULT_SECONDS = 5


def video(body: Mapping[str, Any]) -> int:
    """A generated video: the base, dearer by resolution, length beyond five seconds, start and end image, extras."""
    images = (bool(body.get("startImagePath")), bool(body.get("endImagePath")))
    percent = {"720p": 0, "1080p": 30, "4k": 100}[body["resolution"]]
    percent += {(False, False): 0, (True, False): 20, (False, True): 30, (True, True): 40}[images]
    percent += 50 * max(0, math.ceil((int(body["duration"]) - VIDEO_DEFAULT_SECONDS) / 5))
    extras = (10 if body.get("generateAudio") else 0) + (5 if body.get("enhancePrompt") else 0)
    return VIDEO_BASE + VIDEO_BASE * percent // 100 + extras


def mix(settings: Mapping[str, Any], total_videos: int) -> int:
    """Mixed videos: one credit each, and surcharges for what makes mixing harder."""
    each = 1
    each += 1 if settings["enableOrderMixing"] else 0
    each += 2 if settings["enableGroupMixing"] and settings["groupMixingMode"] == "random" else 0
    each += 1 if settings["enableSpeedVariations"] else 0
    each += {"480p": 0, "720p": 2, "1080p": 5, "4k": 10}[settings["videoResolution"]]
    each += 2 if settings["videoBitrate"] == "high" else 0
    each += 3 if settings["frameRate"] == 60 else 0
    each += 1 if settings["smartDistribution"] else 0
    return each * total_videos


def carousel(num_slides: int, num_sets: int) -> int:
    """Carousels: one credit for every two slides of a set."""
    return math.ceil(num_slides / 2) * num_sets


def loop(target_seconds: int) -> int:
    """A looped video: two credits for every ten minutes, at least two, and more beyond five hours."""
    minutes = target_seconds / 60
    long_haul = math.ceil(minutes / 60 - 5) * 2 if minutes > 300 else 0
    return max(2, math.ceil(minutes / 10) * 2) + long_haul

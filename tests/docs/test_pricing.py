"""docs/pricing.md: the prices of the origin, read from the page itself, against the formulas that its apps had."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.routes import Route
from config.settings import load_settings
from policies.pricing import cost, quota_cost
from policies.terms import MICRO, Model
from proxy.pipeline.extraction import extract
from proxy.pipeline.parts import RequestParts
from seeds.reading import default_files, read_seeds
from store.price_rows import price_of, quota_price_of, quota_terms_of, rates_of, terms_of
from tests.docs.pages import blocks
from tests.flows.house import sample_backend
from tests.policies.samples import model

PAGE = "pricing.md"
APP = '{{id: {0}, name: x, description: x, icon: x, version: "1", route_prefix: /x, order: 1, color: x}}'
AROUND = """
identity: {api_keys: true}
upstreams: {backend: {url: "http://127.0.0.1:3000"}}
routes:
"""


def _models() -> dict[str, Model]:
    """The models of the page, by their keys, after a way through the columns of the catalogue and back."""
    text = "\n".join(block.text for block in blocks(PAGE) if block.title == "models")
    known = [app.id for app in read_seeds(default_files()).apps]
    with TemporaryDirectory() as folder:
        file = Path(folder) / "models.yaml"
        apps = "\n".join(f"  - {APP.format(app)}" for app in ("pose-generator",))
        file.write_text(f"apps:\n{apps}\nmodels:\n{text}")
        seeds = read_seeds([file], apps=[*known, "avatar-generator"])
    found = {}
    for seed in seeds.models:
        price, quota = seed.price.price(), seed.quota_cost.price()
        stored = json.loads(json.dumps([rates_of(price), terms_of(price), quota_terms_of(quota)]))
        found[str(seed.key)] = model(
            seed.key,
            price=price_of(price.base, stored[0], price.round_up_to, 1, stored[1]),
            quota_cost=quota.base,
            quota_price=quota_price_of(quota.base, stored[2]),
        )
        assert found[str(seed.key)].price == price
    return found


def _routes() -> dict[str, Route]:
    text = "\n".join(block.text for block in blocks(PAGE) if block.title == "routes")
    with TemporaryDirectory() as folder:
        file = Path(folder) / "farebox.yaml"
        file.write_text(AROUND + text)
        return {route.id: route for route in load_settings(file, {}).values.routes}


MODELS, ROUTES = _models(), _routes()


def _units(route_id: str, body: dict[str, Any], form: bool = False) -> dict[str, Decimal]:
    kind = "application/x-www-form-urlencoded" if form else "application/json"
    sent = urlencode(body).encode() if form else json.dumps(body).encode()
    extracted = extract(ROUTES[route_id], RequestParts({}, "", [("Content-Type", kind)], sent, {}))
    assert isinstance(extracted, tuple), extracted
    return extracted[1]


def _credits(key: str, units: dict[str, Decimal]) -> float:
    return cost(MODELS[key].price, units) / MICRO


sample_backend()
from sample_backend import charges  # type: ignore[import-not-found]  # noqa: E402 - found by the line before

SETTINGS = st.fixed_dictionaries(
    {
        "enableOrderMixing": st.booleans(),
        "enableGroupMixing": st.booleans(),
        "groupMixingMode": st.sampled_from(["sequential", "random"]),
        "enableSpeedVariations": st.booleans(),
        "videoResolution": st.sampled_from(["480p", "720p", "1080p", "4k"]),
        "videoBitrate": st.sampled_from(["low", "medium", "high"]),
        "frameRate": st.sampled_from([24, 30, 60]),
        "smartDistribution": st.booleans(),
    }
)


@given(SETTINGS, st.integers(1, 100))
def test_video_mixer(settings: dict[str, Any], total: int) -> None:
    """Each setting makes each video dearer by what it did at the origin."""
    units = _units("mix-videos", {"totalVideos": total, "settings": settings})
    assert _credits("video-mixer:ffmpeg-standard", units) == charges.mix(settings, total)


@given(st.integers(2, 8), st.integers(1, 100), st.integers(0, 8))
def test_carousel_mix(slides: int, sets: int, texts: int) -> None:
    """What was charged, and what was estimated: with half as much again from ten sets on, rounded."""
    units = _units("generate-carousel", {"numSlides": slides, "numSets": sets, "numTexts": texts})
    assert _credits("carousel-mix:canvas-standard", units) == charges.carousel(slides, sets)
    estimate = (5 + 2 * slides + texts) * sets * (1.5 if sets >= 10 else 1)
    assert _credits("carousel-mix:canvas-v2", units) == math.floor(estimate + 0.5)
    assert quota_cost(MODELS["carousel-mix:canvas-v2"], units) == math.ceil(sets / 10)


@given(st.integers(1, 360_000) | st.integers(0, 100).map(lambda hours: max(hours * 3600, 1)))
def test_looping_flow(seconds: int) -> None:
    """Begun tens of minutes, and begun hours beyond five, at least two credits."""
    units = _units("generate-loop", {"targetDuration": seconds})
    assert _credits("looping-flow:ffmpeg-loop", units) == charges.loop(seconds)


IMAGES = st.sampled_from([None, "", "/uploads/a.jpg"])


@given(st.integers(1, 60), st.sampled_from(["720p", "1080p", "4k"]), IMAGES, IMAGES, st.booleans(), st.booleans())
def test_video_generator(
    duration: int, resolution: str, start: str | None, end: str | None, audio: bool, better: bool
) -> None:
    """Percents of the base, and extras that no percent raises."""
    body = {"modelId": "kling-2.5", "duration": duration, "resolution": resolution, "startImagePath": start}
    body |= {"endImagePath": end, "generateAudio": audio, "enhancePrompt": better}
    units = _units("generate-video", body)
    assert _credits("video-generator:kling-2.5", units) == charges.video(body)


@given(st.integers(1, 50))
def test_poster_editor(annotations: int) -> None:
    """For each annotation, in credits and in units of quota; flat for the rest."""
    units = _units("inpaint-batch", {"annotations": [{}] * annotations})
    assert _credits("poster-editor:inpaint-pro", units) == 400 * annotations
    assert quota_cost(MODELS["poster-editor:inpaint-pro"], units) == 2 * annotations
    assert _credits("poster-editor:enhance", {}) == charges.ENHANCE


@given(st.integers(1, 50), st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_pose_generator(poses: int, hd: bool, fashion: bool, background: bool, theme: bool) -> None:
    """Each pose with its surcharges."""
    body = {"selectedPoseIds": ["x"] * poses, "quality": "hd" if hd else "sd"}
    body |= {"fashionSettings": {"a": 1} if fashion else None, "professionTheme": "nurse" if theme else ""}
    body |= {"backgroundSettings": {"type": "auto"}} if background else {}
    expected = ((8 if hd else 5) + 2 * fashion + 3 * background + 2 * theme) * poses
    assert _credits("pose-generator:poses", _units("generate-poses", body)) == expected


@pytest.mark.parametrize(("form", "expected"), [({"quality": "sd"}, 5), ({"quality": "hd", "priority": "true"}, 10)])
def test_avatar_generator(form: dict[str, str], expected: int) -> None:
    """Two extras, from a form."""
    assert _credits("avatar-generator:posed", _units("generate-posed-avatar", form, form=True)) == expected


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"settings": {"videoResolution": "8k"}}, "/settings/videoResolution"),
        ({"settings": {"videoResolution": 720}}, "/settings/videoResolution"),
        ({"totalVideos": 0}, "/totalVideos"),
        ({"totalVideos": 101}, "/totalVideos"),
        ({"totalVideos": -1}, "/totalVideos"),
        ({"totalVideos": "3"}, "/totalVideos"),
        ({"totalVideos": True}, "/totalVideos"),
        ({"settings": {"frameRate": 61}}, "/settings/frameRate"),
    ],
)
def test_what_is_out_of_range_is_refused(change: dict[str, Any], place: str) -> None:
    """Before anything is priced; the place is named."""
    settings = {"videoResolution": "720p", "videoBitrate": "low", "frameRate": 30, "groupMixingMode": "random"}
    body: dict[str, Any] = {"totalVideos": 3, **change, "settings": settings | change.get("settings", {})}
    headers = [("Content-Type", "application/json")]
    refusal = extract(ROUTES["mix-videos"], RequestParts({}, "", headers, json.dumps(body).encode(), {}))
    assert not isinstance(refusal, tuple)
    assert refusal.fields["field"] == place

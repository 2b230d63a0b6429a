"""The dashboard's apps and their models."""

from __future__ import annotations

import json

from tests.proxy.management.service import Service


async def test_apps_with_something_for_the_caller_are_listed_in_order(service: Service) -> None:
    """An app without an accessible model, or switched off, is left out."""
    apps = (await service.get("/apps"))["apps"]
    assert [(app["appId"], app["availableModels"]) for app in apps] == [("video", 1), ("image", 1)]
    await service.subscribed("enterprise")
    apps = (await service.get("/apps"))["apps"]
    assert [(app["appId"], app["availableModels"]) for app in apps] == [("video", 3), ("image", 2)]


async def test_an_app_has_the_origins_fields_flat_and_nested(service: Service) -> None:
    """Older clients read the flat form, later ones the nested one."""
    app = (await service.get("/apps"))["apps"][0]
    assert app == {
        "appId": "video",
        "name": "Video",
        "description": "",
        "icon": "film",
        "version": "1.0.0",
        "routePrefix": "/api/apps/video",
        "features": {"enabled": True, "beta": False, "comingSoon": False},
        "dashboard": {"order": 1, "color": "blue"},
        "order": 1,
        "color": "blue",
        "beta": False,
        "comingSoon": False,
        "availableModels": 1,
    }


async def test_the_models_of_an_app_come_by_rank_of_their_tier(service: Service) -> None:
    """Not in the order of the alphabet, as the origin listed them, and without what is out of reach."""
    await service.subscribed("enterprise")
    models = (await service.get("/apps/video/models"))["models"]
    assert [model["tier"] for model in models] == ["free", "basic", "pro"]
    await service.subscribed("basic", "ben")
    models = (await service.get("/apps/video/models", "ben"))["models"]
    assert [model["modelKey"] for model in models] == ["video:alpha", "video:beta"]


async def test_an_app_model_has_the_origins_price_fields(service: Service) -> None:
    """Per second and per pixel by the names that the origin's clients know; capabilities as a text."""
    alpha = (await service.get("/apps/video/models"))["models"][0]
    assert (alpha["creditCost"], alpha["creditPerSecond"], alpha["creditPerPixel"]) == (5, 1, None)
    assert json.loads(alpha["capabilities"]) == {"maxDuration": 6}
    dots = (await service.get("/apps/image/models"))["models"][0]
    assert (dots["creditCost"], dots["creditPerSecond"], dots["creditPerPixel"]) == (3, None, 0.000001)


async def test_an_unknown_app_has_no_models(service: Service) -> None:
    """An empty list and no error, as the origin's clients expect."""
    for app_id in ("nope", "video%20", "VIDEO", "%C3%A9"):
        assert await service.get(f"/apps/{app_id}/models") == {"models": []}

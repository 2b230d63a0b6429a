"""The dashboard: the apps that hold something for the caller, and the models of each that are open to them."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from policies.terms import App, Model
from proxy.management.endpoint import ApiRequest
from proxy.management.models import ModelSummary, Price, accessible_models, price_of
from proxy.management.shapes import CreditRate, JsonText, Shape
from proxy.services import Services

SECONDS, PIXELS = "duration_seconds", "pixels"
"""The units whose rates the origin's clients know by a name of their own."""


class AppFeatures(Shape):
    """Switches of an app."""

    enabled: bool
    beta: bool
    coming_soon: bool


class AppTile(Shape):
    """Where and how the dashboard shows an app."""

    order: int
    color: str


class ListedApp(Shape):
    """An app with at least one model that is open to the caller. What is in `features` and `dashboard` is repeated
    beside them, where older clients look for it."""

    app_id: str
    name: str
    description: str
    icon: str
    version: str
    route_prefix: str
    features: AppFeatures
    dashboard: AppTile
    order: int
    color: str
    beta: bool
    coming_soon: bool
    available_models: int
    """How many models are open to the caller."""


class AppList(Shape):
    """Apps in the order of the dashboard."""

    apps: list[ListedApp]


class AppModel(ModelSummary, Price):
    """A model that is open to the caller."""

    id: str
    """The same as `modelKey`."""
    model_key: str
    app_id: str
    model_id: str
    description: str
    enabled: Literal[True] = True
    beta: bool
    credit_per_second: CreditRate | None
    """The rate of the unit `duration_seconds`; null when the price has none."""
    credit_per_pixel: CreditRate | None
    """The rate of the unit `pixels`: for one of them, not for a million."""
    capabilities: JsonText
    """A JSON object as text."""


class AppModels(Shape):
    """Models that are open to the caller, from the lowest tier to the highest; none for an app that is not known."""

    models: list[AppModel]


async def list_apps(services: Services, request: ApiRequest) -> AppList:
    rulebook = services.rulebooks.current
    counts = Counter(model.app for model in accessible_models(request.caller, rulebook, request.now))
    apps = (app for app in rulebook.catalogue.apps.values() if app.enabled and counts[app.app_id])
    return AppList(apps=[_listed(app, counts[app.app_id]) for app in apps])


async def list_app_models(services: Services, request: ApiRequest) -> AppModels:
    models = accessible_models(request.caller, services.rulebooks.current, request.now)
    app_id = request.parameters["appId"]
    return AppModels(models=[_model(model) for model in models if model.app == app_id])


def _listed(app: App, available: int) -> ListedApp:
    return ListedApp(
        app_id=app.app_id,
        name=app.name,
        description=app.description,
        icon=app.icon,
        version=app.version,
        route_prefix=app.route_prefix,
        features=AppFeatures(enabled=app.enabled, beta=app.beta, coming_soon=app.coming_soon),
        dashboard=AppTile(order=app.order, color=app.color),
        order=app.order,
        color=app.color,
        beta=app.beta,
        coming_soon=app.coming_soon,
        available_models=available,
    )


def _model(model: Model) -> AppModel:
    return AppModel(
        **price_of(model),
        name=model.name,
        provider=model.provider,
        tier=model.tier,
        id=model.key,
        model_key=model.key,
        app_id=model.app,
        model_id=model.model_id,
        description=model.description,
        beta=model.beta,
        credit_per_second=model.price.rates.get(SECONDS),
        credit_per_pixel=model.price.rates.get(PIXELS),
        capabilities=model.capabilities,
    )

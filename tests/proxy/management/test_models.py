"""Which models are shown as accessible: exactly those for which a request would pass policy."""

from __future__ import annotations

import pytest

from policies.refusals import Refusal
from store import accounts, api_keys
from store.verbs import Hold
from tests.proxy.management.conftest import Start
from tests.proxy.management.service import MODELS, Service

ENABLED = {key for key, model in MODELS.items() if model.get("enabled", True)}

POLICIES = {
    "the ladder": None,
    "payg climbs": """
version: 1
payg: {tier: basic}
rules:
  - {id: ladder, allow: use, who: {tier: at-least-model}}
""",
    "beta for testers": """
version: 1
rules:
  - {id: ladder, allow: use, who: {tier: at-least-model}}
  - {id: beta, deny: use, who: {not: {tag: tester}}, model: {beta: true}, because: This model is in beta}
  - {id: house, allow: use, who: {tag: tester}, app: image}
""",
    "one user, one app": "version: 1\nrules:\n  - {id: one, allow: use, who: {user: buyer of pro}, app: video}\n",
    "subscribers only": """
version: 1
rules:
  - {id: all, allow: use, who: {account_type: subscription}}
  - {id: cheap, deny: use, who: {tier: free}, model: "image:*"}
""",
}
PLANS = [None, "free", "basic", "pro", "enterprise"]


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
@pytest.mark.parametrize("tags", [[], ["tester"]], ids=["plain", "tester"])
async def test_a_model_is_accessible_exactly_when_the_gate_lets_it_through(
    start: Start, policy: str | None, tags: list[str]
) -> None:
    """Under every policy, for every kind of caller and every model: the list, the app's list and the gate agree."""
    async with start(policy=policy) as service:
        for plan_id in PLANS:
            name = f"buyer of {plan_id}"
            user = await service.user(name)
            await service.services.store.database.write(accounts.set_tags, user.account.account_id, tags)
            if plan_id is not None:
                await service.subscribed(plan_id, name)
            passed = {key for key in MODELS if not isinstance(await service.reserve(key, name), Refusal)}
            shown = (await service.get("/models/available", name))["models"]
            assert {model["modelKey"] for model in shown} == ENABLED
            assert {model["modelKey"] for model in shown if model["accessible"]} == passed
            listed = {app["appId"]: app["availableModels"] for app in (await service.get("/apps", name))["apps"]}
            for app_id in ("video", "image"):
                models = {model["modelKey"] for model in (await service.get(f"/apps/{app_id}/models", name))["models"]}
                assert models == {key for key in passed if key.startswith(f"{app_id}:")}
                assert listed.get(app_id, 0) == len(models)


async def test_a_locked_model_says_what_would_unlock_it(service: Service) -> None:
    """The tier and the sentence are those of the gate's refusal."""
    models = {model["modelKey"]: model for model in (await service.get("/models/available"))["models"]}
    refusal = await service.reserve("video:gamma")
    assert isinstance(refusal, Refusal)
    gamma = models["video:gamma"]
    assert (gamma["accessible"], gamma["requiredTier"]) == (False, refusal.fields["requiredTier"])
    assert gamma["reason"] == refusal.fields["reason"] == "This model requires pro tier or higher"
    assert (models["video:alpha"]["reason"], models["video:alpha"]["requiredTier"]) == (None, None)


async def test_the_tier_that_is_named_unlocks(service: Service) -> None:
    """Subscribing to a plan of `requiredTier` makes the model accessible."""
    models = (await service.get("/models/available"))["models"]
    plans = {"basic": "basic", "pro": "pro", "enterprise": "enterprise"}
    for model in models:
        if model["requiredTier"] is not None:
            await service.subscribed(plans[model["requiredTier"]], user_id=f"buyer of {model['modelKey']}")
            seen = (await service.get("/models/available", user=f"buyer of {model['modelKey']}"))["models"]
            assert next(other for other in seen if other["modelKey"] == model["modelKey"])["accessible"] is True


async def test_a_model_shows_its_price(service: Service) -> None:
    """In credits and in quota units; fractions of a micro-credit per unit survive."""
    models = {model["modelKey"]: model for model in (await service.get("/models/available"))["models"]}
    assert models["video:beta"] | {"accessible": None, "reason": None, "requiredTier": None} == {
        "modelKey": "video:beta",
        "appId": "video",
        "modelId": "beta",
        "name": "Model video:beta",
        "description": "",
        "provider": "local",
        "tier": "basic",
        "beta": False,
        "accessible": None,
        "requiredTier": None,
        "reason": None,
        "creditCost": 10,
        "creditRates": {"duration_seconds": 2.5},
        "creditStep": 1,
        "quotaCost": 1,
        "capabilities": {"maxDuration": 6},
    }
    assert models["image:dots"]["creditRates"] == {"pixels": 0.000001}


async def test_the_list_can_be_cut_to_one_app(service: Service) -> None:
    """An unknown app has no models, which is no error."""
    models = (await service.get("/models/available?appId=image"))["models"]
    assert [model["modelKey"] for model in models] == ["image:dots", "image:delta"]
    assert (await service.get("/models/available?appId=nope"))["models"] == []


async def test_a_frozen_account_sees_everything_locked(service: Service) -> None:
    """And why."""
    await service.freeze()
    models = (await service.get("/models/available"))["models"]
    assert {(model["accessible"], model["reason"]) for model in models} == {(False, "Account is frozen")}
    assert (await service.get("/apps"))["apps"] == []


async def test_a_limited_api_key_sees_its_own_models(service: Service) -> None:
    """A key that is limited to one model shows the others as locked, though its user may use them."""
    user = await service.user()
    arguments = (user.user_id, user.account.account_id, "CI", ["video:*"], None, service.now())
    _, key = await service.services.store.database.write(api_keys.create, *arguments)
    answer = await service.ask("GET", "/models/available", user=None, status=200, headers={"X-Api-Key": key})
    accessible = {model["modelKey"] for model in answer["models"] if model["accessible"]}
    assert accessible == {"video:alpha"}
    assert isinstance(await service.reserve("image:dots"), Hold)

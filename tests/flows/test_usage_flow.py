"""The main job: identify, route, evaluate, reserve, forward, measure, settle or refund, record."""

from __future__ import annotations

import asyncio
import json

import pytest
from multidict import CIMultiDictProxy
from openai import AsyncOpenAI

from policies.terms import MICRO
from store import accounts, reports
from store.verbs import GrantSource
from tests.flows.house import House, token

GENERATE = "/api/apps/video-generator/generate"


def video(model: str = "wan2.2", prompt: str = "a cat", duration: int = 5, **more: object) -> dict[str, object]:
    body = {"projectId": "p1", "modelId": model, "prompt": prompt, "duration": duration}
    return {**body, "resolution": "720p", "aspectRatio": "16:9", **more}


async def generate(house: House, user: str, **more: object) -> tuple[int, dict[str, object], CIMultiDictProxy[str]]:
    return await house.call("POST", GENERATE, user, json=video(**more))


async def finished(house: House, user: str, job: str) -> str:
    """Poll like a client until the job has ended."""
    for _ in range(100):
        path = f"/api/apps/video-generator/generations/{job}/status"
        status, body, _ = await house.call("GET", path, user)
        assert status == 200
        if body["status"]["status"] in ("completed", "failed"):
            return str(body["status"]["status"])
        await asyncio.sleep(0.05)
    raise AssertionError("the job did not end")


async def test_a_new_user_starts_with_the_welcome_credits(house: House) -> None:
    """A user who is proven but unknown becomes a pay-as-you-go account with the welcome credits, once."""
    results = await asyncio.gather(*(house.call("GET", "/api/credits/balance", "newcomer") for _ in range(10)))
    assert [(status, body["balance"]) for status, body, _ in results] == [(200, 100)] * 10


async def test_a_job_keeps_its_hold_until_it_completes(house: House) -> None:
    """The price is reserved when the job is accepted, and charged when a poll shows that it completed."""
    status, body, headers = await generate(house, "ann")
    assert status == 202
    assert headers["X-Farebox-Funding"] == "credits"
    assert headers["X-Farebox-Reserved"] == "5"
    assert headers["X-Farebox-Credits-Remaining"] == "95"
    assert await finished(house, "ann", body["generation"]["id"]) == "completed"
    assert await house.balance("ann") == 95 * MICRO
    user = await house.services.store.database.read(accounts.find_user, "ann")
    usage = await house.services.store.database.read(reports.usage, user.account.account_id, None, 10)
    assert [(row["model_key"], row["charged"], row["estimated"]) for row in usage] == [
        ("video-generator:wan2.2", 5 * MICRO, False)
    ]


async def test_a_failed_job_is_refunded(house: House) -> None:
    """Whoever polls and reads that the job failed finds the whole amount back in the balance."""
    status, body, _ = await generate(house, "ben", prompt="a cat fail-job")
    assert status == 202
    assert await house.balance("ben") == 95 * MICRO
    assert await finished(house, "ben", body["generation"]["id"]) == "failed"
    assert await house.balance("ben") == 100 * MICRO


async def test_a_failed_call_costs_nothing(house: House) -> None:
    """An answer of the backend's own failure passes unchanged, and the hold is released."""
    status, body, headers = await generate(house, "cid", prompt="a cat fail-now")
    assert status == 500
    assert "error" in body
    assert headers["X-Farebox-Charged"] == "0"
    assert await house.balance("cid") == 100 * MICRO


async def test_another_accounts_job_does_not_exist(house: House) -> None:
    """A job id belongs to the account that started it; others get 404 and learn nothing."""
    _, body, _ = await generate(house, "dan")
    path = f"/api/apps/video-generator/generations/{body['generation']['id']}/status"
    status, refusal, _ = await house.call("GET", path, "eve")
    assert status == 404
    assert refusal["code"] == "not_found"


async def test_a_list_of_jobs_ends_them(house: House) -> None:
    """Where a backend only lists jobs, each one in the list that has ended is settled or released."""
    settings = json.loads("""{"enableOrderMixing":true,"enableDifferentStart":true,"enableGroupMixing":false,
        "groupMixingMode":"sequential","enableSpeedVariations":false,"speedMin":0.5,"speedMax":2.0,
        "metadataSource":"capcut","videoBitrate":"medium","videoResolution":"720p","frameRate":30,"aspectRatio":"9:16",
        "durationType":"original","smartDistribution":false,"distributionMode":"proportional","audioOption":"keep"}""")
    path = "/api/apps/video-mixer/generate"
    for extra in ({}, {"simulate": "fail-job"}):
        body = {"projectId": "mine", "totalVideos": 3, "settings": settings, **extra}
        status, answer, _ = await house.call("POST", path, "fay", json=body)
        assert status == 200, answer
    assert await house.balance("fay") == 96 * MICRO
    await asyncio.sleep(0.3)
    await house.call("GET", "/api/apps/video-mixer/projects/mine/generations", "fay")
    assert await house.balance("fay") == 98 * MICRO


async def test_refusals_for_lack_of_credits(house: House) -> None:
    """402 with the fields that the origin's clients read; nothing is forwarded."""
    await house.call("GET", "/api/credits/balance", "gus")
    before = len(house.backend.requests)
    for _ in range(20):
        status, body, headers = await generate(house, "gus", duration=6)
        if status == 402:
            break
    assert status == 402
    assert body["error"] == "Insufficient credits"
    assert (body["required"], body["current"]) == (6, 4)
    assert body["code"] == "insufficient_credits"
    assert body["request_id"] == headers["X-Request-Id"]
    assert len(house.backend.requests) - before == 16


async def test_refusals_for_the_tier(house: House) -> None:
    """403 says which tier would unlock the model."""
    status, body, _ = await generate(house, "hal", model="veo3")
    assert status == 403
    expected = {
        "error": "Model access denied",
        "reason": "This model requires enterprise tier or higher",
        "requiredTier": "enterprise",
        "modelKey": "video-generator:veo3",
        "code": "model_denied",
    }
    assert {name: body[name] for name in expected} == expected
    for model, reason in (("nope", "Model not found"),):
        assert (await generate(house, "hal", model=model))[1]["reason"] == reason
    assert house.backend.reached(GENERATE) == 0


async def test_a_subscriber_pays_with_quota(house: House) -> None:
    """Quota is used instead of credits, and when it is used up the answer says until when."""
    for used in range(1, 51):
        status, _, headers = await house.call("POST", "/v1/chat/completions", "demo-subscriber", json=CHAT)
        assert status == 200
        assert headers["X-Farebox-Funding"] == "quota"
        assert headers["X-Farebox-Quota-Remaining"] == str(50 - used)
    status, body, headers = await generate(house, "demo-subscriber")
    assert status == 429
    assert body["error"] == "Daily quota exceeded"
    assert (body["usage"], body["limit"], body["remaining"]) == (50, 50, 0)
    assert body["resetAt"].endswith("T00:00:00.000Z")
    assert 0 < int(headers["Retry-After"]) <= 86400


CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "one two three"}], "max_tokens": 10}


async def test_the_true_usage_of_a_json_answer_is_charged(house: House) -> None:
    """The quote assumes what may be asked for; the charge is what the answer says was used, never below the base."""
    status, body, headers = await house.call("POST", "/v1/chat/completions", "ida", json=CHAT)
    assert status == 200
    usage = body["usage"]
    expected = max(10_000, usage["prompt_tokens"] * 100 + usage["completion_tokens"] * 400)
    assert headers["X-Farebox-Charged"] == str(expected / MICRO)
    assert await house.balance("ida") == 100 * MICRO - expected


async def test_the_openai_sdk_works_unchanged(house: House) -> None:
    """Only `base_url` and the key differ: streaming and not, and the usage of both is charged."""
    words = " ".join(f"word{n}" for n in range(200))
    messages = [{"role": "user", "content": words}]
    async with AsyncOpenAI(base_url=house.url + "/v1", api_key=token("joe"), max_retries=0) as sdk:
        whole = await sdk.chat.completions.create(model="gpt-4o-mini", messages=messages)
        assert whole.choices[0].message.content == words
        stream = await sdk.chat.completions.create(
            model="gpt-4o-mini", messages=messages, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == words
    assert chunks[-1].usage is not None
    each = whole.usage.prompt_tokens * 100 + whole.usage.completion_tokens * 400
    assert each > 10_000
    assert await house.balance("joe") == 100 * MICRO - 2 * each


async def test_a_stream_without_usage_settles_its_quote(house: House) -> None:
    """What cannot be measured is charged as it was quoted, and marked as estimated."""
    body = {**CHAT, "stream": True}
    status, _, _ = await house.call("POST", "/v1/chat/completions", "kim", json=body)
    assert status == 200
    user = await house.services.store.database.read(accounts.find_user, "kim")
    usage = await house.services.store.database.read(reports.usage, user.account.account_id, None, 10)
    assert [(row["charged"], row["estimated"]) for row in usage] == [(1000 * 100 + 10 * 400, True)]


async def test_exactly_as_many_calls_as_the_balance_allows(house: House) -> None:
    """A balance for 50 calls and 200 concurrent ones: exactly 50 reach the backend."""
    await house.call("GET", "/api/credits/balance", "lea")
    user = await house.services.store.database.read(accounts.find_user, "lea")
    granted = await house.services.store.ledger.grant(
        user.account.account_id, 150 * MICRO, GrantSource.PURCHASE, "k", "top up"
    )
    assert granted.changed
    results = await asyncio.gather(*(generate(house, "lea", duration=1) for _ in range(200)))
    statuses = [status for status, _, _ in results]
    assert (statuses.count(202), statuses.count(402)) == (50, 150)
    assert house.backend.reached(GENERATE) == 50
    assert await house.balance("lea") == 0


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({}, "Unauthorized - No token provided"),
        ({"Authorization": "Basic abc"}, "Unauthorized - No token provided"),
        ({"Authorization": "Bearer garbage"}, "Unauthorized - Invalid token"),
        ({"Authorization": "Bearer " + token("x", exp=1)}, "Unauthorized - Invalid token"),
        ({"Authorization": "Bearer " + token("x")[:-3] + "abc"}, "Unauthorized - Invalid token"),
        ({"Authorization": "Bearer fbx_unknown"}, "Unauthorized - Invalid token"),
    ],
)
async def test_bad_credentials_are_refused(house: House, headers: dict[str, str], error: str) -> None:
    """401 in the origin's words, with a challenge; the backend sees nothing."""
    status, body, answer_headers = await house.call("POST", GENERATE, json=video(), headers=headers)
    assert (status, body["error"]) == (401, error)
    assert answer_headers["WWW-Authenticate"].startswith("Bearer")
    assert not house.backend.requests


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b"not json", "body"),
        (b'{"modelId": 5}', "/modelId"),
        (b'{"modelId": ["wan2.2"]}', "/modelId"),
        (b'{"prompt": "x"}', "/modelId"),
        (b'{"modelId": "wan2.2", "modelId": "veo3"}', "body"),
        (b'{"modelId": "wan2.2", "MODELID": "veo3"}', "body"),
        (b'{"modelId": "wan2.2", "mod\\u0065lId": "veo3"}', "body"),
        (b'{"modelId": "wan2.2", "duration": -100}', "/duration"),
        (b'{"modelId": "wan2.2", "duration": "5"}', "/duration"),
        (b'{"modelId": "wan2.2", "duration": true}', "/duration"),
        (b'{"modelId": "wan2.2", "duration": 1e99}', "/duration"),
        (b'{"modelId": "wan2.2", "duration": NaN}', "body"),
        (b"\xef\xbb\xbf" + b'{"modelId": "wan2.2"}', "body"),
        ('{"modelId": "wan2.2"}'.encode("utf-16"), "body"),
        (b"[" * 100_000, "body"),
    ],
)
async def test_bodies_that_cannot_be_read_in_one_way_are_refused(house: House, body: bytes, place: str) -> None:
    """400 that names the field; nothing is forwarded and nothing is charged."""
    headers = {"Content-Type": "application/json"}
    status, answer, _ = await house.call("POST", GENERATE, "moe", data=body, headers=headers)
    assert (status, answer["code"], answer["field"]) == (400, "invalid_request", place), answer
    assert not house.backend.requests
    assert await house.balance("moe") == 100 * MICRO


async def test_what_matches_no_route_is_refused(house: House) -> None:
    """There is no side door: unknown paths and methods are 404, with or without a credential."""
    for method, path in (("GET", "/admin"), ("DELETE", GENERATE), ("POST", GENERATE + "/"), ("GET", "/v1/chat/")):
        status, body, _ = await house.call(method, path, "ned")
        assert (status, body["error"], body["code"]) == (404, "Not Found", "no_route")
    assert not house.backend.requests


async def test_the_backend_learns_who_calls_from_farebox_alone(house: House) -> None:
    """Identity headers are Farebox's; whatever the client sent under such names, in any spelling, is removed."""
    spoofed = {"X-Farebox-User": "admin", "x_farebox_user": "admin", "X.Farebox.Account": "1", "X-Request-Id": "mine"}
    _, _, headers = await house.call("POST", GENERATE, "oli", json=video(), headers=spoofed)
    seen = house.backend.requests[-1].headers
    assert seen.getall("X-Farebox-User") == ["oli"]
    assert seen["X-Farebox-Model"] == "video-generator:wan2.2"
    assert seen["X-Farebox-Tier"] == "free"
    assert seen["X-Request-Id"] == headers["X-Request-Id"]
    assert not {"x_farebox_user", "x.farebox.account"} & {name.lower() for name in seen}


async def test_refusals_on_an_openai_route_have_openais_shape(house: House) -> None:
    """The SDK of that API shows our sentence and our code."""
    status, body, _ = await house.call("POST", "/v1/chat/completions", "pia", json={**CHAT, "model": "gpt-4o"})
    assert status == 403
    assert body["error"]["code"] == "model_denied"
    assert body["error"]["type"] == "permission_error"
    assert "requires pro tier" in body["error"]["message"]


async def test_an_upstream_that_is_down_costs_nothing(house: House) -> None:
    """502 with a code, and the hold is given back."""
    await house.call("GET", "/api/credits/balance", "quin")
    await house.backend.stop()
    status, body, _ = await house.call("POST", GENERATE, "quin", json=video())
    assert (status, body["code"]) == (502, "upstream_unreachable")
    assert await house.balance("quin") == 100 * MICRO


async def test_a_stream_that_breaks_off_ends_as_broken(house: House) -> None:
    """Half a stream never looks like a whole one, and settles by the route's abort rule."""
    body = {**CHAT, "stream": True, "messages": [{"role": "user", "content": "one two three four five cut"}]}
    with pytest.raises(Exception, match=r"(?i)payload|closed|disconnect|reset"):
        await house.call("POST", "/v1/chat/completions", "rob", json=body)
    await asyncio.sleep(0.1)
    assert await house.balance("rob") == 100 * MICRO - (1000 * 100 + 10 * 400)


async def test_a_client_that_leaves_before_the_answer_owes_nothing(house: House) -> None:
    """The hold of a call that was abandoned before its answer began is given back."""
    body = {**CHAT, "messages": [{"role": "user", "content": "hang"}]}
    call = asyncio.create_task(house.call("POST", "/v1/chat/completions", "sam", json=body))
    await asyncio.sleep(0.3)
    assert await house.balance("sam") < 100 * MICRO
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    for _ in range(50):
        if await house.balance("sam") == 100 * MICRO:
            break
        await asyncio.sleep(0.02)
    assert await house.balance("sam") == 100 * MICRO


async def test_a_job_is_charged_even_when_its_client_leaves(house: House) -> None:
    """Who starts a job and hangs up before the answer has still started it."""
    call = asyncio.create_task(generate(house, "tia", prompt="slow"))
    await asyncio.sleep(0.5)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.sleep(2)
    holds = await house.services.store.database.read(reports.open_holds, 10)
    assert [hold["user_id"] for hold in holds] == ["tia"]
    assert holds[0]["job_id"] is not None

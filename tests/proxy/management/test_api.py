"""Serving: credentials, envelopes, bodies on the wire, and a store that cannot answer."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest

from proxy.management.requests import MAX_BODY
from store import api_keys
from tests.proxy.management.conftest import Start
from tests.proxy.management.service import MovableClock, Service, token


async def _new_key(service: Service) -> tuple[str, str]:
    """The id of a new API key of the user, and the key."""
    user, write = await service.user(), service.services.store.database.write
    return await write(api_keys.create, user.user_id, user.account.account_id, "CI", [], None, service.now())


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Authorization": "Bearer nonsense"}, 401, "unauthorized"),
        ({"Authorization": "Basic YTpi"}, 401, "unauthorized"),
        ({"X-Api-Key": "fbx_unknown"}, 401, "unauthorized"),
        ({"Authorization": f"Bearer {token('ana')}", "X-Api-Key": "fbx_unknown"}, 400, "invalid_request"),
    ],
    ids=["no token", "another scheme", "an unknown key", "two credentials"],
)
async def test_a_bad_credential_is_refused(service: Service, headers: dict[str, str], status: int, code: str) -> None:
    """And two credentials are one too many, whichever of them is good."""
    answer = await service.ask("GET", "/credits/balance", user=None, status=status, headers=headers)
    assert answer["code"] == code


async def test_an_api_key_is_as_good_as_a_token(service: Service) -> None:
    """In either header, and for its user's account."""
    await service.use("video:alpha")
    _, key = await _new_key(service)
    for headers in ({"X-Api-Key": key}, {"Authorization": f"Bearer {key}"}):
        balance = await service.ask("GET", "/credits/balance", user=None, status=200, headers=headers)
        assert balance["balance"] == 95


async def test_an_api_key_is_for_its_scopes(service: Service) -> None:
    """One that may read looks at everything, asks for prices, and changes nothing; one for routes does neither."""
    user, write = await service.user(), service.services.store.database.write
    details = user.user_id, user.account.account_id, "CI", [], None, service.now()
    _, reading = await write(api_keys.create, *details, ["read"])
    _, using = await write(api_keys.create, *details, ["use"])
    headers, body = {"X-Api-Key": reading}, b'{"planId": "pro"}'
    await service.ask("GET", "/credits/balance", user=None, status=200, headers=headers)
    await service.ask("POST", "/quote", user=None, status=200, headers=headers, raw=b'{"modelKey": "video:alpha"}')
    for path, raw in (("/subscription/subscribe", body), ("/subscription/cancel", b""), ("/subscription/resume", b"")):
        answer = await service.ask("POST", path, user=None, status=403, headers=headers, raw=raw)
        assert (answer["code"], answer["scope"]) == ("forbidden", "manage")
    answer = await service.ask("GET", "/credits/balance", user=None, status=403, headers={"X-Api-Key": using})
    assert (answer["code"], answer["scope"]) == ("forbidden", "read")


async def test_another_accounts_data_never_appears(service: Service) -> None:
    """Whatever one user does, no answer to another changes by a byte."""
    paths = ["/subscription/status", "/quota/status", "/quota/history", "/credits/balance", "/credits/history"]
    paths += ["/models/usage", "/models/available", "/apps", "/apps/video/models", "/quotas/usage"]
    before = [await service.get(path, "ben") for path in paths]
    await service.use("video:alpha", "ana")
    await service.reserve("video:alpha", "ana")
    await service.subscribed("enterprise", "ana")
    await service.use("image:delta", "ana")
    await service.reserve("image:delta", "ana")
    assert [await service.get(path, "ben") for path in paths] == before
    await service.post("/subscription/cancel", {"immediately": True}, "ben", status=404)
    assert (await service.get("/subscription/status", "ana"))["isActive"] is True


async def test_an_envelope_can_be_asked_for(service: Service) -> None:
    """{success, data} around what is answered without it, and {success, error} around refusals."""
    plain = await service.get("/credits/balance")
    assert await service.get("/credits/balance?envelope=1") == {"success": True, "data": plain}
    refused = await service.post("/subscription/subscribe?envelope=1", {"planId": "nope"}, status=404)
    assert refused["success"] is False
    error = refused["error"]
    assert (error["message"], error["code"], error["field"]) == ("Subscription plan not found", "not_found", "planId")
    assert error["request_id"] == "0123456789ABC"
    unknown = await service.ask("GET", "/apps?envelope=1", user=None, status=401)
    assert unknown["error"]["message"] == "Unauthorized - No token provided"


async def test_the_envelope_can_be_the_rule(start: Start) -> None:
    """By a setting, from which a request may ask to be left out. The document is never wrapped."""
    async with start(management={"envelope": True}) as service:
        assert (await service.get("/credits/balance"))["data"]["balance"] == 100
        assert (await service.get("/credits/balance?envelope=0"))["balance"] == 100
        assert (await service.get("/credits/balance?envelope=2", status=400))["success"] is False
        assert service.document["openapi"] == "3.1.0"


@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
async def test_a_body_has_a_bound(service: Service, chunked: bool) -> None:
    """64 KiB, whether its length is declared or not."""

    async def pieces() -> object:
        yield b'{"planId": "'
        for _ in range(MAX_BODY // 1024):
            yield b"x" * 1024
        yield b'"}'

    data = pieces() if chunked else b'{"planId": "' + b"x" * MAX_BODY + b'"}'
    headers = {"Authorization": f"Bearer {token('ana')}"}
    url = "/api/subscription/subscribe"
    async with service.client.post(url, data=data, headers=headers) as answer:
        assert (answer.status, (await answer.json())["code"]) == (413, "request_too_large")


async def test_a_body_of_exactly_the_bound_is_read(service: Service) -> None:
    """White space is no reason to refuse."""
    raw = b'{"planId": "free"}'.ljust(MAX_BODY)
    await service.ask("POST", "/subscription/subscribe", status=201, raw=raw)


async def test_a_compressed_body_is_refused(service: Service) -> None:
    """What arrives is what is read."""
    headers = {"Content-Encoding": "deflate"}
    answer = await service.ask("POST", "/quote", status=400, raw=b"{}", headers=headers)
    assert answer["field"] == "Content-Encoding"


async def _exchange(service: Service, sent: bytes, *later: bytes) -> bytes:
    """Everything that the server answers to raw bytes; what comes `later` is sent after the first answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", service.client.port)
    writer.write(sent)
    received = b""
    async with asyncio.timeout(10):
        for piece in later:
            received += await reader.readuntil(b"\r\n\r\n")
            writer.write(piece)
        received += await reader.readuntil(b"}")
    writer.close()
    await writer.wait_closed()
    return received


def _head(extra: str) -> bytes:
    lines = ("POST /api/quote HTTP/1.1", "Host: x", f"Authorization: Bearer {token('ana')}", extra, "", "")
    return "\r\n".join(lines).encode()


async def test_a_client_that_waits_for_100_continue_is_told_to_send(service: Service) -> None:
    """RFC 9110, 10.1.1: the interim answer comes before the body, the final one after it."""
    body = b'{"modelKey": "video:alpha"}'
    head = _head(f"Expect: 100-continue\r\nContent-Length: {len(body)}")
    received = await _exchange(service, head, body)
    interim, _, final = received.partition(b"\r\n\r\n")
    assert interim == b"HTTP/1.1 100 Continue"
    assert final.startswith(b"HTTP/1.1 200")


async def test_a_client_without_a_credential_is_not_told_to_send(service: Service) -> None:
    """Refused before a byte of the body is asked for."""
    head = _head("Expect: 100-continue\r\nContent-Length: 20").replace(b"Bearer", b"Basic")
    assert (await _exchange(service, head)).startswith(b"HTTP/1.1 401")


async def test_a_slow_body_is_not_waited_for(service: Service) -> None:
    """After the time that the settings give it, the request is refused."""
    received = await _exchange(service, _head("Content-Length: 1000") + b'{"modelKey"')
    assert received.startswith(b"HTTP/1.1 408")
    assert b"too slowly" in received


async def test_a_store_that_cannot_answer_is_503(service: Service, tmp_path: Path) -> None:
    """With a time after which to try again, and no word about the database."""
    await service.get("/models/usage")
    with sqlite3.connect(tmp_path / "farebox.db") as connection:
        connection.execute("ALTER TABLE usage_events RENAME TO gone")
    connection.close()
    answer = await service.get("/models/usage", status=503)
    assert answer["code"] == "store_unavailable"
    assert "usage_events" not in json.dumps(answer)
    assert (await service.get("/models/popular", user=None, status=503))["code"] == "store_unavailable"


async def test_popular_models_recover_with_the_store(service: Service, tmp_path: Path) -> None:
    """A failed reading is not remembered, and does not lock out the next."""
    for status, rename in ((503, "usage_events RENAME TO gone"), (200, "gone RENAME TO usage_events")):
        with sqlite3.connect(tmp_path / "farebox.db") as connection:
            connection.execute(f"ALTER TABLE {rename}")
        connection.close()
        await service.get("/models/popular", user=None, status=status)


async def test_a_revoked_key_is_refused_when_it_is_no_longer_remembered(service: Service, clock: MovableClock) -> None:
    """A credential is remembered for seconds; what it shows is always read anew."""
    key_id, key = await _new_key(service)
    headers = {"X-Api-Key": key}
    await service.ask("GET", "/credits/balance", user=None, status=200, headers=headers)
    await service.services.store.database.write(api_keys.revoke, key_id, service.now())
    clock.now += timedelta(seconds=6)
    await service.ask("GET", "/credits/balance", user=None, status=401, headers=headers)

"""The management API before browsers: a cookie counts for our own pages and for JSON, and answers are data."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from proxy.errors import PROTECTING
from store.accounts import find_account
from tests.proxy.management.conftest import Start
from tests.proxy.management.service import Service, token

CANCEL = b'{"reason": "too much"}'


async def _post(service: Service, raw: bytes, headers: Mapping[str, str]) -> int:
    """The status of a cancellation that a browser sends, with the cookie that it adds by itself."""
    sent = {"Cookie": f"session={token('ana')}", **headers}
    if "Origin" in sent:
        sent["Origin"] = sent["Origin"].replace("here", f"127.0.0.1:{service.client.port}")
    async with service.client.post(f"{service.mount}/subscription/cancel", data=raw, headers=sent) as answer:
        return answer.status


OURS: list[tuple[dict[str, str], bytes]] = [
    ({"Origin": "http://here", "Content-Type": "application/json"}, CANCEL),
    ({"Origin": "http://here", "Content-Type": "Application/JSON; charset=utf-8"}, CANCEL),
    ({"Sec-Fetch-Site": "same-origin", "Content-Type": "application/json"}, CANCEL),
    ({"Origin": "http://here"}, b""),
]
THEIRS: list[tuple[dict[str, str], bytes, int]] = [
    ({"Origin": "http://here", "Content-Type": "text/plain"}, CANCEL, 400),
    ({"Origin": "http://here", "Content-Type": "application/x-www-form-urlencoded"}, CANCEL, 400),
    ({"Origin": "http://here", "Content-Type": "multipart/form-data; boundary=x"}, CANCEL, 400),
    ({"Origin": "http://here", "Content-Type": "application/jsonx"}, CANCEL, 400),
    ({"Origin": "http://here", "Content-Type": ""}, CANCEL, 400),
    ({"Origin": "http://evil.example", "Content-Type": "application/json"}, CANCEL, 403),
    ({"Origin": "null", "Content-Type": "application/json"}, CANCEL, 403),
    ({"Sec-Fetch-Site": "cross-site", "Content-Type": "application/json"}, CANCEL, 403),
    ({"Content-Type": "application/json"}, CANCEL, 403),
    ({}, b"", 403),
]


async def test_a02_what_a_page_of_another_site_can_send_changes_nothing(start: Start) -> None:
    """Forms can be sent by anybody's page, and are never JSON; pages of ours say where they are from."""
    async with start(cookie="session") as service:
        before = await service.subscribed("pro")
        for headers, raw, status in THEIRS:
            assert await _post(service, raw, headers) == status, headers
        account = await service.services.store.database.read(find_account, before.account_id)
        assert account is not None
        assert account.subscription == before


@pytest.mark.parametrize("number", range(len(OURS)))
async def test_a02_a_page_of_ours_can(start: Start, number: int) -> None:
    """With JSON, or with nothing at all."""
    headers, raw = OURS[number]
    async with start(cookie="session") as service:
        await service.subscribed("pro")
        assert await _post(service, raw, headers) == 200


async def test_a02_other_credentials_may_say_any_type(service: Service) -> None:
    """No browser adds them by itself."""
    await service.subscribed("pro")
    headers = {"Content-Type": "text/plain"}
    await service.ask("POST", "/subscription/cancel", status=200, raw=CANCEL, headers=headers)


async def test_a02_answers_are_data_and_nothing_else(service: Service) -> None:
    """Answers and refusals alike: not framed, not run, not guessed at, not kept."""
    for path, headers in (("/subscription/plans", {}), ("/credits/balance", {}), ("/openapi.json", {})):
        async with service.client.get(service.mount + path, headers=headers) as answer:
            assert dict(PROTECTING).items() <= answer.headers.items(), path

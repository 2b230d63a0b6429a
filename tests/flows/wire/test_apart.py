"""What is apart stays apart: a Farebox that leads back to itself, and the admin API beside the public listener."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from config.quantities import Address
from proxy.app import listen
from tests.flows.raw import RawClient, request
from tests.flows.wire.wire import SETTINGS, Wire, running_wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

OPERATOR = "an-operator-token-of-some-length"
LEADING_BACK = """
  - {id: circle, match: "* /circle", upstream: self, access: open}
  - {id: paid-circle, match: POST /paid-circle, upstream: self, app: shop, model: {const: cheap}}
  - {id: shadow, match: "* /admin/**", upstream: raw, access: open}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lasting_wire(migrated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Wire]:
    """With an upstream that is itself, and an admin API."""
    text = SETTINGS.replace("upstreams:", 'upstreams:\n  self: {url: "${SELF_URL}"}') + LEADING_BACK
    text += f"admin: {{token: {OPERATOR}}}\n"
    listener = listen(Address("127.0.0.1", 0))
    async with running_wire(migrated_file, tmp_path_factory.mktemp("wire"), text, listener) as running:
        yield running
        await running.verify()


@pytest.mark.parametrize("line", ["GET /circle", "POST /circle", "POST /paid-circle"])
async def test_h09_a_loop_ends_where_it_begins(wire: Wire, line: str) -> None:
    """508 at the second time round, which passes to the client; nothing is charged, and nothing turns for ever."""
    answer = await wire.ask(line, user="ann")
    assert (answer.status, json.loads(answer.body)["code"]) == (508, "loop_detected")
    assert len(answer.values(b"x-request-id")) == 1
    await wire.settled_at(0)


async def test_h09_a_request_is_marked_by_those_it_has_passed(wire: Wire) -> None:
    """`Via` grows by one, behind those that were there (RFC 9110 §7.6.3); answers carry none of ours."""
    answer = await wire.ask("GET /open/x HTTP/1.0", "Via: 1.1 other", "Via: 1.0 another (proxy)")
    first, second, ours = wire.backend.requests[0].values(b"via")
    assert (first, second) == (b"1.1 other", b"1.0 another (proxy)")
    assert ours.startswith(b"1.0 farebox-")
    assert not answer.values(b"via")
    again = await wire.ask("GET /open/x", f"Via: 1.1 other, {ours.decode()}")
    assert (again.status, len(wire.backend.requests)) == (508, 1)


PATHS = ["/admin", "/admin/accounts/list", "/livez", "/readyz", "/metrics", "/..;/admin", "/open/..;/admin"]
PATHS += ["/open/%2e%2e/admin", "//admin", "/%61dmin", "/ADMIN"]


@pytest.mark.parametrize("path", PATHS)
async def test_a01_the_public_listener_has_no_way_to_the_admin_api(wire: Wire, path: str) -> None:
    """Neither by a path, nor by a host, nor with the operator's token: such a path is a route's, or nobody's."""
    for host in ("app.example.com", str(wire.admin), "localhost"):
        answer = await wire.ask(f"GET {path}", f"Host: {host}", f"Authorization: Bearer {OPERATOR}")
        assert answer.status in (200, 400, 404)
        assert b"operations" not in answer.body
        # What a route serves below the same path comes from its backend.
        assert len(wire.backend.requests) == (answer.status == 200)
        wire.backend.requests.clear()


async def test_a01_each_listener_has_credentials_of_its_own(wire: Wire) -> None:
    """A user's token opens nothing of the operators', and theirs is no user's; the admin API serves no route."""
    assert (await wire.ask("GET /mine/x", f"Authorization: Bearer {OPERATOR}")).status == 401
    for line, credential, status in (
        ("GET /admin", f"Authorization: Bearer {OPERATOR}", 200),
        ("GET /admin", wire.bearer(), 401),
        ("GET /admin", "X-User-Id: root", 401),
        ("GET /open/x", f"Authorization: Bearer {OPERATOR}", 404),
        ("GET /open/x", wire.bearer(), 401),
        ("POST /flat", wire.bearer(), 401),
    ):
        client = await RawClient.connect(wire.admin.host, wire.admin.port)
        await client.send(request(line, "Host: localhost", credential))
        assert (await client.answer()).status == status, line
        await client.close()
    assert not wire.backend.requests
    assert await wire.spent() == 0

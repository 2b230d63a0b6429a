"""Policies that change while requests come: each is decided by one of them, and a bad one by none."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from proxy.operations.operation import Desk
from proxy.operations.table import OPERATIONS
from proxy.watching import NODE, reload
from store import policy_history
from tests.flows.wire.wire import SETTINGS, Wire, running_wire

pytestmark = pytest.mark.asyncio(loop_scope="module")


def closing(name: str) -> str:
    """A policy whose every refusal has this name in it, twice."""
    rules = f"rules: [{{id: open, allow: use}}, {{id: {name}, deny: use, route: flat, because: Closed by {name}}}]"
    return f"version: 1\n{rules}\n"


OPEN = "version: 1\nrules: [{id: open, allow: use}]\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lasting_wire(migrated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Wire]:
    folder = tmp_path_factory.mktemp("wire")
    (folder / "policies").mkdir()
    (folder / "policies" / "main.yaml").write_text(OPEN)
    async with running_wire(migrated_file, folder, SETTINGS + "policies: policies/\n") as running:
        yield running
        await running.verify()


def save(wire: Wire, text: str) -> None:
    """As an editor does: a new file takes the place of the old one."""
    folder = wire.services.settings.policies_folder
    assert folder is not None
    (folder / "main.yaml.new").write_text(text)
    (folder / "main.yaml.new").rename(folder / "main.yaml")


async def do(wire: Wire, verb: str, **given: object) -> object:
    operation = next(found for found in OPERATIONS if f"{found.noun} {found.verb}" == verb)
    services = wire.services

    async def rulebook() -> object:
        return services.rulebooks.current

    folder = services.settings.policies_folder
    desk = Desk(services.store, services.settings.values, rulebook, "tester", policies=folder)  # type: ignore[arg-type]
    return await operation.perform(desk, operation.read(given))


async def test_every_request_is_decided_by_one_policy(wire: Wire) -> None:
    """While two policies take turns, no refusal has the rule of one and the sentence of the other."""
    stop = asyncio.Event()
    seen: set[tuple[str, str, str]] = set()

    async def asking(user: str) -> None:
        while not stop.is_set():
            answer = await wire.ask("GET /flat", user=user)
            body = json.loads(answer.body)
            seen.add((str(answer.status), body["rule"], body["reason"]))

    save(wire, closing("first"))
    assert await reload(wire.services) == ()
    askers = [asyncio.create_task(asking(user)) for user in ("ann", "ben", "cid", "dan")]
    for number in range(20):
        save(wire, closing("second" if number % 2 == 0 else "first"))
        assert await reload(wire.services) == ()
        await asyncio.sleep(0.01)
    stop.set()
    await asyncio.gather(*askers)
    assert seen == {("403", "first", "Closed by first"), ("403", "second", "Closed by second")}


async def test_a_save_is_noticed_and_a_bad_one_changes_nothing(wire: Wire) -> None:
    """Without anybody asking for it: the watcher sees the new file, and the process reports what it has."""
    before = wire.services.rulebooks.current
    save(wire, OPEN + "# noticed\nmode: enforce\n")
    await wire.until(lambda: wire.services.rulebooks.current is not before)
    assert (await wire.ask("GET /flat", user="ann")).status == 200
    save(wire, "version: 1\nrules: [{id: open, alow: use}]\n")
    await wire.until(lambda: wire.services.rulebooks.status.using_last_good)
    assert (await wire.ask("GET /flat", user="ann")).status == 200

    async def reported() -> bool:
        rows = await wire.services.store.database.read(policy_history.nodes)
        return any(row["node"] == NODE and row["using_last_good"] and "unknown-key" in row["error"] for row in rows)

    await wire.until(reported)


async def test_going_back_to_an_earlier_policy(wire: Wire) -> None:
    """By its revision, in a running process, until the files are saved again."""
    save(wire, OPEN)
    await reload(wire.services)
    good = wire.services.rulebooks.current.revision
    save(wire, closing("mistake"))
    await reload(wire.services)
    assert (await wire.ask("GET /flat", user="ann")).status == 403
    answer = await do(wire, "policy rollback", revision=good)
    assert isinstance(answer, dict)
    assert answer["revision"] == good
    await wire.until(lambda: wire.services.rulebooks.current.revision == good)
    assert (await wire.ask("GET /flat", user="ann")).status == 200
    listed = await do(wire, "policy history", limit=2)
    assert isinstance(listed, dict)
    assert [row["origin"] for row in listed["policies"]] == [f"rollback to {good} by tester", "files"]
    save(wire, closing("again"))
    await wire.until(lambda: "again" in wire.services.rulebooks.current.rules.by_id)

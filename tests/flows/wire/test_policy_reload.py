"""Policies that change while requests come: each is decided by one of them, and a bad one by none."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from config.roles import Role
from proxy import policy_reading
from proxy.operations.operation import Desk
from proxy.operations.table import OPERATIONS
from proxy.watching import NODE, reload
from store import decisions, policy_history
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


async def do(wire: Wire, verb: str, **given: object) -> dict[str, Any]:
    operation = next(found for found in OPERATIONS if f"{found.noun} {found.verb}" == verb)
    services = wire.services

    async def rulebook() -> object:
        return services.rulebooks.current

    folder = services.settings.policies_folder
    values, compiling = services.settings.values, services.reloading
    desk = Desk(services.store, values, rulebook, "tester", Role.OWNER, policies=folder, compiling=compiling)  # type: ignore[arg-type]
    answer = await operation.perform(desk, operation.read(given))
    assert isinstance(answer, dict), answer
    return answer


async def entry(wire: Wire, operation: str, **wanted: object) -> dict[str, Any]:
    """The entry of the audit log about an operation, of those that are so, as soon as it is there."""
    found: list[dict[str, Any]] = []

    async def there() -> bool:
        listed = (await do(wire, "audit list", operation=operation, limit=5))["entries"]
        found[:] = [row for row in listed if all(row[name] == value for name, value in wanted.items())]
        return bool(found)

    await wire.until(there)
    return found[0]


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

    async def recorded() -> set[tuple[str, str]]:
        rows = await wire.services.store.database.read(lambda connection: decisions.page(connection, limit=500))
        return {(row["revision"], row["rule"]) for row in rows}

    async def both() -> bool:
        return len(await recorded()) > 1

    await wire.until(both)
    pairs = await recorded()
    assert len(pairs) == len(dict(pairs)) == 2, "a revision is recorded with its own rule alone"


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
    told = await entry(wire, "policy reload", outcome="refused")
    assert (told["actor"], told["from"]) == ("farebox", NODE)
    assert "unknown-key" in told["error"]
    assert told["revision_before"] == told["revision_after"] == wire.services.rulebooks.current.revision


async def test_going_back_to_an_earlier_policy(wire: Wire) -> None:
    """By its revision, in a running process, until the files are saved again."""
    save(wire, OPEN)
    await reload(wire.services)
    good = wire.services.rulebooks.current.revision
    save(wire, closing("mistake"))
    await reload(wire.services)
    assert (await wire.ask("GET /flat", user="ann")).status == 403
    mistake = wire.services.rulebooks.current.revision
    answer = await do(wire, "policy rollback", revision=good)
    assert (answer["revision"], answer["instead_of"]) == (good, mistake)
    told = await entry(wire, "policy rollback", outcome="done")
    assert (told["actor"], told["arguments"]) == ("tester", {"revision": good})
    assert (told["revision_before"], told["revision_after"]) == (mistake, good)
    await wire.until(lambda: wire.services.rulebooks.current.revision == good)
    assert (await wire.ask("GET /flat", user="ann")).status == 200
    listed = await do(wire, "policy history", limit=2)
    assert [row["origin"] for row in listed["policies"]] == [f"rollback to {good} by tester", "files"]
    save(wire, closing("again"))
    await wire.until(lambda: "again" in wire.services.rulebooks.current.rules.by_id)
    told = await entry(wire, "policy reload", revision_after=wire.services.rulebooks.current.revision)
    assert (told["revision_before"], told["outcome"], told["error"]) == (good, "done", None)


async def test_an_earlier_policy_is_compiled_beside_the_requests(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a thread of its own, so that a policy of ten thousand rules holds up nobody; and not while another one is."""
    threads: list[int] = []
    compiled = policy_reading.compiled

    def watched(*arguments: Any) -> Any:
        threads.append(threading.get_ident())
        return compiled(*arguments)

    monkeypatch.setattr(policy_reading, "compiled", watched)
    revision = wire.services.rulebooks.current.revision
    async with wire.services.reloading:
        rolling = asyncio.create_task(do(wire, "policy rollback", revision=revision))
        assert (await wire.ask("GET /flat", user="ann")).status in (200, 403)
        assert not rolling.done()
        assert threads == []
    await rolling
    assert threads
    assert threading.get_ident() not in threads

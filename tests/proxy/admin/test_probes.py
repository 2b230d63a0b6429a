"""Probes, metrics, and the policy as operators see it."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.proxy.admin.conftest import POLICY, Admin

BROKEN = POLICY + "  - {id: gold, deny: use, who: {tier: gold}}\n"
LABELS = ("route", "outcome", "status", "le", "revision")
"""In the order in which the tests write them."""
CHANGED = POLICY + "  - {id: no-beta, deny: use, model: {beta: true}}\n"


async def _page(admin: Admin, path: str, status: int = 200) -> dict[str, object]:
    """A page that needs no token."""
    async with admin.client.get(path) as answer:
        assert answer.status == status
        page: dict[str, object] = await answer.json()
        return page


async def _metrics(admin: Admin) -> dict[tuple[str, ...], float]:
    async with admin.client.get("/metrics") as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/plain")
        text = await answer.text()
    return {
        (sample.name, *(sample.labels[label] for label in LABELS if label in sample.labels)): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_alive_needs_nothing(admin: Admin) -> None:
    """Also without a store: restarting the process would not bring it back."""
    await admin.services.store.database.close()
    assert await _page(admin, "/livez") == {"alive": True}


async def test_ready_says_what_it_stands_on(admin: Admin) -> None:
    """The store answers, and a policy is in force since a moment."""
    page = await _page(admin, "/readyz")
    assert page["ready"] is True
    assert page["policy"] == {
        "ok": True,
        "revision": admin.services.rulebooks.current.revision,
        "loaded_at": "2026-01-15T10:30:00.000Z",
        "using_last_good": False,
        "rolled_back": False,
        "findings": [],
    }


async def test_not_ready_without_a_store(admin: Admin) -> None:
    """503 with the reason, so that no request is sent here."""
    await admin.services.store.database.close()
    (admin.services.settings.folder / "farebox.db").write_bytes(b"no database any more")
    page = await _page(admin, "/readyz", 503)
    assert page["ready"] is False
    assert isinstance(store := page["store"], dict)
    assert "not a database" in store["reason"]


async def test_a_bad_policy_changes_nothing_and_is_shown(admin: Admin) -> None:
    """The reload is refused with the findings; the last good policy stays, and the process stays ready."""
    before = admin.services.rulebooks.current
    admin.policy.write_text(BROKEN)
    refused = await admin.ask("POST", "/admin/policy/reload", 400)
    assert (refused["code"], refused["revision"], refused["using_last_good"]) == (
        "invalid_request",
        before.revision,
        True,
    )
    (finding,) = refused["findings"]
    assert (finding["code"], finding["line"]) == ("unknown-tier", 4)
    assert admin.services.rulebooks.current is before
    page = await _page(admin, "/readyz")
    assert page["ready"] is True
    assert isinstance(policy := page["policy"], dict)
    assert (policy["ok"], policy["findings"]) == (False, [finding])
    assert await admin.ask("GET", "/admin/policy") == policy


async def test_a_good_policy_is_in_force_when_the_reload_answers(admin: Admin) -> None:
    """Synchronously: the next decision is made by it."""
    before = (await admin.ask("GET", "/admin/policy"))["revision"]
    await admin.ask("POST", "/admin/accounts/create", json={"user": "ana"})
    admin.policy.write_text(CHANGED)
    after = await admin.ask("POST", "/admin/policy/reload")
    assert after["revision"] != before
    told = await admin.ask("GET", "/admin/policy/explain?user=ana&model=avatar-generator:controlnet-openpose-sd15")
    assert (told["policy_revision"], told["rule"]) == (after["revision"], "no-beta")


async def test_who_asked_for_a_reload_is_in_the_audit_log(admin: Admin) -> None:
    """By address, whether it changed the policy, found nothing new, or was refused."""
    first = admin.services.rulebooks.current.revision
    await admin.ask("POST", "/admin/policy/reload")
    admin.policy.write_text(CHANGED)
    second = (await admin.ask("POST", "/admin/policy/reload"))["revision"]
    admin.policy.write_text(BROKEN)
    await admin.ask("POST", "/admin/policy/reload", 400)
    listed = (await admin.ask("GET", "/admin/audit/list?operation=policy"))["entries"]
    assert [(row["actor"], row["from"]) for row in listed] == [("admin", "127.0.0.1")] * 3
    told = [(row["outcome"], row["revision_before"], row["revision_after"]) for row in reversed(listed)]
    assert told == [("done", first, first), ("done", first, second), ("refused", second, second)]
    assert "unknown-tier" in listed[0]["error"]


async def test_metrics_count_requests_by_route_and_outcome(admin: Admin) -> None:
    """The label of the route is `none` where none matched; statuses are told by their class."""
    admin.metrics.request("chat", "forwarded", 200)
    admin.metrics.request("chat", "forwarded", 204)
    admin.metrics.request("chat", "model_denied", 403)
    admin.metrics.request(None, "no_route", 404)
    found = await _metrics(admin)
    assert found["farebox_requests_total", "chat", "forwarded", "2xx"] == 2
    assert found["farebox_requests_total", "chat", "model_denied", "4xx"] == 1
    assert found["farebox_requests_total", "none", "no_route", "4xx"] == 1


async def test_metrics_measure_the_upstream_the_ledger_and_open_streams(admin: Admin) -> None:
    """Seconds as histograms; streams up and down."""
    admin.metrics.upstream_answered("chat", 0.2)
    admin.metrics.reserved(0.002)
    admin.metrics.stream_opened()
    admin.metrics.stream_opened()
    admin.metrics.stream_closed()
    found = await _metrics(admin)
    assert found["farebox_upstream_seconds_sum", "chat"] == pytest.approx(0.2)
    assert found["farebox_upstream_seconds_bucket", "chat", "0.1"] == 0
    assert found["farebox_upstream_seconds_bucket", "chat", "0.25"] == 1
    assert found["farebox_reserve_seconds_count",] == 1
    assert found["farebox_open_streams",] == 1


async def test_metrics_show_the_policy_of_this_moment(admin: Admin) -> None:
    """One revision at a time, since when, and whether what is on disk is good."""
    first = admin.services.rulebooks.current.revision
    admin.policy.write_text(CHANGED)
    await admin.ask("POST", "/admin/policy/reload")
    found = await _metrics(admin)
    assert [key for key in found if key[0] == "farebox_policy_info"] == [
        ("farebox_policy_info", admin.services.rulebooks.current.revision)
    ]
    assert ("farebox_policy_info", first) not in found
    assert found["farebox_policy_last_reload_successful",] == 1
    assert found["farebox_policy_loaded_timestamp_seconds",] == admin.services.now().timestamp()
    admin.policy.write_text(BROKEN)
    await admin.ask("POST", "/admin/policy/reload", 400)
    assert (await _metrics(admin))["farebox_policy_last_reload_successful",] == 0


async def test_two_processes_in_one_test_count_for_themselves(admin: Admin) -> None:
    """Nothing is registered globally."""
    from prometheus_client import REGISTRY, CollectorRegistry

    from proxy.metrics import Metrics

    Metrics(CollectorRegistry()).request("chat", "forwarded", 200)
    assert ("farebox_requests_total", "chat", "forwarded", "2xx") not in await _metrics(admin)
    assert not [family.name for family in REGISTRY.collect() if family.name.startswith("farebox")]

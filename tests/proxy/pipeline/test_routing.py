"""Which route a request has: the most specific one, with no side door beside it."""

from __future__ import annotations

from typing import Any, cast

import pytest

from config.routes import Route
from policies.refusals import Reason, Refusal
from proxy.paths import Target, parse_target
from proxy.pipeline.routing import Routes
from proxy.upstream.client import Upstream

NOBODY = cast(Upstream, None)
"""Looking a route up connects to nobody."""


def route(match: str | list[str], access: str = "open", **more: Any) -> Route:
    first = match if isinstance(match, str) else match[0]
    name = "".join(character if character.isalnum() else "-" for character in first.lower()).strip("-")
    metered = {"app": "shop", "model": {"const": "m"}} if access == "metered" else {}
    return Route.model_validate({"id": name, "match": match, "upstream": "u", "access": access, **metered, **more})


def find(routes: list[Route], method: str, path: str) -> str:
    """The id of the route, or the code of the refusal."""
    target = parse_target(path)
    assert isinstance(target, Target)
    found = Routes(routes, {"u": NOBODY}).find(method, target)
    return str(found.reason) if isinstance(found, Refusal) else found.value.id


CHAT = route("POST /v1/chat", "metered")
JOB = route("GET /jobs/{id}", "account")
SITE = route("* /**", id="site")


def test_what_matches_no_route_is_refused() -> None:
    """P07: there is no default and no prefix."""
    for method, path in (("POST", "/v1"), ("POST", "/v1/chat/x"), ("PUT", "/v1/chat"), ("GET", "/"), ("GET", "/jobs/")):
        assert find([CHAT, JOB], method, path) == Reason.NO_ROUTE


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/",
        "/V1/chat",
        "/v1/CHAT",
        "/v1/chat;jsessionid=1",
        "/v1;x/chat",
        "/v1/%2563hat",
        "/v1/chat.",
        "/v1/chat%20",
        "/v1/c%48at",
        "/%E2%84%AAv/chat",
        "/v1/chat.json",
        "/V1/Chat.XML",
        "/v1/chat.json;x",
    ],
)
def test_another_spelling_is_no_side_door(path: str) -> None:
    """P02, P03: a path that some backends take for a metered one does not pass as free, and without a free route it
    is not found.
    """
    routes = [CHAT, route("POST /kv/chat", "metered")]
    assert find([*routes, SITE], "POST", path) == Reason.INVALID_REQUEST
    assert find(routes, "POST", path) == Reason.NO_ROUTE


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/v1/chats", SITE.id),
        ("/v1/other.json", SITE.id),
        ("/v1/.json", SITE.id),
        ("/v1.json/chat", SITE.id),
        ("/v1/chat/x", SITE.id),
        ("/Docs/Index.html", SITE.id),
        ("/docs/", SITE.id),
        ("/a;b=c/d", SITE.id),
        ("/v1/%63hat", CHAT.id),
        ("/v1/chat", CHAT.id),
    ],
)
def test_other_paths_pass_in_any_spelling(path: str, found: str) -> None:
    """Only a spelling of a guarded route is guarded; an exact encoding of it is the route itself."""
    assert find([CHAT, JOB, SITE], "POST", path) == found


def test_another_method_of_a_guarded_path_is_free_to_pass() -> None:
    """What the settings leave open stays open: a guarded POST does not close GET."""
    assert find([CHAT, SITE], "GET", "/V1/Chat/") == SITE.id
    assert find([CHAT, SITE], "GET", "/v1/chat") == SITE.id


def test_a_parameter_may_be_spelled_in_any_way() -> None:
    """An id belongs to its route, whatever it looks like to a lenient reader."""
    for job in ("ABC", "a;b", "a.", "%2541"):
        assert find([JOB, SITE], "GET", f"/jobs/{job}") == JOB.id


def test_a_guarded_route_is_not_swapped_for_another() -> None:
    """Also between two metered routes: the cheap one is no way to the dear one."""
    cheap, dear = route("POST /v1/{any}", "metered"), route("POST /v1/dear", "metered")
    assert find([cheap, dear], "POST", "/v1/dear") == dear.id
    assert find([cheap, dear], "POST", "/v1/cheap") == cheap.id
    assert find([cheap, dear], "POST", "/v1/Dear") == Reason.INVALID_REQUEST


def test_open_routes_do_not_guard_each_other() -> None:
    """Where nothing is to be gained, nothing is refused."""
    assert find([route("GET /health"), SITE], "GET", "/Health/") == SITE.id


def test_two_spellings_may_both_be_routes() -> None:
    """Whoever declares `/Chat` and `/chat` has told them apart."""
    upper, lower = route("POST /Chat", "metered", id="upper"), route("POST /chat", "metered", id="lower")
    assert find([upper, lower, SITE], "POST", "/Chat") == "upper"
    assert find([upper, lower, SITE], "POST", "/chat") == "lower"
    assert find([upper, lower, SITE], "POST", "/CHAT") == Reason.INVALID_REQUEST


def test_a_file_that_is_a_route_of_its_own_is_told_apart() -> None:
    """Also from a route for any file beside it."""
    script, files = route("POST /v1/chat.js"), route("POST /v1/{name}", "metered")
    assert find([CHAT, script, SITE], "POST", "/v1/chat.js") == script.id
    assert find([files, script, SITE], "POST", "/v1/chat.js") == script.id
    assert find([CHAT, script, SITE], "POST", "/v1/chat.json") == Reason.INVALID_REQUEST


def test_head_has_the_route_of_get() -> None:
    """P06: HEAD is no way around a price, in any spelling."""
    priced = route("GET /report", "metered")
    assert find([priced, SITE], "HEAD", "/report") == priced.id
    assert find([priced, SITE], "HEAD", "/Report") == Reason.INVALID_REQUEST


@pytest.mark.parametrize(
    ("more", "reads_body", "reads_answer"),
    [
        ({}, False, False),
        ({"model": {"json": "/m"}}, True, False),
        ({"model": {"form": "m"}}, True, False),
        ({"model": {"query": "m"}}, False, False),
        ({"units": {"n": {"json": "/n", "max": 1}}}, True, False),
        ({"units": {"n": {"product": [{"const": 1, "max": 1}, {"json": "/n", "max": 1}]}}}, True, False),
        ({"usage": {"n": {"json": "/n"}}}, False, True),
        ({"job": {"id": {"json": "/id"}, "deadline": "1h"}}, False, True),
    ],
)
def test_what_a_route_has_to_read(more: dict[str, Any], reads_body: bool, reads_answer: bool) -> None:
    """A body is read ahead, and an answer's coding is restricted, only where the settings read something in it."""
    found = Routes([route("POST /x", "metered", **more)], {"u": NOBODY}).find("POST", Target("/x", ("x",), ""))
    assert not isinstance(found, Refusal)
    assert (found.value.reads_body, found.value.reads_answer) == (reads_body, reads_answer)

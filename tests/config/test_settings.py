"""farebox.yaml: what may be said in it, what is refused, and that its secrets stay secret."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.quantities import Address
from config.retention import Retention
from config.settings import FareboxSettings
from tests.config.samples import BASE, SECRET, load, refused, told

Change = dict[str, Any]

OPERATOR = "a token that an operator has"


def _with(path: str, value: object) -> str:
    """The valid file with the value at a dotted path changed."""
    document = yaml.safe_load(BASE)
    *parents, last = path.split(".")
    place: Any = document
    for name in parents:
        place = place[int(name)] if isinstance(place, list) else place.setdefault(name, {})
    place[int(last) if isinstance(place, list) else last] = value
    return yaml.safe_dump(document, sort_keys=False)


def _route(**fields: object) -> str:
    """The valid file with its route changed; None takes a key away."""
    document = yaml.safe_load(BASE)
    document["routes"][0] |= fields
    document["routes"][0] = {key: value for key, value in document["routes"][0].items() if value is not None}
    return yaml.safe_dump(document, sort_keys=False)


def test_the_smallest_file(tmp_path: Path) -> None:
    """Only `identity`, `upstreams` and `routes` have no default."""
    values = load(tmp_path, BASE).values
    assert (values.listen, values.admin.listen) == (Address("127.0.0.1", 8080), Address("127.0.0.1", 8081))
    assert (values.unmatched, values.policies, values.admin.token) == ("refuse", None, None)
    assert values.accounts.welcome_credits == Decimal(100)
    assert values.identity.unknown_users == "create"
    assert values.subscriptions.grace == timedelta(days=7)
    assert values.upstreams["lumiku"].keepalive < timedelta(seconds=2)
    for key in ("identity", "upstreams", "routes"):
        text = yaml.safe_dump({name: value for name, value in yaml.safe_load(BASE).items() if name != key})
        assert told(refused(tmp_path, text)) == [f"1:1: missing-key: the key '{key}' is missing"]


GOOD: list[tuple[str, object]] = [
    ("listen", "0.0.0.0:80"),
    ("admin", {"listen": "[::1]:9000", "token": OPERATOR}),
    ("database", "postgresql+asyncpg://farebox:pw@db:5432/farebox"),
    ("identity.jwt.0.leeway", "5s"),
    ("identity.unknown_users", "refuse"),
    ("accounts.welcome_credits", 0),
    ("accounts.welcome_credits", 12.5),
    ("upstreams.lumiku.url", "https://backend.internal:8443/base/path"),
    ("upstreams.lumiku.url", "http://[::1]:3000"),
    ("upstreams.lumiku.headers", {"X-Api-Key": "hunter2"}),
    ("credits.spend_order", ["source"]),
    ("credits.spend_order", ["source", "priority", "expiry"]),
    ("management.mount", ""),
    ("management.mount", "/farebox/api"),
    ("limits.peek", "64KiB"),
    ("log", {"level": "debug", "format": "json"}),
    ("retention", {"usage": "forever"}),
    ("retention", {"archive": "archive/"}),
    ("retention", {"usage": "2 months", "archive": False}),
    ("retention", {"usage": "120 months", "archive": "/var/lib/farebox/archive"}),
]


@pytest.mark.parametrize(("path", "value"), GOOD)
def test_good_values(tmp_path: Path, path: str, value: object) -> None:
    """Every field takes what its documentation promises."""
    load(tmp_path, _with(path, value))


BAD: list[tuple[str, object]] = [
    ("listen", 8080),
    ("listen", "8080"),
    ("listen", None),
    ("admin", None),
    ("admin.listen", "localhost"),
    ("admin.token", ""),
    ("admin.token", "two\nlines"),
    ("admin.token", 12345678),
    ("admin.token", None),
    ("database", "farebox.db"),
    ("database", "sqlite:///farebox.db"),
    ("database", "mysql://db/farebox"),
    ("database", "postgresql+asyncpg://"),
    ("policies", None),
    ("policies", ["a", "b"]),
    ("identity", {"api_keys": False}),
    ("identity.api_keys", "yes"),
    ("identity.unknown_users", "ignore"),
    ("identity.jwt", {"name": "app"}),
    ("identity.jwt.0.name", "Not An Identifier"),
    ("identity.jwt.0.algorithms", []),
    ("identity.jwt.0.algorithms", ["none"]),
    ("identity.jwt.0.algorithms", "HS256"),
    ("identity.jwt.0.secret", "x" * 31),
    ("identity.jwt.0.secret", ""),
    ("identity.jwt.0.secret", None),
    ("identity.jwt.0.user", ""),
    ("identity.jwt.0.user", ["a"]),
    ("identity.jwt.0.audience", None),
    ("identity.jwt.0.issuer", None),
    ("identity.jwt.0.leeway", 30),
    ("accounts.welcome_credits", -1),
    ("accounts.welcome_credits", "100"),
    ("accounts.welcome_credits", True),
    ("accounts.welcome_credits", 0.0000001),
    ("accounts.welcome_credits", 10**9 + 1),
    ("subscriptions.payment", "later"),
    ("subscriptions.grace", "a week"),
    ("upstreams", {}),
    ("upstreams", []),
    ("upstreams.lumiku", "http://127.0.0.1:3000"),
    ("upstreams.lumiku.url", "127.0.0.1:3000"),
    ("upstreams.lumiku.url", "ftp://host"),
    ("upstreams.lumiku.url", "http://"),
    ("upstreams.lumiku.url", "http://:3000"),
    ("upstreams.lumiku.url", "http://host:99999"),
    ("upstreams.lumiku.url", "http://host:0"),
    ("upstreams.lumiku.url", "http://host:x"),
    ("upstreams.lumiku.url", "http://[::1"),
    ("upstreams.lumiku.url", "http://host/a?b"),
    ("upstreams.lumiku.url", "http://host/a#b"),
    ("upstreams.lumiku.url", "http://ho st/"),
    ("upstreams.lumiku.url", "http://host\n"),
    ("upstreams.lumiku.url", "http://user@host"),
    ("upstreams.lumiku.url", "http://ho\u2100st"),
    ("upstreams.lumiku.connect_timeout", 5),
    ("upstreams.lumiku.connect_timeout", "0s"),
    ("upstreams.lumiku.response_timeout", "99999999999999999999s"),
    ("upstreams.lumiku.idle_timeout", None),
    ("upstreams.lumiku.keepalive", False),
    ("upstreams.lumiku.host", "keep"),
    ("upstreams.lumiku.headers", {"X Y": "a"}),
    ("upstreams.lumiku.headers", {"X-Y": "a\r\nX-Z: b"}),
    ("upstreams.lumiku.headers", {"X-Y": 5}),
    ("routes", []),
    ("routes", {}),
    ("unmatched", "forward"),
    ("management.mount", "api"),
    ("management.mount", "/api/"),
    ("management.off", "GET /x"),
    ("management.envelope", 1),
    ("limits.peek", 1024),
    ("limits.measured", "1TB"),
    ("limits.header", "0B"),
    ("limits.body_timeout", "fast"),
    ("limits.request_deadline", None),
    ("credits.spend_order", []),
    ("credits.spend_order", "expiry"),
    ("credits.spend_order", ["age"]),
    ("credits.spend_order", ["source", "source"]),
    ("log.level", "verbose"),
    ("log.format", "xml"),
    ("retention.usage", "13 months"),
    ("retention", {"usage": "1 months", "archive": "a"}),
    ("retention", {"usage": "121 months", "archive": "a"}),
    ("retention", {"usage": "400d", "archive": "a"}),
    ("retention", {"usage": 13, "archive": "a"}),
    ("retention", {"usage": "never", "archive": "a"}),
    ("retention", {"usage": "13 months", "archive": True}),
    ("retention", {"usage": "13 months", "archive": " "}),
    ("retention", {"usage": "13 months", "archive": None}),
]


@pytest.mark.parametrize(("path", "value"), BAD)
def test_bad_values(tmp_path: Path, path: str, value: object) -> None:
    """One finding, on the line of the key that is wrong."""
    text = _with(path, value)
    error = refused(tmp_path, text)
    assert len({(found.line, found.code) for found in error.findings}) == 1
    key = next(part for part in reversed(path.split(".")) if not part.isdigit())
    near = text.splitlines()[error.findings[0].line - 2 : error.findings[0].line]
    assert any(key in line or str(value)[:5] in line for line in near) or isinstance(value, dict | list)


BAD_ROUTES: list[tuple[Change, str]] = [
    ({"id": "Generate"}, "string should match pattern"),
    ({"match": "/generate"}, "unknown method '/generate'"),
    ({"match": "GET"}, "a path that starts with /"),
    ({"match": "GET generate"}, "a path that starts with /"),
    ({"match": "get /generate"}, "unknown method 'get'"),
    ({"match": "CONNECT /generate"}, "unknown method 'CONNECT'"),
    ({"match": []}, "at least 1 item"),
    ({"match": "GET  /generate"}, "a path that starts with /"),
    ({"match": "GET /a//b"}, "cannot read the path segment ''"),
    ({"match": "GET /a/"}, "cannot read the path segment ''"),
    ({"match": "GET /a/**/b"}, "** may only be the last segment"),
    ({"match": "GET /a/*b"}, "cannot read the path segment '*b'"),
    ({"match": "GET /a/{b"}, "cannot read the path segment '{b'"),
    ({"match": "GET /a/{}"}, "cannot read the path segment '{}'"),
    ({"match": "GET /{a}/{a}"}, "a name stands twice"),
    ({"match": "GET /a?b=c"}, "cannot read the path segment"),
    ({"match": "GET /a b"}, "cannot read the path segment"),
    ({"match": "GET /a%20b"}, "cannot read the path segment"),
    ({"match": "GET /../b"}, "cannot read the path segment '..'"),
    ({"match": "GET /./b"}, "cannot read the path segment '.'"),
    ({"match": "GET /ä"}, "cannot read the path segment"),
    ({"match": 5}, "expected a method and a path"),
    ({"access": "free"}, "expected 'metered', 'account' or 'open'"),
    ({"app": None}, "needs `app` and `model`"),
    ({"model": None}, "needs `app` and `model`"),
    ({"access": "open"}, "is not metered"),
    ({"access": "account", "model": None, "units": {"seconds": {"json": "/s", "max": 5}}}, "is not metered"),
    ({"model": "veo3"}, "expected a mapping"),
    ({"model": {}}, "exactly one of json, path, query, header, form, multipart, graphql, const"),
    ({"model": {"json": "/a", "query": "b"}}, "exactly one of json, path"),
    ({"model": {"graphql": "model"}}, "expected `field`, `calls`, or a JSON pointer into the arguments"),
    ({"model": {"graphql": ""}}, "expected `field`, `calls`, or a JSON pointer into the arguments"),
    ({"model": {"graphql": "/a~2"}}, "expected a JSON pointer"),
    ({"model": {"graphql": "calls"}}, "the number of calls names no model"),
    ({"model": {"graphql": "field"}, "units": {"s": {"json": "/s", "max": 5}}}, "as graphql and as json"),
    ({"units": {"s": {"graphql": "/s", "max": 5}}}, "reads its body as graphql and as json"),
    ({"model": {"graphql": "field"}, "units": {"n": {"graphql": "calls"}}}, "a unit needs `max`"),
    ({"model": {"graphql": "field"}, "units": {"n": {"graphql": "calls", "present": True}}}, "counted as they are"),
    (
        {"model": {"graphql": "field"}, "units": {"n": {"graphql": "field", "length": True, "max": 5}}},
        "it needs `json`",
    ),
    ({"model": {"graphql": "field"}, "match": "* /graphql"}, "which is asked with GET or POST"),
    ({"model": {"graphql": "field"}, "match": "GET /x", "websocket": {}}, "whose messages are not read as GraphQL"),
    ({"units": {"seconds": {"multipart": "s", "max": 5}}}, "reads its body as json and as multipart"),
    ({"model": {"json": "modelId"}}, "expected a JSON pointer"),
    ({"model": {"json": "/a~2"}}, "expected a JSON pointer"),
    ({"model": {"json": []}}, "at least 1 item"),
    ({"model": {"json": ["/a"] * 11}}, "at most 10 items"),
    ({"model": {"header": "X Y"}}, "string should match pattern"),
    ({"model": {"const": True}}, "found the boolean true"),
    ({"model": {"const": ["a"]}}, "found a list"),
    ({"units": {"Seconds": {"json": "/s", "max": 5}}}, "found the key 'Seconds'"),
    ({"units": {"seconds": {"json": "/s"}}}, "a unit needs `max`"),
    ({"units": {"seconds": {"json": "/s", "max": -1}}}, "0 <= min <= max"),
    ({"units": {"seconds": {"json": "/s", "min": -1, "max": 5}}}, "0 <= min <= max"),
    ({"units": {"seconds": {"json": "/s", "min": 6, "max": 5}}}, "0 <= min <= max"),
    ({"units": {"seconds": {"json": "/s", "max": 5, "default": 6}}}, "the default between min and max"),
    ({"units": {"seconds": {"json": "/s", "max": "5"}}}, "expected a number"),
    ({"units": {"seconds": {"json": "/s", "max": True}}}, "expected a number"),
    ({"units": {"items": {"query": "s", "max": 5, "length": True}}}, "it needs `json`"),
    ({"units": {"pixels": {"product": [{"json": "/w", "max": 5}]}}}, "at least 2 items"),
    ({"units": {"pixels": {"product": []}}}, "at least 2 items"),
    ({"usage": {"tokens": {"json": "usage"}}}, "expected a JSON pointer"),
    ({"usage": {"tokens": "/usage"}}, "expected a mapping"),
    ({"job": {"id": {"json": "/id"}}}, "the key 'deadline' is missing"),
    ({"job": {"deadline": "5m"}}, "the key 'id' is missing"),
    ({"job": {"id": {"json": "/id"}, "deadline": "5m", "on_deadline": "charge"}}, "'release' or 'quote'"),
    ({"poll": {"of": "generate"}}, "the key 'id' is missing"),
    ({"errors": "html"}, "expected 'origin', 'openai' or 'problem'"),
    ({"on_abort": "nothing"}, "'delivered', 'quote', 'release' or 'drain'"),
    ({"on_crash": "delivered"}, "'release' or 'quote'"),
    ({"on_late": "quote"}, "'none' or 'charge'"),
    ({"overrun": "refuse"}, "'cap' or 'overdraft'"),
    ({"upstreem": "lumiku"}, "unknown key 'upstreem'; did you mean 'upstream'?"),
    ({"websocket": {}}, "matches no GET, which a WebSocket begins with"),
    ({"match": "GET /x", "websocket": {"charge": "frames"}}, "'connection', 'messages' or 'usage'"),
    ({"match": "GET /x", "websocket": {"charge": "usage"}}, "need each other"),
    ({"match": "GET /x", "websocket": {}, "usage": {"tokens": {"json": "/t"}}}, "need each other"),
    ({"match": "GET /x", "websocket": {"block": 5}}, "a `block` needs `charge: messages`"),
    ({"match": "GET /x", "websocket": {"charge": "messages", "block": 0}}, "block"),
    (
        {
            "match": "GET /x",
            "websocket": {"charge": "messages"},
            "units": {"messages": {"const": 1, "max": 1}},
        },
        "the unit `messages` is counted",
    ),
    (
        {"match": "GET /x", "access": "open", "app": None, "model": None, "websocket": {"charge": "messages"}},
        "nothing of a `websocket` is charged",
    ),
    ({"match": "GET /x", "websocket": {}, "job": {"id": {"json": "/id"}, "deadline": "5m"}}, "have no meaning with it"),
]


@pytest.mark.parametrize(("fields", "message"), BAD_ROUTES)
def test_bad_routes(tmp_path: Path, fields: Change, message: str) -> None:
    """What is wrong with a route is said in words."""
    assert message in str(refused(tmp_path, _route(**fields)))


GOOD_ROUTES: list[Change] = [
    {"match": "GET /"},
    {"match": "* /**"},
    {"match": ["POST /a/{b}/*/c.d", "PUT /a/{b}"]},
    {"match": "POST /v1/models/gpt-4.1:generate"},
    {"match": "GET /files/.well-known/..."},
    {"model": {"const": "ffmpeg-loop"}},
    {"model": {"json": ""}},
    {"model": {"json": ["/model", "/a~1b~0"]}},
    {"units": {"seconds": {"json": "/s", "min": 0.5, "max": 5, "default": 0.5}}},
    {"units": {"pixels": {"product": [{"json": "/w", "max": 4096}, {"const": 2, "max": 2}]}}},
    {"units": {"items": {"json": "/items", "max": 5, "length": True, "optional": True}}},
    {"access": "open", "model": None, "app": None},
    {"model": {"multipart": "model"}, "units": {"seconds": {"multipart": "s", "max": 5, "optional": True}}},
    {"model": {"graphql": "/input/model"}, "units": {"n": {"graphql": "/input/items", "length": True, "max": 5}}},
    {"model": {"const": "m"}, "match": ["GET /g", "POST /g"], "units": {"n": {"graphql": "calls", "max": 5}}},
    {"match": "* /x", "websocket": {}},
    {"match": "GET /x", "websocket": {"charge": "messages", "block": 10}},
    {"match": "GET /x", "websocket": {"charge": "usage", "counted": "both"}, "usage": {"tokens": {"json": "/t"}}},
    {"match": "GET /x", "access": "open", "model": None, "app": None, "websocket": {"max_message": "1KiB"}},
]


@pytest.mark.parametrize("fields", GOOD_ROUTES)
def test_good_routes(tmp_path: Path, fields: Change) -> None:
    """Paths with parameters, constants, several pointers, units of all kinds."""
    load(tmp_path, _route(**fields))


POLL = """\
  - id: status
    match: GET /jobs/{job}
    upstream: lumiku
    access: account
    poll: {of: generate, id: {path: job}, status: {json: /status}, completed: done, failed: [failed]}
"""
JOB = "    job: {id: {json: /id}, deadline: 10m}\n"


@pytest.mark.parametrize(
    ("text", "findings"),
    [
        (
            BASE.replace("upstream: lumiku", "upstream: lumiko"),
            ["9:15: unknown-upstream: unknown upstream 'lumiko'; did you mean 'lumiku'?"],
        ),
        (
            BASE + JOB + POLL.replace("of: generate", "of: [generate, generat]"),
            ["17:27: unknown-route: no route 'generat' with a `job`; did you mean 'generate'?"],
        ),
        (BASE + POLL, ["16:16: unknown-route: no route 'generate' with a `job`"]),
        (
            BASE + JOB + POLL.replace("id: status", "id: generate"),
            ["13:9: duplicate-route: route id 'generate' is used twice"],
        ),
        (
            BASE + JOB + POLL.replace("GET /jobs/{job}", "GET /jobs/{id}"),
            ["17:30: unknown-parameter: the path parameter 'job' is not in GET /jobs/{id}"],
        ),
        (
            BASE.replace("{json: /modelId}", "{path: model}").replace("POST /generate", "['POST /{model}', POST /x/y]"),
            ["11:12: unknown-parameter: the path parameter 'model' is not in POST /x/y"],
        ),
        (
            BASE + "    units: {pixels: {product: [{json: /w, max: 5}, {path: height, max: 5}]}}\n",
            ["12:52: unknown-parameter: the path parameter 'height' is not in POST /generate"],
        ),
        (
            BASE + JOB + POLL.replace("GET /jobs/{job}", "['GET /jobs/{job}', 'GET /jobs/{job}']"),
            ["14:32: overlapping-routes: GET /jobs/{job} matches the same requests as route 'status'"],
        ),
        (
            BASE + "  - {id: other, match: POST /generate, upstream: lumiku, access: open}\n",
            ["12:24: overlapping-routes: POST /generate matches the same requests as route 'generate'"],
        ),
        (
            BASE.replace("POST /generate", "'POST /{a}/x'")
            + "  - {id: other, match: 'POST /*/x', upstream: lumiku, access: open}\n",
            ["12:24: overlapping-routes: POST /*/x matches the same requests as route 'generate'"],
        ),
    ],
)
def test_names_exist_and_routes_differ(tmp_path: Path, text: str, findings: list[str]) -> None:
    """What refers to another place of the file is checked, nested as deep as it may be."""
    assert told(refused(tmp_path, text)) == findings


def test_references_are_all_checked_at_once(tmp_path: Path) -> None:
    """In the order of the file."""
    text = BASE + "  - {id: generate, match: POST /generate, upstream: x, access: open}\n"
    assert [found.split(": ")[1] for found in told(refused(tmp_path, text))] == [
        "duplicate-route",
        "overlapping-routes",
        "unknown-upstream",
    ]


def test_routes_that_only_look_alike(tmp_path: Path) -> None:
    """Another method, another number of segments, or a text in place of a parameter is another request."""
    alike = ["GET /generate", "'POST /generate/{a}'", "POST /generate/x", "POST /generate/**", "'* /generate'"]
    routes = [f"  - {{id: r{n}, match: {match}, upstream: lumiku, access: open}}\n" for n, match in enumerate(alike)]
    assert len(load(tmp_path, BASE + "".join(routes)).values.routes) == 6


@pytest.mark.parametrize(
    ("poll", "message"),
    [
        (POLL.replace("{path: job}", "{query: job}"), "read from `path` or from `json`"),
        (POLL.replace("status: {", "items: {json: /jobs}, status: {"), "from `json`, not from the path"),
        (POLL.replace("access: account", "access: open"), "needs `access: account`"),
        (POLL.replace("completed: done", "completed: []"), "at least 1 item"),
        (POLL.replace("completed: done", "completed: [done, failed]"), "'failed' is both `completed` and `failed`"),
    ],
)
def test_polls_make_sense(tmp_path: Path, poll: str, message: str) -> None:
    """A poll finds its job, knows how jobs end, and is no open door."""
    assert message in str(refused(tmp_path, BASE + JOB + poll))


# The contract.


def test_what_is_not_built_is_an_unknown_key(tmp_path: Path) -> None:
    """Nobody believes to be protected by a setting that nothing reads."""
    text = BASE.replace("identity:\n", "identity:\n  client_certificates: {ca: ca.pem}\n")
    assert [found.split("; ")[0] for found in told(refused(tmp_path, text))] == [
        "2:3: unknown-key: unknown key 'client_certificates'",
    ]


def test_the_example_of_the_contract(tmp_path: Path) -> None:
    """As it is written there, with references in flow mappings, and without the parts that are not built yet."""
    text = """\
listen: 127.0.0.1:8080
admin: {listen: 127.0.0.1:8081, token: ${FAREBOX_ADMIN_TOKEN}}
database: sqlite+aiosqlite:///farebox.db        # or postgresql+asyncpg://…
policies: policies/                              # folder, watched
identity:
  jwt:
    - {name: app, algorithms: [HS256], secret: "${JWT_SECRET}", user: userId, email: email}
    - {name: idp, algorithms: [RS256, ES256], jwks_url: "https://id.example.com/jwks.json", issuer: "https://id.example.com/",
       audience: app, user: sub}
  api_keys: true
  trusted_header: {name: X-User-Id, peers: [127.0.0.1/32]}
  unknown_users: create                          # payg account with the welcome credits; or refuse
upstreams:
  lumiku: {url: "http://127.0.0.1:3000", connect_timeout: 5s, response_timeout: 300s}
  llm: {url: "http://127.0.0.1:4000"}
routes:
  - id: generate-video
    match: POST /api/apps/video-generator/generate
    upstream: lumiku
    app: video-generator
    action: generate_video
    model: {json: /modelId}
    units: {duration_seconds: {json: /duration, min: 1, max: 60}}
  - id: chat
    match: POST /v1/chat/completions
    upstream: llm
    app: chat
    model: {json: /model}
    usage: {input_tokens: {json: /usage/prompt_tokens}, output_tokens: {json: /usage/completion_tokens}}
    errors: openai                               # shape of refusals on this route
  - {id: site, match: GET /**, upstream: lumiku, access: open}    # forwarded unmetered, on purpose
unmatched: refuse
"""
    loaded = load(tmp_path, text, {"FAREBOX_ADMIN_TOKEN": OPERATOR, "JWT_SECRET": SECRET})
    assert loaded.values.admin.token is not None
    assert loaded.values.admin.token.get_secret_value() == OPERATOR
    assert loaded.policies_folder == tmp_path / "policies"


# Paths.


@pytest.mark.parametrize(
    ("database", "url"),
    [
        ("sqlite+aiosqlite:///farebox.db", "sqlite+aiosqlite:///{folder}/farebox.db"),
        ("sqlite+aiosqlite:///data/../farebox.db", "sqlite+aiosqlite:///{folder}/farebox.db"),
        ("sqlite+aiosqlite:////var/lib/farebox.db", "sqlite+aiosqlite:////var/lib/farebox.db"),
        ("postgresql+asyncpg://u:p@db/farebox", "postgresql+asyncpg://u:p@db/farebox"),
    ],
)
def test_paths_count_from_the_folder_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str, url: str
) -> None:
    """Wherever the command is called from, the same database is meant."""
    (tmp_path / "etc").mkdir()
    monkeypatch.chdir(tmp_path)
    loaded = load(Path("etc"), BASE + f"database: {database}\npolicies: rules\n")
    assert loaded.database_url == url.format(folder=f"/{tmp_path}/etc".replace("//", "/"))
    assert loaded.policies_folder == tmp_path / "etc" / "rules"


def test_usage_stays_unless_it_is_said_where_it_goes(tmp_path: Path) -> None:
    """Nothing is deleted by default, nor before somebody has thought of its archive; YAML reads `off` as false."""
    assert load(tmp_path, BASE).values.retention == Retention()
    assert (Retention().usage, Retention().archive) == ("forever", None)
    error = refused(tmp_path, BASE + "retention: {usage: 13 months}\n")
    (found,) = told(error)
    assert found.endswith("say where usage goes: `archive: FOLDER`, or `archive: off` to delete it for good")
    assert load(tmp_path, BASE + "retention: {usage: 13 months, archive: off}\n").archive_folder is None
    kept = load(tmp_path, BASE + "retention: {usage: 13 months, archive: old/usage}\n")
    assert (kept.values.retention.usage, kept.archive_folder) == (13, tmp_path / "old" / "usage")


def test_a_linked_file_names_what_stands_beside_the_link(tmp_path: Path) -> None:
    """A mounted ConfigMap is a link into a folder that every update replaces: nothing may be kept there."""
    (tmp_path / "..2026_01").mkdir()
    (tmp_path / "..2026_01" / "farebox.yaml").write_text(BASE)
    (tmp_path / "farebox.yaml").symlink_to(tmp_path / "..2026_01" / "farebox.yaml")
    assert load(tmp_path, BASE).folder == tmp_path


# Secrets.


def test_a_short_secret_is_found_at_its_place(tmp_path: Path) -> None:
    """And neither the message nor the line shows it."""
    error = refused(tmp_path, BASE.replace(SECRET, "tooshort"))
    assert str(error).endswith(
        """\
farebox.yaml:3:48: invalid-value: the secret is shorter than 32 bytes (RFC 7518, 3.2)
    3 |     - {name: app, algorithms: [HS256], secret: **********, user: userId}
      |                                                ^"""
    )


def test_a_missing_secret_is_one_finding(tmp_path: Path) -> None:
    """That the variable is not set; not also that nothing is too short."""
    error = refused(tmp_path, BASE.replace(SECRET, "${JWT_SECRET}"))
    assert told(error) == ["3:48: missing-variable: the environment variable JWT_SECRET is not set"]
    assert 'secret: "${JWT_SECRET}"' in str(error)


def test_a_secret_from_the_environment_is_measured_as_it_is(tmp_path: Path) -> None:
    """An empty variable is a short secret, bytes count and not characters."""
    text = BASE.replace(SECRET, "${JWT_SECRET}")
    assert "shorter than 32 bytes" in str(refused(tmp_path, text, {"JWT_SECRET": ""}))
    assert "shorter than 32 bytes" in str(refused(tmp_path, text, {"JWT_SECRET": "ä" * 15}))
    load(tmp_path, text, {"JWT_SECRET": "ä" * 16})


HIDDEN = f"""\
admin: {{token: token-hunter2-of-an-operator}}
database: postgresql+asyncpg://farebox:database-hunter2@db/farebox
{BASE.replace(SECRET, "jwt-hunter2-" + SECRET).replace('3000"}', '3000", headers: {X-Key: header-hunter2}}')}"""


PASSWORD = "p/a:s@s?w#o'rd-hunter2"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+asyncpg://farebox:{}@db/farebox",
        "postgresql+asyncpg://farebox:{}",
        "postgres://farebox:{}@db/farebox",
        "postgres://farebox@db/farebox?password={}",
        "{}",
    ],
)
def test_a_password_of_the_database_is_not_told(tmp_path: Path, url: str) -> None:
    """Whatever it does to its URL, in the file or in the environment; and what to do is said."""
    # Without a host, what stands behind an `@` could be one.
    password = PASSWORD if "@db" in url else PASSWORD.replace("@", "")
    whole = url.format(password)
    for written, environment in (
        (whole.replace("'", "''"), {}),
        (url.format("${PASSWORD}"), {"PASSWORD": password}),
        ("${DATABASE_URL}", {"DATABASE_URL": whole}),
    ):
        if url == "{}" and not environment:
            # Nobody can know a bare word for a password.
            continue
        error = refused(tmp_path, f"database: '{written}'\n" + BASE, environment)
        assert "hunter2" not in str(error) + repr(error.findings)
        assert "expected sqlite" in str(error) or "%40" in str(error)


def test_what_came_from_the_environment_is_told_by_its_name(tmp_path: Path) -> None:
    """It may be a secret in a wrong place; short words, such as ports, may be told."""
    error = refused(tmp_path, BASE.replace("upstream: lumiku", 'upstream: "${A}"'), {"A": "secret-hunter2"})
    assert told(error) == ["9:15: unknown-upstream: unknown upstream '${A}'; known are lumiku"]
    error = refused(tmp_path, BASE + 'listen: "${A}"\n', {"A": "secret-hunter2" * 9})
    assert told(error)[0].startswith("12:9: invalid-value: found '${A}'; expected ")
    error = refused(tmp_path, BASE + 'listen: "127.0.0.1:${A}"\n', {"A": "99999"})
    assert "found '127.0.0.1:99999'" in str(error)


def test_settings_can_be_printed(tmp_path: Path) -> None:
    """No representation, text or dump for people of the settings shows a secret."""
    loaded = load(tmp_path, HIDDEN)
    shown = [
        repr(loaded),
        str(loaded.values),
        repr(loaded.values.admin),
        repr(loaded.values.identity),
        repr(loaded.source),
    ]
    assert not [text for text in shown if "hunter2" in text or SECRET in text]
    dumped = loaded.values.model_dump_json(exclude={"database"})
    assert "hunter2" not in dumped
    assert loaded.values.admin.token is not None
    assert loaded.values.admin.token.get_secret_value() == "token-hunter2-of-an-operator"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("admin: {token:", "admin: {tokne:"),
        ("admin: {token:", "admin: {listen: x, token:"),
        ("admin: {token:", "admin: {token: x, token:"),
        ("admin: {token: token-hunter2-of-an-operator}", "admin: {token: [token-hunter2-of-an-operator]}"),
        ("admin: {token: token-hunter2-of-an-operator}", "admin: {token: *token-hunter2-of-an-operator}"),
        ("admin: {token: token-hunter2-of-an-operator}", "admin: {token: token-hunter2-of-an-operator"),
        ("admin: {token: token-hunter2-of-an-operator}", "admin: {token: !token-hunter2-of-an-operator x}"),
        ("admin: {token: token-hunter2-of-an-operator}", 'admin: {token: "token-hunter2-of-an-operator\\q"}'),
        ("admin: {token: token-hunter2-of-an-operator}", 'admin: {token: "token-hunter2-of-an-operator\\0"}'),
        (
            "admin: {token: token-hunter2-of-an-operator}",
            "admin:\n  token: |\n    token-hunter2-of-an-operator\n    two",
        ),
        ("database: postgresql", "database: postgres"),
        ("secret:", "secrt:"),
        ("secret:", "user: 5, secret:"),
        ("algorithms: [HS256]", "algorithms: [hunter]"),
        ("headers: {X-Key:", "headers: {X Key:"),
        ("headers: {X-Key: header-hunter2}", "headers: {X-Key: {a: header-hunter2}}"),
        ("http://127", "http://user:url-hunter2@127"),
        ("http://127", "http://user:url-hunter2@\u2100127"),
        ("http://127", "ftp://user:url-hunter2@127"),
        ("upstream: lumiku", "upstream: lumika"),
    ],
)
def test_findings_do_not_tell_secrets(tmp_path: Path, old: str, new: str) -> None:
    """Whatever else is wrong in the file, in its keys, its values or its YAML."""
    assert old in HIDDEN
    error = refused(tmp_path, HIDDEN.replace(old, new))
    told_everywhere = str(error) + repr(error) + "".join(str(found.as_json()) for found in error.findings)
    assert "hunter2" not in told_everywhere
    assert SECRET not in told_everywhere


def test_numbers_as_secrets_are_not_told(tmp_path: Path) -> None:
    """A token of digits is no text, and YAML may even read it as another number; neither is repeated."""
    for digits in ("123456789", "0123456701", "1_234_567"):
        error = refused(tmp_path, f"admin: {{token: {digits}}}\n" + BASE)
        assert digits not in str(error)


def test_no_setting_can_be_changed(tmp_path: Path) -> None:
    """Settings are read once, at the start."""
    values: FareboxSettings = load(tmp_path, BASE).values
    with pytest.raises(ValueError, match="frozen"):
        values.listen = Address("0.0.0.0", 80)

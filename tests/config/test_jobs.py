"""Jobs that finish later, in the settings: what names something names something that is there, or is a finding."""

from __future__ import annotations

from pathlib import Path

import pytest

from config import job_doubts
from config.findings import InvalidDocument
from config.settings import load_settings

APP = 'name: app, algorithms: [HS256], secret: "${SECRET}"'
BEFORE = """
identity: {jwt: [{%s}]}
upstreams: {up: {url: "http://127.0.0.1:3000"}}
"""

JOB = "id: {json: /id}, deadline: 1h"
POLL = "of: start, status: {json: /status}, completed: done"


def _findings(
    tmp_path: Path, job: str, poll: str, match: str = "GET /jobs/{id}", more: str = "", issuer: str = APP
) -> list[str]:
    text = f"""{BEFORE % issuer}{more}
routes:
  - {{id: start, match: POST /jobs, upstream: up, app: a, model: {{const: m}}, job: {{{job}}}}}
  - {{id: job, match: "{match}", upstream: up, access: account, poll: {{{poll}}}}}
  - {{id: other, match: "GET /others/{{id}}", upstream: up, access: account}}
"""
    (tmp_path / "farebox.yaml").write_text(text)
    try:
        load_settings(tmp_path / "farebox.yaml", {"SECRET": "x" * 32})
    except InvalidDocument as error:
        return [f"{finding.line}:{finding.code}: {finding.message}" for finding in error.findings]
    return []


WATCH = f"{JOB}, watch: {{route: job}}"


@pytest.mark.parametrize(
    ("job", "match", "poll"),
    [
        (WATCH, "GET /jobs/{id}", f"{POLL}, id: {{path: id}}"),
        (f"{JOB}, watch: {{route: job, parameters: {{p: {{json: /p}}}}}}", "GET /p/{p}", f"{POLL}, id: {{json: /id}}"),
        (
            f"{JOB}, watch: {{route: job, parameters: {{p: {{json: /p}}}}}}",
            "GET /p/{p}/{id}",
            f"{POLL}, id: {{path: id}}",
        ),
        (WATCH, "GET /jobs", f"{POLL}, items: {{json: /jobs}}, id: {{json: /id}}"),
        (f"{JOB}, watch: {{route: job, issuer: app, first: 1s, longest: 1s}}", "* /jobs", f"{POLL}, id: {{json: /id}}"),
    ],
)
def test_what_can_be_asked_loads(tmp_path: Path, job: str, match: str, poll: str) -> None:
    assert _findings(tmp_path, job, poll, match) == []


@pytest.mark.parametrize(
    ("job", "match", "found"),
    [
        (f"{JOB}, watch: {{route: jobs}}", "GET /jobs/{id}", "6:unknown-route: no route 'jobs' with a `poll`"),
        (f"{JOB}, watch: {{route: other}}", "GET /jobs/{id}", "6:unknown-route: no route 'other' with a `poll`"),
        (f"{JOB}, watch: {{route: start}}", "GET /jobs/{id}", "6:unknown-route"),
        (WATCH, "POST /jobs/{id}", "6:cannot-ask: POST /jobs/{id}"),
        (WATCH, "GET /*/{id}", "6:cannot-ask"),
        (WATCH, "GET /{id}/**", "6:cannot-ask"),
        (WATCH, "GET /{p}/{id}", "6:unknown-parameter: GET /{p}/{id} has the parameters id, p, and the job tells id"),
        (f"{JOB}, watch: {{route: job, parameters: {{p: {{json: /p}}}}}}", "GET /{id}", "6:unknown-parameter"),
        (f"{JOB}, watch: {{route: job, issuer: idp}}", "GET /{id}", "6:unknown-issuer: no issuer 'idp'"),
        (
            f"{JOB}, callback: {{status: {{json: /s}}, completed: done}}",
            "GET /{id}",
            "6:no-callbacks: a callback needs to know where Farebox is called",
        ),
        (f"{JOB}, watch: {{route: job, first: 2s, longest: 1s}}", "GET /{id}", "`first` to be at most `longest`"),
        (
            f"{JOB}, watch: {{route: job, issuer: app, headers: {{authorization: x}}}}",
            "GET /{id}",
            "a question has one `Authorization`",
        ),
    ],
)
def test_what_cannot_be_asked_is_a_finding(tmp_path: Path, job: str, match: str, found: str) -> None:
    """At its place, before anything is served: a job that nobody can ask for would be found out by its user."""
    (finding,) = _findings(tmp_path, job, f"{POLL}, id: {{path: id}}", match)
    assert found in finding


@pytest.mark.parametrize(
    "more", ["public_keys: [a.pem]", 'jwks_url: "https://id/"', 'secret: "${SECRET}", user_prefix: "p:"']
)
def test_an_issuer_that_cannot_be_spoken_for_is_a_finding(tmp_path: Path, more: str) -> None:
    """Nobody but an issuer itself has its private key, and no backend knows users by a prefix of ours."""
    algorithm = "HS256" if "secret" in more else "ES256"
    issuer = f"name: idp, algorithms: [{algorithm}], {more}"
    job, poll = f"{JOB}, watch: {{route: job, issuer: idp}}", f"{POLL}, id: {{path: id}}"
    (finding,) = _findings(tmp_path, job, poll, issuer=issuer)
    assert finding.startswith("6:unusable-issuer: the issuer 'idp' needs a `secret`")


@pytest.mark.parametrize(
    "part",
    [
        "done: {json: /a}",
        "of: {json: /a}",
        "items: {json: /a}",
        "items: {json: /a}, status: {json: /s}",
        "items: {json: /a}, completed: done",
        "done: {json: /a}, of: {json: /b}, completed: done",
        "done: {json: /a}, items: {json: /a}, status: {json: /s}, completed: done",
    ],
)
def test_a_part_is_counted_in_one_way(tmp_path: Path, part: str) -> None:
    (finding,) = _findings(tmp_path, JOB, f"{POLL}, id: {{path: id}}, part: {{{part}}}")
    assert "expected either `done` and `of`, or `items`, `status` and `completed`" in finding


def test_a_state_is_not_both(tmp_path: Path) -> None:
    """In a poll as in a callback."""
    (finding,) = _findings(tmp_path, JOB, f"{POLL}, failed: done, id: {{path: id}}")
    assert "the state 'done' is both" in finding


def test_callbacks_have_a_secret_that_is_not_guessed(tmp_path: Path) -> None:
    more = "callbacks: {url: 'http://farebox', secret: short}"
    (finding,) = _findings(tmp_path, JOB, f"{POLL}, id: {{path: id}}", more=more)
    assert "the secret is shorter than 32 bytes" in finding


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ("usage: {n: {json: /n}}, part: {done: {json: /a}, of: {json: /b}}", "expected `part` or `usage`"),
        ("usage: {n: {header: X-N}}", "stated by one document, in its `json`"),
        ("usage: {n: {seconds: true}}", "stated by one document, in its `json`"),
        ("usage: {n: {json: /n, sum: true}}", "stated by one document, in its `json`"),
    ],
)
def test_a_usage_stands_in_the_status(tmp_path: Path, told: str, found: str) -> None:
    """A callback has no answer of its own, and no stream of events."""
    (finding,) = _findings(tmp_path, JOB, f"{POLL}, id: {{path: id}}, {told}")
    assert found in finding


@pytest.mark.parametrize(
    ("job", "route", "warned"),
    [
        (JOB, "", True),
        (f"{JOB}, on_deadline: quote", "", False),
        (JOB, "on_late: charge, ", False),
        (WATCH, "", False),
        (f"{JOB}, callback: {{status: {{json: /status}}, completed: done}}", "", False),
        # Who writes the default down means it.
        (f"{JOB}, on_deadline: release", "", False),
    ],
)
def test_a_job_that_is_free_for_the_patient_is_doubtful(tmp_path: Path, job: str, route: str, warned: bool) -> None:
    """Nothing ends it but its client, and then the deadline gives it away: a warning at the job, and no error."""
    callbacks = 'callbacks: {url: "http://127.0.0.1:8080", secret: "%s"}' % ("c" * 32)
    text = f"""{BEFORE % APP}{callbacks}
routes:
  - {{id: start, match: POST /jobs, upstream: up, app: a, model: {{const: m}}, {route}job: {{{job}}}}}
  - {{id: job, match: "GET /jobs/{{id}}", upstream: up, access: account, poll: {{{POLL}, id: {{path: id}}}}}}
"""
    (tmp_path / "farebox.yaml").write_text(text)
    found = job_doubts.findings_of(load_settings(tmp_path / "farebox.yaml", {"SECRET": "x" * 32}))
    assert [(one.line, one.code, one.severity) for one in found] == [(6, "unwatched-job", "warning")] * warned

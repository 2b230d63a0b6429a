"""`farebox demo`: everything on a laptop, from an empty folder, with lines to try.

The example's settings and policies are copied into a folder of the user's own, where they can be edited while the
demo runs; the sample backend is started behind it; two users exist, one for each way of paying.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shlex
import shutil
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt

import seeds
from config.clock import utc_now
from config.log import set_up_log
from config.settings import load_settings
from proxy.app import CannotStart, Farebox
from proxy.serving import ServeOptions, serve_settings
from seeds.load import load_demo
from store.opening import open_store

TOKEN_LIFE = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Line:
    """A line to try: what it shows, the command, and a text that its output has."""

    shows: str
    command: str
    expect: str


async def run(folder: Path) -> None:
    """Runs until it is stopped. Raises CannotStart, and what `serve` raises."""
    examples = examples_folder()
    environment = _prepare(folder, examples)
    async with _backend(examples) as backend_url:
        os.environ.update(environment, BACKEND_URL=backend_url)
        settings = load_settings(folder / "farebox.yaml", os.environ)
        set_up_log(settings.values.log)
        async with open_store(settings.database_url, utc_now) as store:
            await load_demo(store)

        def announce(running: Farebox) -> None:
            print(welcome(f"http://{running.public}", {**environment, "BACKEND_URL": backend_url}, folder), flush=True)

        await serve_settings(settings, ServeOptions(folder / "farebox.yaml"), announce)


def examples_folder() -> Path:
    """Beside the packages in a checkout, inside them in an installed wheel."""
    inside = Path(seeds.__file__).parent
    for folder in (inside.parent / "examples", inside / "examples"):
        if (folder / "farebox.yaml").exists():
            return folder
    raise CannotStart("the examples are not installed; run the demo from a checkout of Farebox")


def _prepare(folder: Path, examples: Path) -> dict[str, str]:
    """The demo's folder, made on first use. Its secrets stay, so that tokens survive a restart."""
    (folder / "policies").mkdir(parents=True, exist_ok=True)
    for name in ("farebox.yaml", "policies/main.yaml"):
        if not (folder / name).exists():
            shutil.copyfile(examples / name, folder / name)
    kept = folder / "secrets.json"
    if not kept.exists():
        kept.touch(mode=0o600)
        kept.write_text(json.dumps({name: secrets.token_hex(32) for name in ("JWT_SECRET", "FAREBOX_ADMIN_TOKEN")}))
    environment: dict[str, str] = json.loads(kept.read_text())
    return environment


@asynccontextmanager
async def _backend(examples: Path) -> AsyncIterator[str]:
    """The sample backend on a free port; its last words are shown when it cannot start."""
    command = [sys.executable, str(examples / "backend" / "app.py"), "--port", "0"]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
    assert process.stdout is not None, "stdout was asked for"
    try:
        line = (await process.stdout.readline()).decode()
        _, _, url = line.partition(" on ")
        if not url:
            raise CannotStart("the sample backend did not start")
        yield url.strip()
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def token(user_id: str, secret: str) -> str:
    """What an app hands to its user after a login."""
    claims = {"userId": user_id, "email": f"{user_id}@example.com", "exp": datetime.now(UTC) + TOKEN_LIFE}
    return jwt.encode(claims, secret, algorithm="HS256")


def welcome(url: str, environment: Mapping[str, str], folder: Path) -> str:
    """What is printed when everything runs."""
    lines = [
        f"Farebox runs on {url}, in front of the sample backend. Stop it with Ctrl-C.",
        f"Settings and policies are in {folder}; edit policies/main.yaml, and it is in force a second later.",
        "",
        "Copy these into another terminal first:",
        "",
        *exports(url, environment, folder),
        "",
        "Then try, in this order:",
    ]
    for line in LINES:
        lines += ["", f"# {line.shows}", line.command]
    return "\n".join(lines)


def exports(url: str, environment: Mapping[str, str], folder: Path) -> list[str]:
    """The variables that the lines use: the address, a token for each way of paying, and what the command line needs to
    work on the running demo. Its secrets were made for it, and open nothing else.
    """
    secret = environment["JWT_SECRET"]
    values = {
        "FAREBOX": url,
        "PAYG": token("demo-payg", secret),
        "SUBSCRIBER": token("demo-subscriber", secret),
        "FAREBOX_CONFIG": shlex.quote(str(folder.absolute() / "farebox.yaml")),
        **environment,
        "PATH": f'{shlex.quote(str(Path(sys.executable).parent))}:"$PATH"',
    }
    return [f"export {name}={value}" for name, value in values.items()]


def _curl(path: str, who: str, body: dict[str, object] | None = None, options: str = "-si") -> str:
    data = f" -H 'Content-Type: application/json' -d '{json.dumps(body)}'" if body is not None else ""
    return f'curl {options} "$FAREBOX{path}" -H "Authorization: Bearer ${who}"{data}'


def _video(model: str, prompt: str) -> dict[str, object]:
    body: dict[str, object] = {"projectId": "p1", "modelId": model, "prompt": prompt, "duration": 5}
    return {**body, "resolution": "720p", "aspectRatio": "16:9"}


def _chat(content: str, **more: object) -> dict[str, object]:
    return {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": content}], "max_tokens": 100, **more}


_GENERATE = "/api/apps/video-generator/generate"
_COUNTED = "-s -o /dev/null -w '%{http_code} '"

LINES = (
    Line("A new account starts with 100 credits.", _curl("/api/credits/balance", "PAYG", options="-s"), '"balance"'),
    Line(
        "A generation of five seconds is accepted: five credits are reserved (X-Farebox-Reserved).",
        _curl(_GENERATE, "PAYG", _video("wan2.2", "a cat on a bus")),
        "HTTP/1.1 202",
    ),
    Line(
        "403: a model above the account's tier, and the tier that would unlock it.",
        _curl(_GENERATE, "PAYG", _video("veo3", "a cat on a bus")),
        '"requiredTier": "enterprise"',
    ),
    Line(
        "A call that fails at once costs nothing (X-Farebox-Charged: 0).",
        _curl(_GENERATE, "PAYG", _video("wan2.2", "please fail-now")),
        "HTTP/1.1 500",
    ),
    Line(
        "A job that fails later is refunded when its status is read.",
        "JOB=$("
        + _curl(_GENERATE, "PAYG", _video("wan2.2", "please fail-job"), options="-s")
        + ' | python3 -c \'import json, sys; print(json.load(sys.stdin)["generation"]["id"])\')',
        "",
    ),
    Line(
        "Its status (wait a moment first), and the balance after the refund.",
        "sleep 1; "
        + _curl("/api/apps/video-generator/generations/$JOB/status", "PAYG", options="-s")
        + "; echo; "
        + _curl("/api/credits/balance", "PAYG", options="-s"),
        '"failed"',
    ),
    Line(
        "A chat, as the OpenAI API has it: the tokens that were really used are charged (X-Farebox-Charged).",
        _curl("/v1/chat/completions", "PAYG", _chat("one two three")),
        "X-Farebox-Charged",
    ),
    Line(
        "The same as a stream.",
        _curl(
            "/v1/chat/completions",
            "PAYG",
            _chat("one two three", stream=True, stream_options={"include_usage": True}),
            options="-sN",
        ),
        "[DONE]",
    ),
    Line(
        "402: until the credits are used up.",
        "for i in $(seq 25); do " + _curl(_GENERATE, "PAYG", _video("wan2.2", "more"), options=_COUNTED) + "; done",
        "402",
    ),
    Line(
        "429: a subscriber pays with the daily quota of the plan, until it is used up.",
        "for i in $(seq 55); do "
        + _curl("/v1/chat/completions", "SUBSCRIBER", _chat("hi"), options=_COUNTED)
        + "; done",
        "429",
    ),
    Line("What a subscriber sees of it.", _curl("/api/quota/status", "SUBSCRIBER", options="-s"), '"remaining"'),
    Line("What the account was charged for.", _curl("/api/models/usage", "PAYG", options="-s"), '"usages"'),
    Line(
        "All models, with price, and with the tier that unlocks them.",
        _curl("/api/models/available", "PAYG", options="-s"),
        '"requiredTier"',
    ),
    Line(
        "For operators: why a user may not use a model, rule by rule.",
        "farebox policy explain demo-payg video-generator:veo3",
        "requires enterprise tier",
    ),
    Line("What was refused, and by which rule.", "farebox decisions tail --refused --limit 5", "quota_exceeded"),
)

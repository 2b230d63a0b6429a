"""The sample backend: what a sidecar is put in front of, in demos and tests.

Six apps with jobs that finish later and one OpenAI-compatible chat endpoint, in one process and in memory. It knows
nothing of the sidecar, asks nobody for a token, and takes no money: whoever reaches it is served. What it does not do:
keep projects, posters or files; every id a client invents is good.

    python examples/backend/app.py --port 3000

Routes and failure words: README.md beside this file.
"""

from __future__ import annotations

import argparse
import socket

from aiohttp import web
from aiohttp.typedefs import Handler
from sample_backend import (
    avatar_creator,
    carousel_mix,
    chat,
    looping_flow,
    poster_editor,
    video_generator,
    video_mixer,
)
from sample_backend.bodies import Refusal
from sample_backend.jobs import JOBS, JobBook

MAX_BODY_BYTES = 64 * 1024 * 1024
"""A JSON body may carry a mask as base64, tens of megabytes; uploads are streamed and do not count."""

SHUTDOWN_SECONDS = 1.0
"""How long an answer that hangs on demand may hold up the end of the process."""

APPS = {
    "video-generator": video_generator,
    "poster-editor": poster_editor,
    "video-mixer": video_mixer,
    "carousel-mix": carousel_mix,
    "looping-flow": looping_flow,
    "avatar-creator": avatar_creator,
    "chat": chat,
}


def create_app(job_seconds: float = 0.3) -> web.Application:
    """A fresh backend whose jobs end `job_seconds` after they were accepted; 0 means at once."""
    app = web.Application(middlewares=[refuse_in_json], client_max_size=MAX_BODY_BYTES)
    app[JOBS] = JobBook(job_seconds)
    app.add_routes([web.get("/", welcome), web.get("/health", health)])
    for module in APPS.values():
        app.add_routes(module.routes)
    return app


@web.middleware
async def refuse_in_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Say every error as `{"error": ...}`; a wrong method on a known path is Not Found, as in the real apps."""
    try:
        return await handler(request)
    except Refusal as refusal:
        return refusal.response()
    except (web.HTTPNotFound, web.HTTPMethodNotAllowed):
        return Refusal(404, "Not Found").response()
    except web.HTTPClientError as error:
        return Refusal(error.status, error.reason).response()


async def welcome(request: web.Request) -> web.Response:
    """Say what this is."""
    return web.json_response({"name": "sample backend", "apps": list(APPS)})


async def health(request: web.Request) -> web.Response:
    """Say that the process serves."""
    return web.json_response({"status": "ok"})


def main() -> None:
    """Read the command line, open the port, say where, and serve until interrupted."""
    parser = argparse.ArgumentParser(description="A sample backend to put a sidecar in front of.")
    parser.add_argument("--host", default="127.0.0.1", help="IPv4 address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=3000, help="0 picks a free port (default: %(default)s)")
    parser.add_argument("--job-seconds", type=float, default=0.3, help="time a job takes (default: %(default)s)")
    options = parser.parse_args()
    listener = socket.create_server((options.host, options.port))
    # Connections are queued by the system from here on, so the line may be printed before the server runs.
    print(f"sample backend on http://{options.host}:{listener.getsockname()[1]}", flush=True)
    web.run_app(
        create_app(options.job_seconds), sock=listener, print=None, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS
    )


if __name__ == "__main__":
    main()

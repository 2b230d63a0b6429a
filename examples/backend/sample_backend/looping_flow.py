"""The app `looping-flow`: one video looped to a length; a job can be cancelled, and is polled inside its project."""

from __future__ import annotations

import time
from typing import Any

from aiohttp import web

from . import charges
from .bodies import Field, Refusal, flag, number, one_of, optional, owner_of, read_json, require, text
from .failures import FAIL_JOB, MESSAGE, obey, wishes
from .jobs import JOBS, Job, iso

QUEUE = "looping-flow"
BASE = f"/api/apps/{QUEUE}"
routes = web.RouteTableDef()

MAX_TARGET_SECONDS = 7 * 24 * 3600
"""A week: longer than anybody loops a video, short enough that a slip of the finger is refused."""

BODY = {
    "projectId": Field(text()),
    "videoId": Field(text()),
    "targetDuration": Field(number(1, MAX_TARGET_SECONDS, whole=True)),
    "loopStyle": optional(one_of("simple", "crossfade", "boomerang")),
    "crossfadeDuration": optional(number(0.5, 2.0)),
    "videoCrossfade": optional(flag),
    "audioCrossfade": optional(flag),
    "masterVolume": optional(number(0, 100)),
    "audioFadeIn": optional(number(0, 10)),
    "audioFadeOut": optional(number(0, 10)),
    "muteOriginal": optional(flag),
}
DEFAULTS = {
    "loopStyle": "crossfade",
    "crossfadeDuration": 1.0,
    "videoCrossfade": True,
    "audioCrossfade": True,
    "masterVolume": 100,
    "audioFadeIn": 2,
    "audioFadeOut": 2,
    "muteOriginal": False,
}


@routes.post(f"{BASE}/generate")
async def generate(request: web.Request) -> web.Response:
    """Accept a loop of `targetDuration` seconds: 200 with `generation.id`."""
    body = await read_json(request)
    require(body, BODY)
    words = wishes(body)
    await obey(request, words)
    target = int(body["targetDuration"])
    cost = charges.loop(target)
    book = request.app[JOBS]
    job = Job(
        queue=QUEUE,
        owner=owner_of(request),
        project_id=body["projectId"],
        takes_s=book.job_seconds,
        fails=FAIL_JOB in words,
        details={
            "videoId": body["videoId"],
            "targetDuration": target,
            "creditUsed": cost,
            **{name: body.get(name, default) for name, default in DEFAULTS.items()},
        },
    )
    book.add(job)
    return web.json_response(
        {
            "success": True,
            "generation": _row(job, job.created_s),
            "creditUsed": cost,
            "creditBalance": charges.REPORTED_BALANCE,
        }
    )


@routes.post(f"{BASE}/generations/{{id}}/cancel")
async def cancel(request: web.Request) -> web.Response:
    """Cancel a job that has not ended; the row says so from then on."""
    book, now = request.app[JOBS], time.time()
    job = book.get(QUEUE, request.match_info["id"])
    if job is None:
        raise Refusal(404, "Generation not found")
    if job.status(now) not in ("pending", "processing"):
        raise Refusal(400, "Can only cancel pending or processing generations")
    return web.json_response({"success": True, "generation": _row(book.cancel(job), now)})


@routes.get(f"{BASE}/projects/{{id}}")
async def project(request: web.Request) -> web.Response:
    """A project with its jobs inside, newest first; every id names a project, because projects are not kept here."""
    project_id, now = request.match_info["id"], time.time()
    jobs = request.app[JOBS].in_project(QUEUE, project_id)
    shown = {
        "id": project_id,
        "userId": owner_of(request),
        "name": f"Project {project_id}",
        "description": None,
        "createdAt": iso(min((job.created_s for job in jobs), default=now)),
        "videos": [],
        "generations": [_row(job, now) for job in jobs],
    }
    return web.json_response({"success": True, "project": shown})


def _row(job: Job, now: float) -> dict[str, Any]:
    row = job.row(now) | {"outputPath": None, "errorMessage": None}
    match row["status"]:
        case "completed":
            row["outputPath"] = f"/outputs/{job.id}.mp4"
        case "failed":
            row["errorMessage"] = MESSAGE
        case "cancelled":
            row["errorMessage"] = "Cancelled by user"
    return row

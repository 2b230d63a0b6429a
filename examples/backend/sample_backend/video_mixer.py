"""The app `video-mixer`: many videos from one request, no status route per job, and downloads of the results.

A client learns the state of its job from the list of the project's generations, and a failed one carries no reason:
the table of the real app has no column for it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

from aiohttp import web

from . import charges
from .bodies import Field, Refusal, flag, number, one_of, optional, owner_of, read_json, record, require, text
from .failures import FAIL_JOB, obey, wishes
from .jobs import JOBS, Job

QUEUE = "video-mixer"
BASE = f"/api/apps/{QUEUE}"
routes = web.RouteTableDef()

MAX_VIDEOS = 100
"""Videos in one request, as the model's capabilities say."""

BODY = {"projectId": Field(text()), "totalVideos": Field(number(1, MAX_VIDEOS, whole=True)), "settings": Field(record)}
SETTINGS = {
    "enableOrderMixing": Field(flag),
    "enableDifferentStart": Field(flag),
    "fixedStartVideoId": optional(text()),
    "enableGroupMixing": Field(flag),
    "groupMixingMode": Field(one_of("sequential", "random")),
    "enableSpeedVariations": Field(flag),
    "speedMin": Field(number(0.5, 2.0)),
    "speedMax": Field(number(0.5, 2.0)),
    "metadataSource": Field(one_of("capcut", "tiktok", "instagram", "youtube")),
    "videoBitrate": Field(one_of("low", "medium", "high")),
    "videoResolution": Field(one_of("480p", "720p", "1080p", "4k")),
    "frameRate": Field(one_of(24, 30, 60)),
    "aspectRatio": Field(one_of("9:16", "16:9", "1:1", "4:5")),
    "durationType": Field(one_of("original", "fixed")),
    "fixedDuration": optional(number(0, 86_400)),
    "smartDistribution": Field(flag),
    "distributionMode": Field(one_of("proportional", "equal", "weighted")),
    "audioOption": Field(one_of("keep", "mute")),
}

FILE_BYTES = 384 * 1024
CHUNK_BYTES = 64 * 1024
MP4_HEADER = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom"
"""The first box of an MP4 file, so that tools which look at the content see a video."""


@routes.post(f"{BASE}/generate")
async def generate(request: web.Request) -> web.Response:
    """Accept `totalVideos` videos: 200 with `generation.id`."""
    body = await read_json(request)
    require(body, BODY)
    settings = body["settings"]
    require(settings, SETTINGS)
    words = wishes(body)
    await obey(request, words)
    total = int(body["totalVideos"])
    cost = charges.mix(settings, total)
    known = {name: settings[name] for name in SETTINGS if name in settings}
    book = request.app[JOBS]
    job = Job(
        queue=QUEUE,
        owner=owner_of(request),
        project_id=body["projectId"],
        takes_s=book.job_seconds,
        fails=FAIL_JOB in words,
        details={
            "totalVideos": total,
            "settings": json.dumps(known, separators=(",", ":")),
            "creditUsed": cost,
            "estimatedDuration": round(total * 3.72, 2),
            **known,
        },
    )
    book.add(job)
    return web.json_response(
        {
            "success": True,
            "generation": _row(job, job.created_s),
            "creditUsed": cost,
            "creditBalance": charges.REPORTED_BALANCE,
            "message": "Generation started! Check status in Generation History.",
        }
    )


@routes.get(f"{BASE}/projects/{{projectId}}/generations")
async def generations(request: web.Request) -> web.Response:
    """All jobs of a project, newest first; the only place where a job's state is shown."""
    now = time.time()
    jobs = request.app[JOBS].in_project(QUEUE, request.match_info["projectId"])
    return web.json_response({"success": True, "generations": [_row(job, now) for job in jobs]})


def _row(job: Job, now: float) -> dict[str, Any]:
    row = job.row(now)
    done = row["status"] == "completed"
    return row | {"outputPaths": json.dumps(_paths(job)) if done else None}


def _paths(job: Job) -> list[str]:
    return [f"/outputs/{job.id}_{number}.mp4" for number in range(1, job.details["totalVideos"] + 1)]


@routes.get(f"{BASE}/download/{{generationId}}/{{fileIndex}}")
async def download(request: web.Request) -> web.StreamResponse:
    """One finished video as an attachment, streamed in pieces, the same bytes every time."""
    job = request.app[JOBS].get(QUEUE, request.match_info["generationId"])
    if job is None:
        raise Refusal(404, "File not found")
    if job.status(time.time()) != "completed":
        raise Refusal(400, "Generation not completed yet")
    paths, index = _paths(job), request.match_info["fileIndex"]
    if not (index.isascii() and index.isdigit() and int(index) < len(paths)):
        raise Refusal(400, "Invalid file index")
    name = paths[int(index)].removeprefix("/outputs/")
    response = web.StreamResponse(
        headers={"Content-Type": "video/mp4", "Content-Disposition": f'attachment; filename="{name}"'}
    )
    response.content_length = FILE_BYTES
    await response.prepare(request)
    if request.method != "HEAD":
        for piece in _video(name):
            await response.write(piece)
    await response.write_eof()
    return response


def _video(name: str) -> Iterator[bytes]:
    """FILE_BYTES bytes in pieces: the header of an MP4 file, then the file's name over and over."""
    filler = (name.encode() + b"\n") * (CHUNK_BYTES // len(name) + 1)
    yield MP4_HEADER + filler[: CHUNK_BYTES - len(MP4_HEADER)]
    for _ in range(FILE_BYTES // CHUNK_BYTES - 1):
        yield filler[:CHUNK_BYTES]

"""The app `carousel-mix`: sets of slides, accepted with 201, polled by id.

Its real counterpart checks the body outside of its error handling, so a wrong body is answered with 500, not 400. The
sample keeps that: a sidecar must give the money back for it all the same.
"""

from __future__ import annotations

import json
import time
from typing import Any

from aiohttp import web

from . import charges
from .bodies import Field, Refusal, number, owner_of, read_json, require
from .failures import FAIL_JOB, MESSAGE, obey, wishes
from .jobs import JOBS, Job

QUEUE = "carousel-mix"
BASE = f"/api/apps/{QUEUE}"
routes = web.RouteTableDef()

BODY = {"numSlides": Field(number(2, 8, whole=True)), "numSets": Field(number(1, 100, whole=True))}


@routes.post(f"{BASE}/projects/{{projectId}}/generate")
async def generate(request: web.Request) -> web.Response:
    """Accept `numSets` sets of `numSlides` slides: 201 with `generation.id`."""
    body = await read_json(request)
    require(body, BODY, status=500)
    words = wishes(body)
    await obey(request, words)
    slides, sets = int(body["numSlides"]), int(body["numSets"])
    cost = charges.carousel(slides, sets)
    book = request.app[JOBS]
    job = Job(
        queue=QUEUE,
        owner=owner_of(request),
        project_id=request.match_info["projectId"],
        takes_s=book.job_seconds,
        fails=FAIL_JOB in words,
        details={
            "numSlides": slides,
            "numSetsGenerated": sets,
            "creditUsed": cost,
            "textVariationAlgo": "sequential",
        },
    )
    book.add(job)
    return web.json_response(
        {
            "success": True,
            "generation": _row(job, job.created_s),
            "creditUsed": cost,
            "creditBalance": charges.REPORTED_BALANCE,
            "message": "Generation started. Check back soon for results.",
        },
        status=201,
    )


@routes.get(f"{BASE}/generations/{{id}}")
async def generation(request: web.Request) -> web.Response:
    """One job with its state and, once completed, its files."""
    job = request.app[JOBS].get(QUEUE, request.match_info["id"])
    if job is None:
        raise Refusal(404, "Generation not found")
    return web.json_response({"success": True, "generation": _row(job, time.time())})


def _row(job: Job, now: float) -> dict[str, Any]:
    row = job.row(now) | {"outputPath": None, "outputPaths": None, "errorMessage": None}
    if row["status"] == "completed":
        row["outputPath"] = f"outputs/{job.id}.zip"
        row["outputPaths"] = json.dumps(
            [
                [f"outputs/{job.id}/set{number_of_set}_slide{slide}.png" for slide in range(1, row["numSlides"] + 1)]
                for number_of_set in range(1, row["numSetsGenerated"] + 1)
            ]
        )
    elif row["status"] == "failed":
        row["errorMessage"] = MESSAGE
    return row

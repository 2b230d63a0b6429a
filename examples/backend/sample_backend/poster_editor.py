"""The app `poster-editor`: one inpainting, a batch of them that may end in part, and a synchronous enhancement.

The batch works through its annotations one after the other. It is `processing` until every one of them has ended, then
`completed` when all succeeded and `partial` otherwise; the real app knows no third ending, so a batch in which nothing
succeeded is `partial` as well.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from . import charges
from .bodies import Refusal, owner_of, read_json
from .failures import FAIL_JOB, MESSAGE, obey, wishes, words_in
from .jobs import JOBS, Job, iso, new_id

BASE = "/api/apps/poster-editor"
INPAINT, BATCH = "poster-editor/inpaint", "poster-editor/inpaint-batch"
routes = web.RouteTableDef()


def _provider_id() -> str:
    """A job id as the image provider makes them: digits, too many to meet again after a restart."""
    return str(secrets.randbelow(9 * 10**14) + 10**14)


def _filled(value: object) -> bool:
    return isinstance(value, str) and value != ""


@routes.post(f"{BASE}/inpaint")
async def inpaint(request: web.Request) -> web.Response:
    """Accept one inpainting: 200 with `jobId`."""
    body = await read_json(request)
    if not all(_filled(body.get(name)) for name in ("posterId", "prompt", "maskDataUrl")):
        raise Refusal(400, "Missing required fields: posterId, prompt, maskDataUrl", success=False)
    words = wishes(body)
    await obey(request, words)
    book = request.app[JOBS]
    job = Job(
        queue=INPAINT,
        id=_provider_id(),
        owner=owner_of(request),
        takes_s=book.job_seconds,
        fails=FAIL_JOB in words,
        details={},
    )
    book.add(job)
    return web.json_response(
        {"success": True, "jobId": job.id, "creditsUsed": charges.INPAINT, "message": "Inpainting job started"}
    )


@routes.get(f"{BASE}/inpaint/{{jobId}}/status")
async def inpaint_status(request: web.Request) -> web.Response:
    """The state of one inpainting; 200 even when it failed."""
    job = request.app[JOBS].get(INPAINT, request.match_info["jobId"])
    if job is None:
        raise Refusal(404, "Job not found", success=False)
    now = time.time()
    shown: dict[str, Any] = {"success": True}
    match job.status(now):
        case "completed":
            url = f"https://images.example.com/{job.id}.png"
            shown |= {"status": "completed", "outputUrl": url, "message": "Inpainting completed successfully"}
        case "failed":
            shown |= {"status": "failed", "error": MESSAGE}
        case _:
            eta = round(job.takes_s * (1 - job.share_done(now)))
            shown |= {"status": "processing", "eta": eta, "message": "Inpainting in progress"}
    return web.json_response(shown)


@routes.post(f"{BASE}/inpaint-batch")
async def inpaint_batch(request: web.Request) -> web.Response:
    """Accept a batch: 200 with `batchId`; an annotation whose prompt says `fail-job` will fail alone."""
    body = await read_json(request)
    annotations = body.get("annotations")
    if not _filled(body.get("posterId")) or not isinstance(annotations, list) or not annotations:
        raise Refusal(400, "Invalid request: posterId and annotations array required")
    if not all(isinstance(one, dict) and _filled(one.get("prompt")) for one in annotations):
        raise Refusal(400, "Invalid request: every annotation needs a prompt")
    await obey(request, wishes(body) | words_in(*(one["prompt"] for one in annotations)))
    book = request.app[JOBS]
    job = Job(
        queue=BATCH,
        id=f"batch-{time.time_ns() // 1_000_000}-{secrets.token_hex(4)}",
        owner=owner_of(request),
        takes_s=book.job_seconds,
        fails=FAIL_JOB in wishes(body),
        details={"parts": [(_provider_id(), FAIL_JOB in words_in(one["prompt"])) for one in annotations]},
    )
    book.add(job)
    return web.json_response(
        {
            "success": True,
            "batchId": job.id,
            "totalAnnotations": len(annotations),
            "totalCreditsUsed": charges.INPAINT * len(annotations),
            "firstJobId": job.details["parts"][0][0],
        }
    )


@routes.get(f"{BASE}/inpaint-batch/{{batchId}}/status")
async def batch_status(request: web.Request) -> web.Response:
    """The state of a batch, whole and annotation by annotation."""
    batch = request.app[JOBS].get(BATCH, request.match_info["batchId"])
    if batch is None:
        raise Refusal(404, "Batch not found")
    parts = _parts(batch, time.time())
    return web.json_response(
        {
            "success": True,
            "batchId": batch.id,
            "overallStatus": _overall({part["status"] for part in parts}),
            "totalAnnotations": len(parts),
            "jobs": parts,
        }
    )


def _overall(states: set[str]) -> str:
    if "processing" in states:
        return "processing"
    return "partial" if "failed" in states else "completed"


def _parts(batch: Job, now: float) -> list[dict[str, Any]]:
    """The annotations' own states: the n-th of m has ended when n/m of the batch's time is over."""
    parts = batch.details["parts"]
    shown = []
    for index, (job_id, fails) in enumerate(parts):
        part: dict[str, Any] = {"annotationIndex": index, "jobId": job_id, "status": "processing"}
        if batch.share_done(now) >= (index + 1) / len(parts):
            if fails or batch.fails:
                part |= {"status": "failed", "error": MESSAGE}
            else:
                url = f"/uploads/poster-editor/inpainted/{batch.id}-{index}.png"
                part |= {"status": "completed", "outputUrl": url}
        shown.append(part | {"tempFiles": [], "fetchUrl": f"https://images.example.com/fetch/{job_id}"})
    return shown


@routes.post(f"{BASE}/enhance")
async def enhance(request: web.Request) -> web.Response:
    """Enhance a poster while the client waits; fails only on the spot, because there is no job."""
    body = await read_json(request)
    if not _filled(body.get("posterId")):
        raise Refusal(400, "Poster ID is required", success=False)
    await obey(request, wishes(body))
    return web.json_response(
        {
            "success": True,
            "poster": _enhanced(body, owner_of(request), time.time()),
            "creditsUsed": charges.ENHANCE,
            "message": "Enhancement completed",
        }
    )


def _enhanced(body: Mapping[str, Any], owner: str, now: float) -> dict[str, Any]:
    return {
        "id": body["posterId"],
        "userId": owner,
        "originalUrl": f"/uploads/poster-editor/{body['posterId']}.jpg",
        "enhancedUrl": f"/uploads/poster-editor/enhanced/{new_id()}.jpg",
        "model": body.get("model", "esrgan"),
        "status": "enhanced",
        "updatedAt": iso(now),
        "exports": [],
    }

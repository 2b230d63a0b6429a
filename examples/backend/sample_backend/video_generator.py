"""The app `video-generator`: text to video, accepted with 202, polled at a status route of its own."""

from __future__ import annotations

import time
from typing import Any

from aiohttp import web

from . import charges
from .bodies import Field, Refusal, flag, issues, number, one_of, optional, owner_of, read_json, text
from .failures import FAIL_JOB, MESSAGE, obey, wishes
from .jobs import JOBS, Job, new_id

QUEUE = "video-generator"
BASE = f"/api/apps/{QUEUE}"
routes = web.RouteTableDef()

BODY = {
    "projectId": Field(text()),
    "modelId": Field(text()),
    "prompt": Field(text(least=3, most=2000)),
    "negativePrompt": optional(text(most=1000)),
    "resolution": Field(one_of("720p", "1080p", "4k")),
    "duration": Field(number(1, 60, whole=True)),
    "aspectRatio": Field(one_of("16:9", "9:16", "1:1", "4:5")),
    "startImagePath": optional(text()),
    "endImagePath": optional(text()),
    "generateAudio": optional(flag),
    "enhancePrompt": optional(flag),
}


def _model(name: str, provider: str, max_seconds: int, resolutions: list[str], ratios: list[str]) -> dict[str, Any]:
    return {
        "name": name,
        "provider": provider,
        "maxDuration": max_seconds,
        "defaultDuration": charges.VIDEO_DEFAULT_SECONDS,
        "resolutions": resolutions,
        "aspectRatios": ratios,
        "supportsTextToVideo": True,
        "supportsImageToVideo": provider == "edenai",
        "supportsVideoToVideo": False,
        "supportsNegativePrompt": True,
        "supportsAudioGeneration": name.startswith("Google Veo 3"),
    }


HD, FULL_HD, UHD = ["720p"], ["720p", "1080p"], ["720p", "1080p", "4k"]
WIDE, SQUARE, FEED = ["16:9", "9:16"], ["16:9", "9:16", "1:1"], ["16:9", "9:16", "1:1", "4:5"]
MODELS = {
    "wan2.2": {
        **_model("Wan 2.2 T2V (Free)", "modelslab", 6, HD, WIDE),
        "description": "Text-to-Video Ultra - Fast and efficient",
    },
    "veo2": {
        **_model("Google Veo 2", "edenai", 10, FULL_HD, SQUARE),
        "description": "Advanced video generation with Veo 2",
    },
    "kling-2.5": {
        **_model("Kling 2.5 Pro", "edenai", 10, UHD, FEED),
        "description": "Professional video generation with Kling AI",
    },
    "veo3": {
        **_model("Google Veo 3 Enterprise", "edenai", 20, UHD, FEED),
        "description": "Latest Veo 3 with enterprise features",
    },
}
PROVIDERS = {"modelslab": "ModelsLab", "edenai": "Eden AI"}


@routes.post(f"{BASE}/generate")
async def generate(request: web.Request) -> web.Response:
    """Accept a video: 202 with `generation.id`."""
    body = await read_json(request)
    if found := issues(body, BODY):
        raise Refusal(400, "Validation error", details=found)
    if body["modelId"] not in MODELS:
        raise Refusal(400, f"Model {body['modelId']} not found")
    words = wishes(body)
    await obey(request, words)
    book = request.app[JOBS]
    job = book.add(
        Job(
            queue=QUEUE,
            owner=owner_of(request),
            project_id=body["projectId"],
            takes_s=book.job_seconds,
            fails=FAIL_JOB in words,
            details={"modelId": body["modelId"], "jobId": new_id(), "creditUsed": charges.video(body)},
        )
    )
    generation = {"id": job.id, "status": "pending", "creditUsed": job.details["creditUsed"]}
    message = "Video generation started. Check status for progress."
    return web.json_response({"success": True, "generation": generation, "message": message}, status=202)


@routes.get(f"{BASE}/generations/{{id}}/status")
async def status(request: web.Request) -> web.Response:
    """The state of one video, under the key `status` and again inside it."""
    job = request.app[JOBS].get(QUEUE, request.match_info["id"])
    if job is None:
        raise Refusal(404, "Generation not found")
    return web.json_response({"success": True, "status": _status(job, time.time())})


def _status(job: Job, now: float) -> dict[str, Any]:
    state = job.status(now)
    shown: dict[str, Any] = {"id": job.id, "jobId": job.details["jobId"], "status": state}
    if state == "processing":
        shown["progress"] = int(job.share_done(now) * 100)
    elif state == "completed":
        shown["videoUrl"] = f"https://videos.example.com/{job.id}.mp4"
        shown["thumbnailUrl"] = f"https://videos.example.com/{job.id}.jpg"
        shown["processingTime"] = round(job.takes_s)
    elif state == "failed":
        shown["errorMessage"] = MESSAGE
    return shown


@routes.get(f"{BASE}/models")
async def models(request: web.Request) -> web.Response:
    """The models that `modelId` may name, and who provides them."""
    listed = [{"id": model_id, **model} for model_id, model in MODELS.items()]
    providers = [
        {"name": name, "displayName": shown, "modelCount": sum(model["provider"] == name for model in listed)}
        for name, shown in PROVIDERS.items()
    ]
    return web.json_response({"success": True, "models": listed, "providers": providers})

"""The app `avatar-creator`: portraits from text as jobs, and portraits that are uploaded.

Its answers have no `success` key and no charge. The upload is read as it arrives and only measured: no part of a file
is kept, whatever its size.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from .bodies import Refusal, issues, number, optional, owner_of, read_json, text
from .failures import FAIL_JOB, obey, wishes, words_in
from .jobs import JOBS, Job, iso, new_id

QUEUE = "avatar-creator"
BASE = f"/api/apps/{QUEUE}"
routes = web.RouteTableDef()

DEFAULT_PIXELS = 1024
LOOKS = ("gender", "ageRange", "ethnicity", "style")
PERSONA = ("personaName", "personaAge", "personaPersonality", "personaBackground")
CHECKED = {
    "width": optional(number(64, 4096, whole=True)),
    "height": optional(number(64, 4096, whole=True)),
    "seed": optional(number(0, 2**53, whole=True)),
    "name": optional(text(most=200)),
    "prompt": optional(text()),
}

IMAGE_TYPES = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp"}
MAX_IMAGE_BYTES = 10 * 1024 * 1024
MAX_FIELD_BYTES = 64 * 1024
"""Bytes of one text field of an upload: a persona is a few sentences."""
MAX_PARTS = 64
"""Parts of one upload: the form has sixteen fields."""


@routes.post(f"{BASE}/projects/{{projectId}}/avatars/generate")
async def generate(request: web.Request) -> web.Response:
    """Accept one portrait: 200 with `generation.id`."""
    body = await read_json(request)
    if not _given(body.get("name")):
        raise Refusal(400, "Avatar name is required")
    if not _given(body.get("prompt")):
        raise Refusal(400, "Prompt is required for generation")
    if found := issues(body, CHECKED):
        raise Refusal(400, json.dumps(found))
    words = wishes(body)
    await obey(request, words)
    book = request.app[JOBS]
    job = Job(
        queue=QUEUE,
        owner=owner_of(request),
        project_id=request.match_info["projectId"],
        takes_s=book.job_seconds,
        fails=FAIL_JOB in words,
        details={"prompt": body["prompt"], "options": json.dumps(_options(body))},
    )
    book.add(job)
    return web.json_response(
        {
            "message": "Avatar generation started",
            "generation": _row(job, job.created_s),
            "note": "Generation is processing in background. Check status using generation ID.",
        }
    )


def _given(value: object) -> bool:
    return isinstance(value, str) and value.strip() != ""


def _options(body: Mapping[str, Any]) -> dict[str, Any]:
    options = {"width": body.get("width", DEFAULT_PIXELS), "height": body.get("height", DEFAULT_PIXELS)}
    return options | {name: body[name] for name in ("seed", *LOOKS) if name in body}


@routes.get(f"{BASE}/generations/{{id}}")
async def generation(request: web.Request) -> web.Response:
    """One job; `avatarId` is set once it has completed."""
    job = request.app[JOBS].get(QUEUE, request.match_info["id"])
    if job is None:
        raise Refusal(404, "Generation not found")
    return web.json_response({"generation": _row(job, time.time())})


def _row(job: Job, now: float) -> dict[str, Any]:
    row = job.row(now)
    return row | {
        "avatarId": f"c{job.id[:0:-1]}" if row["status"] == "completed" else None,
        "errorMessage": "GENERATION_TIMEOUT" if row["status"] == "failed" else None,
    }


@routes.post(f"{BASE}/projects/{{projectId}}/avatars/upload")
async def upload(request: web.Request) -> web.Response:
    """Take a portrait as multipart form data: 200 with `avatar.fileSize` in bytes."""
    form, image = await _read_form(request)
    await obey(request, words_in(form.get("simulate")))
    if image is None:
        raise Refusal(400, "Image file is required")
    if not _given(form.get("name")):
        raise Refusal(400, "Avatar name is required")
    if image["mimeType"] not in IMAGE_TYPES:
        raise Refusal(400, "Invalid file type. Only JPEG, PNG and WebP images are allowed")
    if image["fileSize"] > MAX_IMAGE_BYTES:
        raise Refusal(400, "File size exceeds maximum limit of 10MB")
    avatar_id = new_id()
    avatar = {
        "id": avatar_id,
        "projectId": request.match_info["projectId"],
        "userId": owner_of(request),
        "name": form["name"],
        **{name: form.get(name) for name in (*PERSONA, *LOOKS)},
        **image,
        "imageUrl": f"/uploads/avatar-creator/{avatar_id}.{IMAGE_TYPES[image['mimeType']]}",
        "sourceType": "uploaded",
        "createdAt": iso(time.time()),
    }
    return web.json_response({"message": "Avatar uploaded successfully", "avatar": avatar})


async def _read_form(request: web.Request) -> tuple[dict[str, str], dict[str, Any] | None]:
    """The text fields, and name, type and size of the part `image`; raises Refusal(400) for a broken form.

    The whole body is read even when it will be refused, so that the client gets the answer and not a broken pipe.
    """
    if request.content_type != "multipart/form-data":
        raise Refusal(400, "Image file is required")
    form: dict[str, str] = {}
    image: dict[str, Any] | None = None
    parts = 0
    try:
        async for part in await request.multipart():
            parts += 1
            if not isinstance(part, BodyPartReader) or parts > MAX_PARTS:
                raise Refusal(400, "Malformed form data")
            if part.name == "image":
                image = await _measure(part)
            else:
                form[part.name or ""] = await _text(part)
    except (ValueError, HttpProcessingError):
        raise Refusal(400, "Malformed form data") from None
    return form, image


async def _measure(part: BodyPartReader) -> dict[str, Any]:
    size_bytes = 0
    while chunk := await part.read_chunk():
        size_bytes += len(chunk)
    mime_type = part.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return {"fileName": part.filename, "mimeType": mime_type, "fileSize": size_bytes}


async def _text(part: BodyPartReader) -> str:
    value = bytearray()
    while chunk := await part.read_chunk():
        value += chunk
        if len(value) > MAX_FIELD_BYTES:
            raise Refusal(400, f"Form field {part.name} is too long")
    return value.decode(errors="replace")

"""What each app of the sample backend answers: charges, rows, lists, files, uploads, and the bodies it refuses."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import FormData

Serve = Callable[..., Awaitable[Any]]

LONG_S = 60
UPLOAD_PATH = "/api/apps/avatar-creator/projects/p1/avatars/upload"


async def test_video_is_accepted_with_202_and_its_charge(serve: Serve) -> None:
    """A video is accepted with exactly id, status and charge; what makes it harder makes it dearer."""
    backend = await serve(LONG_S)
    accepted = await backend.start("video")
    assert accepted == {
        "success": True,
        "generation": {"id": accepted["generation"]["id"], "status": "pending", "creditUsed": 500},
        "message": "Video generation started. Check status for progress.",
    }
    dear = await backend.start("video", resolution="4k", duration=15, generateAudio=True, startImagePath="/a.png")
    assert dear["generation"]["creditUsed"] == 500 + 500 + 2 * 250 + 100 + 10


async def test_video_status_names_the_result(serve: Serve) -> None:
    """The status of a completed video holds its address and the time it took."""
    backend = await serve()
    seen = await backend.ending("video", await backend.start("video"))
    assert seen.keys() == {"id", "jobId", "status", "videoUrl", "thumbnailUrl", "processingTime"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt", "ab"),
        ("prompt", "a" * 2001),
        ("duration", 0),
        ("duration", 61),
        ("duration", 5.5),
        ("duration", True),
        ("duration", 1e300),
        ("resolution", "8k"),
        ("modelId", None),
    ],
)
async def test_a_bad_video_request_names_the_field(serve: Serve, field: str, value: object) -> None:
    """A field out of its range is refused with 400, and named."""
    backend = await serve()
    refused = await backend.refused("video", **{field: value})
    assert refused["error"] == "Validation error"
    assert [issue["path"] for issue in refused["details"]] == [[field]]


async def test_video_models_are_the_four_known_ones(serve: Serve) -> None:
    """The list of models names every id that `modelId` may be; another id is refused."""
    backend = await serve()
    listed = await backend.get("/api/apps/video-generator/models")
    assert [model["id"] for model in listed["models"]] == ["wan2.2", "veo2", "kling-2.5", "veo3"]
    assert [(one["name"], one["modelCount"]) for one in listed["providers"]] == [("modelslab", 1), ("edenai", 3)]
    assert await backend.refused("video", modelId="sora") == {"error": "Model sora not found"}


async def test_inpaint_speaks_of_failure_with_200(serve: Serve) -> None:
    """The status of an inpainting is 200 with `success: true`, even when the job failed."""
    backend = await serve()
    accepted = await backend.start("inpaint", prompt="fail-job")
    assert accepted.items() >= {"success": True, "creditsUsed": 400, "message": "Inpainting job started"}.items()
    seen = await backend.ending("inpaint", accepted)
    assert seen == {"success": True, "status": "failed", "error": "Simulated failure"}


async def test_a_batch_with_a_failing_annotation_is_partial(serve: Serve) -> None:
    """A batch is processing until all annotations have ended, and partial when some failed."""
    backend = await serve()
    prompts = ("sky", "fail-job", "sea")
    accepted = await backend.start("batch", annotations=[{"prompt": prompt} for prompt in prompts])
    assert (accepted["totalAnnotations"], accepted["totalCreditsUsed"]) == (3, 1200)
    while (seen := await backend.look("batch", accepted))["overallStatus"] == "processing":
        assert "processing" in [job["status"] for job in seen["jobs"]]
        await asyncio.sleep(0.005)
    assert seen["overallStatus"] == "partial"
    assert [job["status"] for job in seen["jobs"]] == ["completed", "failed", "completed"]
    assert seen["jobs"][0]["jobId"] == accepted["firstJobId"]


async def test_enhance_is_done_at_once(serve: Serve) -> None:
    """Enhancing answers with the enhanced poster and its charge, without a job."""
    backend = await serve()
    answer = await backend.start("enhance")
    assert (answer["creditsUsed"], answer["poster"]["id"], answer["poster"]["status"]) == (150, "poster1", "enhanced")


async def test_mixing_reports_how_many_videos_and_what_they_cost(serve: Serve) -> None:
    """The mixer's accepting answer holds the charge twice, and the row that the project's list will show."""
    backend = await serve(LONG_S)
    accepted = await backend.start("mix")
    row = accepted["generation"]
    assert (accepted["creditUsed"], row["creditUsed"], row["totalVideos"]) == (40, 40, 10)
    assert (row["status"], row["outputPaths"], row["completedAt"]) == ("pending", None, None)
    assert json.loads(row["settings"])["videoResolution"] == "720p"
    assert (await backend.look("mix", accepted)).keys() == row.keys()


async def test_a_projects_jobs_are_listed_newest_first(serve: Serve) -> None:
    """The list of a project's generations holds all of its jobs and no other project's."""
    backend = await serve(LONG_S)
    first = (await backend.start("mix"))["generation"]["id"]
    await backend.start("mix", projectId="p2")
    last = (await backend.start("mix"))["generation"]["id"]
    listed = await backend.get("/api/apps/video-mixer/projects/p1/generations")
    assert [row["id"] for row in listed["generations"]] == [last, first]


async def test_a_mixed_video_downloads_whole_and_repeatably(serve: Serve) -> None:
    """A finished video is an attachment of 384 KiB, the same at every download; a HEAD has no body."""
    backend = await serve()
    seen = await backend.ending("mix", await backend.start("mix", totalVideos=2))
    name = json.loads(seen["outputPaths"])[1].rpartition("/")[2]
    path, client = f"/api/apps/video-mixer/download/{seen['id']}/1", backend.client
    async with client.get(path) as first, client.get(path) as second, client.head(path) as head:
        video = await first.read()
        assert first.headers["Content-Type"] == "video/mp4"
        assert first.headers["Content-Disposition"] == f'attachment; filename="{name}"'
        assert len(video) == first.content_length == head.content_length == 384 * 1024
        assert video == await second.read()
        assert (head.status, await head.read()) == (200, b"")


async def test_only_finished_files_that_exist_can_be_downloaded(serve: Serve) -> None:
    """A download is refused while the job runs, beyond the last file, and for a job nobody started."""
    running, done = await serve(LONG_S), await serve(0)
    early = (await running.start("mix"))["generation"]["id"]
    job = (await done.start("mix"))["generation"]["id"]
    base = "/api/apps/video-mixer/download"
    assert await running.get(f"{base}/{early}/0", 400) == {"error": "Generation not completed yet"}
    for index in ("10", "-1", "x", "²", "9" * 50):
        assert await done.get(f"{base}/{job}/{index}", 400) == {"error": "Invalid file index"}
    assert await done.get(f"{base}/nobody/0", 404) == {"error": "File not found"}


async def test_a_carousel_ends_with_a_file_for_every_slide(serve: Serve) -> None:
    """A carousel costs half a credit per slide and set, and ends with a file for each of them."""
    backend = await serve()
    accepted = await backend.start("carousel")
    row = accepted["generation"]
    assert (accepted["creditUsed"], row["creditUsed"], row["numSetsGenerated"]) == (20, 20, 10)
    seen = await backend.ending("carousel", accepted)
    assert [len(paths) for paths in json.loads(seen["outputPaths"])] == [4] * 10


async def test_a_loop_can_be_cancelled_until_it_ends(serve: Serve) -> None:
    """Cancelling ends a running job as cancelled, once; an ended one can no longer be cancelled."""
    backend = await serve(LONG_S)
    accepted = await backend.start("loop")
    assert (accepted["creditUsed"], accepted["generation"]["targetDuration"]) == (12, 3600)
    cancel = f"/api/apps/looping-flow/generations/{accepted['generation']['id']}/cancel"
    row = (await backend.post(cancel, None))["generation"]
    assert (row["status"], row["errorMessage"]) == ("cancelled", "Cancelled by user")
    assert (await backend.look("loop", accepted))["status"] == "cancelled"
    assert "error" in await backend.post(cancel, None, 400)


async def test_an_avatar_has_its_id_only_when_completed(serve: Serve) -> None:
    """The avatar app's answers hold no `success` and no charge, and `avatarId` appears at the end."""
    backend = await serve()
    accepted = await backend.start("avatar")
    assert accepted.keys() == {"message", "generation", "note"}
    assert accepted["generation"]["avatarId"] is None
    assert json.loads(accepted["generation"]["options"]) == {"width": 1024, "height": 1024}
    assert (await backend.ending("avatar", accepted))["avatarId"]


@pytest.mark.parametrize(
    ("headers", "owner"),
    [
        ({"X_Farebox_User": "u1", "X_Farebox_Account": "team1"}, "u1"),
        ({"X_Farebox_Account": "team1"}, "team1"),
        ({}, "anonymous"),
    ],
)
async def test_a_row_repeats_who_is_said_to_call(serve: Serve, headers: dict[str, str], owner: str) -> None:
    """`userId` is the user the sidecar names, else its account; nobody is turned away for having neither."""
    backend = await serve()
    body = {"numSlides": 4, "numSets": 1}
    accepted = await backend.post("/api/apps/carousel-mix/projects/p1/generate", body, 201, **headers)
    assert accepted["generation"]["userId"] == owner


@pytest.mark.parametrize(
    ("route", "changes", "status"),
    [
        ("mix", {"totalVideos": 0}, 400),
        ("mix", {"totalVideos": 101}, 400),
        ("mix", {"totalVideos": "10"}, 400),
        ("mix", {"settings": {}}, 400),
        ("mix", {"settings": None}, 400),
        ("loop", {"targetDuration": 0}, 400),
        ("loop", {"loopStyle": "knot"}, 400),
        ("inpaint", {"maskDataUrl": ""}, 400),
        ("batch", {"annotations": []}, 400),
        ("batch", {"annotations": ["sky"]}, 400),
        ("enhance", {"posterId": None}, 400),
        ("avatar", {"name": " "}, 400),
        ("avatar", {"prompt": None}, 400),
        ("avatar", {"width": "wide"}, 400),
        ("carousel", {"numSlides": 9}, 500),
        ("carousel", {"numSets": None}, 500),
    ],
)
async def test_a_bad_body_is_refused_with_an_error(
    serve: Serve, route: str, changes: dict[str, object], status: int
) -> None:
    """A wrong body is refused with a sentence under `error`: 400, and 500 from the one app that never catches it."""
    backend = await serve()
    refused = await backend.refused(route, status, **changes)
    assert isinstance(refused["error"], str)


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff\xfe", b'{"posterId": NaN}', b"[" * 100_000])
async def test_what_is_not_json_is_refused(serve: Serve, raw: bytes) -> None:
    """A body that JSON does not allow is refused with 400, however it is broken."""
    backend = await serve()
    async with backend.client.post("/api/apps/poster-editor/enhance", data=raw) as answer:
        assert answer.status == 400
        assert await answer.json() == {"error": "Malformed JSON in request body"}


def form(size_bytes: int, mime_type: str = "image/png", **fields: str) -> FormData:
    """A form with an image of a size, and text fields after it."""
    data = FormData()
    data.add_field("image", io.BytesIO(b"\x89" * size_bytes), filename="a.png", content_type=mime_type)
    for name, value in fields.items():
        data.add_field(name, value)
    return data


async def test_an_uploaded_avatar_is_measured(serve: Serve) -> None:
    """An upload of several megabytes is answered with the exact size of its file."""
    backend = await serve()
    async with backend.client.post(UPLOAD_PATH, data=form(5_000_001, name="Sari", style="casual")) as answer:
        assert answer.status == 200
        avatar = (await answer.json())["avatar"]
    assert (avatar["fileSize"], avatar["fileName"], avatar["name"]) == (5_000_001, "a.png", "Sari")
    assert (avatar["mimeType"], avatar["style"], avatar["gender"]) == ("image/png", "casual", None)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(form(10, name=" "), 400, id="no name"),
        pytest.param({"name": "Sari"}, 400, id="no image"),
        pytest.param(form(10, "text/html", name="Sari"), 400, id="no image type"),
        pytest.param(form(10 * 1024 * 1024 + 1, name="Sari"), 400, id="too large"),
        pytest.param(form(10, name="Sari", personaBackground="x" * 70_000), 400, id="too long"),
        pytest.param(form(10, name="Sari", simulate="fail-now"), 500, id="fail-now"),
    ],
)
async def test_a_bad_upload_is_refused(serve: Serve, data: Any, status: int) -> None:
    """An upload without a name, without an image, of another type or too large is refused."""
    backend = await serve()
    async with backend.client.post(UPLOAD_PATH, data=data) as answer:
        assert answer.status == status
        assert isinstance((await answer.json())["error"], str)


@pytest.mark.parametrize(
    ("content_type", "raw"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=b", b"x"),
        ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\nabc'),
        ("multipart/form-data; boundary=b", b"--b\r\nno header\r\n\r\nabc\r\n--b--\r\n"),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c--\r\n--b--"),
    ],
)
async def test_a_malformed_form_is_refused(serve: Serve, content_type: str, raw: bytes) -> None:
    """A form that cannot be read to its end is refused with 400."""
    backend = await serve()
    async with backend.client.post(UPLOAD_PATH, data=raw, headers={"Content-Type": content_type}) as answer:
        assert answer.status == 400
        assert isinstance((await answer.json())["error"], str)

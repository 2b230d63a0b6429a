"""The sample backend as tests see it: loaded by path, started on a real socket, asked the way its clients ask.

The backend is a program beside the packages and not one of them, so it is loaded from its file.
"""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

BACKEND = Path(__file__).parents[2] / "examples" / "backend"
PATIENCE_S = 5
ENDED = ("completed", "failed", "cancelled", "partial")

MIX_SETTINGS = {
    "enableOrderMixing": True,
    "enableDifferentStart": True,
    "enableGroupMixing": False,
    "groupMixingMode": "sequential",
    "enableSpeedVariations": False,
    "speedMin": 0.5,
    "speedMax": 2.0,
    "metadataSource": "capcut",
    "videoBitrate": "medium",
    "videoResolution": "720p",
    "frameRate": 30,
    "aspectRatio": "9:16",
    "durationType": "original",
    "smartDistribution": False,
    "distributionMode": "proportional",
    "audioOption": "keep",
}
VIDEO = {
    "projectId": "p1",
    "modelId": "wan2.2",
    "prompt": "a red bus",
    "resolution": "720p",
    "duration": 5,
    "aspectRatio": "16:9",
}
INPAINT = {"posterId": "poster1", "prompt": "a blue sky", "maskDataUrl": "data:image/png;base64,iVBORw0KGgo="}
BATCH = {"posterId": "poster1", "annotations": [{"prompt": "sky"}, {"prompt": "sea"}, {"prompt": "sand"}]}
LOOP = {"projectId": "p1", "videoId": "v1", "targetDuration": 3600}

GOOD_REQUESTS: dict[str, tuple[str, dict[str, Any], int]] = {
    "video": ("/api/apps/video-generator/generate", VIDEO, 202),
    "inpaint": ("/api/apps/poster-editor/inpaint", INPAINT, 200),
    "batch": ("/api/apps/poster-editor/inpaint-batch", BATCH, 200),
    "enhance": ("/api/apps/poster-editor/enhance", {"posterId": "poster1"}, 200),
    "mix": ("/api/apps/video-mixer/generate", {"projectId": "p1", "totalVideos": 10, "settings": MIX_SETTINGS}, 200),
    "carousel": ("/api/apps/carousel-mix/projects/p1/generate", {"numSlides": 4, "numSets": 10}, 201),
    "loop": ("/api/apps/looping-flow/generate", LOOP, 200),
    "avatar": (
        "/api/apps/avatar-creator/projects/p1/avatars/generate",
        {"name": "Sari", "prompt": "studio portrait"},
        200,
    ),
}
"""For every route that works on demand: its path, a good body, and the status of success."""


class Backend:
    """A running sample backend, and a client that insists on the status it expects."""

    def __init__(self, client: TestClient[web.Request, web.Application]) -> None:
        self.client = client

    async def post(self, path: str, body: object, status: int = 200, **headers: str) -> dict[str, Any]:
        """POST JSON; a header's name is written with underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client.post(path, json=body, headers=named) as answer:
            assert answer.status == status, await answer.text()
            return dict(await answer.json())

    async def get(self, path: str, status: int = 200) -> dict[str, Any]:
        """GET JSON."""
        async with self.client.get(path) as answer:
            assert answer.status == status, await answer.text()
            return dict(await answer.json())

    async def start(self, route: str, **changes: object) -> dict[str, Any]:
        """Send the route's good request with these changes, and insist on success."""
        path, body, status = GOOD_REQUESTS[route]
        return await self.post(path, body | changes, status)

    async def refused(self, route: str, status: int = 400, **changes: object) -> dict[str, Any]:
        """Send the route's good request with these changes, and insist on that refusal."""
        path, body, _ = GOOD_REQUESTS[route]
        return await self.post(path, body | changes, status)

    async def look(self, route: str, accepted: dict[str, Any]) -> dict[str, Any]:
        """What is shown of a job, found the way a client of that app finds it; its state is under `status`."""
        if route == "inpaint":
            return await self.get(f"/api/apps/poster-editor/inpaint/{accepted['jobId']}/status")
        if route == "batch":
            seen = await self.get(f"/api/apps/poster-editor/inpaint-batch/{accepted['batchId']}/status")
            return seen | {"status": seen["overallStatus"]}
        job_id = accepted["generation"]["id"]
        if route == "video":
            return dict((await self.get(f"/api/apps/video-generator/generations/{job_id}/status"))["status"])
        if route == "carousel":
            return dict((await self.get(f"/api/apps/carousel-mix/generations/{job_id}"))["generation"])
        if route == "avatar":
            return dict((await self.get(f"/api/apps/avatar-creator/generations/{job_id}"))["generation"])
        if route == "mix":
            listed = (await self.get("/api/apps/video-mixer/projects/p1/generations"))["generations"]
        else:
            listed = (await self.get("/api/apps/looping-flow/projects/p1"))["project"]["generations"]
        return next(dict(row) for row in listed if row["id"] == job_id)

    async def ending(self, route: str, accepted: dict[str, Any]) -> dict[str, Any]:
        """Poll until the job has ended, and return what is shown of it then."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                seen = await self.look(route, accepted)
                if seen["status"] in ENDED:
                    return seen
                await asyncio.sleep(0.01)


@pytest.fixture(scope="session")
def backend_program() -> Path:
    """The file that `python` is given to run the sample backend."""
    return BACKEND / "app.py"


@pytest.fixture(scope="session")
def backend_module(backend_program: Path) -> ModuleType:
    """The module `app.py` of the sample backend; its siblings are on the import path only while it is loaded."""
    spec = importlib.util.spec_from_file_location("sample_backend_app", backend_program)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BACKEND))
        spec.loader.exec_module(module)
    return module


@pytest.fixture
def serve(
    backend_module: ModuleType,
    aiohttp_client: Callable[[web.Application], Awaitable[TestClient[web.Request, web.Application]]],
) -> Callable[..., Awaitable[Backend]]:
    """A function that starts a backend on a real socket: `backend = await serve(job_seconds=60)`."""

    async def start(job_seconds: float = 0.05) -> Backend:
        return Backend(await aiohttp_client(backend_module.create_app(job_seconds=job_seconds)))

    return start

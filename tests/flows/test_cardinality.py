"""Threat A05: what clients send makes no series of metrics, however much of it is new."""

from __future__ import annotations

import asyncio
import random
import string
from collections.abc import Iterator

from prometheus_client import CollectorRegistry

from policies.refusals import Reason, Refusal
from proxy.metrics import Metrics
from proxy.pipeline.recording import Recorder
from tests.flows.house import House
from tests.flows.raw import RawClient, request

EACH = 130
"""Requests that one client sends, one after the other."""


def noise(chance: random.Random) -> str:
    return "".join(chance.choices(string.ascii_letters + string.digits, k=12))


def requests(house: House, chance: random.Random) -> Iterator[bytes]:
    """Paths, models, users, credentials and jobs that never were there before."""
    last, user = "Connection: close", f"Authorization: {house.headers('someone')['Authorization']}"
    stranger = f"Authorization: {house.headers(noise(chance))['Authorization']}"
    wanted, path = b'{"model": "%s", "messages": []}', "/v1/chat/completions"
    made = [
        lambda: request(f"GET /{noise(chance)}/{noise(chance)}?{noise(chance)}", last),
        lambda: request(f"POST {path}", last, user, body=wanted % noise(chance).encode()),
        lambda: request(f"POST {path}", last, f"Authorization: Bearer {noise(chance)}", body=wanted % b"m"),
        lambda: request(f"GET /api/apps/video-generator/generations/{noise(chance)}/status", last, user),
        lambda: request(f"GET /api/{noise(chance)}", last, stranger),
        lambda: request(f"DELETE /{noise(chance)}", last, f"X-{noise(chance)}: {noise(chance)}"),
    ]
    for number in range(EACH):
        yield made[number % len(made)]()


async def sent(house: House, chance: random.Random) -> None:
    host, _, port = house.url.removeprefix("http://").rpartition(":")
    for sending in requests(house, chance):
        client = await RawClient.connect(host, int(port))
        await client.send(sending)
        assert (await client.rest()).startswith(b"HTTP/1.1 4")
        await client.close()


async def series(house: House) -> set[str]:
    """The names and labels of everything that is measured."""
    async with house.client.get(house.admin_url + "/metrics") as page:
        return {line.rpartition(" ")[0] for line in (await page.text()).splitlines() if not line.startswith("#")}


async def test_a05_random_requests_make_no_series(house: House) -> None:
    """After the first of each outcome, a thousand more leave the page of metrics as long as it was."""
    chance = random.Random(20260115)
    # So many failures that the next ones are limited, which is an outcome of its own.
    await asyncio.gather(*(sent(house, chance) for _ in range(6)))
    before = await series(house)
    await asyncio.gather(*(sent(house, chance) for _ in range(8)))
    assert await series(house) == before
    assert len(before) < 300


async def test_a05_a_hundred_thousand_refusals_are_a_few_series() -> None:
    """Labels are routes of the settings and reasons of the code; models, methods and sentences are none."""
    chance, registry = random.Random(1), CollectorRegistry()
    recorder, reasons = Recorder(Metrics(registry)), list(Reason)
    for number in range(100_000):
        word = str(number)
        refusal = Refusal(chance.choice(reasons), word, word, {"modelKey": word})
        recorder.refused(word, f"route-{number % 20}", word, refusal, 400 + number % 100, word)
    found = [sample for family in registry.collect() for sample in family.samples if "requests" in sample.name]
    # Two for each: the count, and the moment at which it began.
    assert len(found) <= 2 * 20 * len(reasons)

"""What the chat of the sample backend promises: answers and token counts that can be worked out by hand."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import ClientPayloadError

Serve = Callable[..., Awaitable[Any]]

CHAT_PATH = "/v1/chat/completions"


def chat(content: object, **options: Any) -> dict[str, Any]:
    """A chat request with a system message of two words."""
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": content}]
    return {"model": "gpt-4o-mini", "messages": messages, **options}


async def events(backend: Any, body: dict[str, Any]) -> tuple[list[dict[str, Any]], str]:
    """The JSON of every event of a stream in order, and the text of the last event."""
    async with backend.client.post(CHAT_PATH, json=body) as answer:
        assert answer.status == 200
        assert answer.content_type == "text/event-stream"
        text = await answer.text()
    *chunks, last = [event.removeprefix("data: ") for event in text.split("\n\n") if event]
    return [json.loads(chunk) for chunk in chunks], last


async def test_chat_echoes_and_counts_words(serve: Serve) -> None:
    """A chat answers with the last user message; one word is one token."""
    backend = await serve()
    answer = await backend.post(CHAT_PATH, chat("one two  three"))
    assert answer["choices"][0]["message"]["content"] == "one two three"
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"] == {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}


async def test_chat_reads_text_parts(serve: Serve) -> None:
    """A content that is a list of parts counts its texts, and nothing of its images."""
    backend = await serve()
    parts = [{"type": "text", "text": "one two"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    assert (await backend.post(CHAT_PATH, chat(parts)))["usage"]["prompt_tokens"] == 4


@pytest.mark.parametrize(
    ("caps", "words"),
    [
        ({"max_tokens": 2}, 2),
        ({"max_completion_tokens": 1}, 1),
        ({"max_tokens": 3, "max_completion_tokens": 2}, 2),
        ({"max_tokens": 4}, 4),
        ({"max_tokens": 9}, 4),
        ({"max_tokens": None}, 4),
    ],
)
async def test_chat_is_cut_at_the_smallest_cap(serve: Serve, caps: dict[str, int | None], words: int) -> None:
    """An answer is cut at the smaller of `max_tokens` and `max_completion_tokens`, and says so."""
    backend = await serve()
    answer = await backend.post(CHAT_PATH, chat("one two three four", **caps))
    assert answer["usage"]["completion_tokens"] == words
    assert answer["choices"][0]["finish_reason"] == ("length" if words < 4 else "stop")


async def test_a_stream_has_no_usage_unless_asked(serve: Serve) -> None:
    """A stream sends the role, one chunk per word, the reason for its end, and `[DONE]`; no chunk speaks of usage."""
    backend = await serve()
    chunks, last = await events(backend, chat("one two three", stream=True))
    choices = [chunk["choices"][0] for chunk in chunks]
    assert last == "[DONE]"
    assert [choice["delta"].get("content") for choice in choices] == ["", "one", " two", " three", None]
    assert [choice["finish_reason"] for choice in choices] == [None] * 4 + ["stop"]
    assert not any("usage" in chunk for chunk in chunks)


async def test_a_stream_ends_with_usage_when_asked(serve: Serve) -> None:
    """With `include_usage` the last chunk has the usage and no choices, and every other chunk says null."""
    backend = await serve()
    asked = chat("one two three", stream=True, stream_options={"include_usage": True}, max_tokens=2)
    chunks, last = await events(backend, asked)
    assert last == "[DONE]"
    assert (chunks[-1]["choices"], chunks[-1]["usage"]["completion_tokens"]) == ([], 2)
    assert {chunk["usage"] for chunk in chunks[:-1]} == {None}


@pytest.mark.parametrize(("prompt", "whole_chunks"), [("please cut this here", 3), ("cut", 2)])
async def test_cut_breaks_a_stream_off(serve: Serve, prompt: str, whole_chunks: int) -> None:
    """`cut` sends a few chunks and closes the connection without an end, which a client can tell."""
    backend = await serve()
    received = bytearray()

    async def read_all() -> None:
        async for data in answer.content.iter_any():
            received.extend(data)

    async with backend.client.post(CHAT_PATH, json=chat(prompt, stream=True)) as answer:
        assert answer.status == 200
        with pytest.raises(ClientPayloadError):
            await read_all()
    assert received.count(b"data: ") == whole_chunks
    assert b"[DONE]" not in received


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"model": "gpt-9"}, 404, "model_not_found"),
        ({"messages": []}, 400, None),
        ({"max_tokens": 0}, 400, None),
        ({"n": 2}, 400, None),
        ({"stream": "yes"}, 400, None),
        ({"stream_options": "yes"}, 400, None),
        ({"messages": [{"role": "user", "content": "fail-now"}]}, 500, None),
    ],
)
async def test_a_chat_error_has_the_openai_shape(
    serve: Serve, change: dict[str, Any], status: int, code: str | None
) -> None:
    """A refused chat answers with message, type, param and code under `error`."""
    backend = await serve()
    error = (await backend.post(CHAT_PATH, chat("one") | change, status))["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["code"] == code


async def test_the_openai_sdk_understands_the_chat(serve: Serve) -> None:
    """OpenAI's own client lists models, chats, and streams with usage."""
    openai = pytest.importorskip("openai")
    backend = await serve()
    url = str(backend.client.make_url("/v1"))
    async with openai.AsyncOpenAI(base_url=url, api_key="unused", max_retries=0) as sdk:
        assert [model.id async for model in sdk.models.list()] == ["gpt-4o-mini", "gpt-4o"]
        answer = await sdk.chat.completions.create(**chat("one two three"))
        assert (answer.choices[0].message.content, answer.usage.total_tokens) == ("one two three", 8)
        asked = chat("one two three", stream=True, stream_options={"include_usage": True})
        chunks = [chunk async for chunk in await sdk.chat.completions.create(**asked)]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == "one two three"
        assert chunks[-1].usage.total_tokens == 8
        with pytest.raises(openai.NotFoundError):
            await sdk.chat.completions.create(**chat("one", model="gpt-9"))

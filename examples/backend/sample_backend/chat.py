"""An OpenAI-compatible chat endpoint whose answers and token counts can be worked out by hand.

It echoes the last user message. One word is one token: `prompt_tokens` are the words in all messages,
`completion_tokens` the words of the answer. A stream sends one word per chunk, and a last chunk with the usage only
when `stream_options.include_usage` asks for it.
Shapes: https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from .bodies import Refusal, read_json
from .failures import CUT, obey, words_in

MODELS = ("gpt-4o-mini", "gpt-4o")
MODELS_CREATED_S = 1_715_367_049
CHUNKS_BEFORE_CUT = 3
"""Chunks of a stream that is cut: the role and, if the answer has them, two words."""

routes = web.RouteTableDef()


@dataclass(frozen=True)
class Completion:
    """An answer, ready to be sent whole or in chunks."""

    model: str
    words: list[str]
    prompt_tokens: int
    finish_reason: str
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created_s: int = field(default_factory=lambda: int(time.time()))

    def usage(self) -> dict[str, int]:
        """The tokens of this exchange."""
        completion_tokens = len(self.words)
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": self.prompt_tokens + completion_tokens,
        }

    def envelope(self, kind: str) -> dict[str, Any]:
        """The keys that a whole answer and every chunk of a stream share."""
        return {"id": self.id, "object": kind, "created": self.created_s, "model": self.model}


@routes.post("/v1/chat/completions")
async def chat_completions(request: web.Request) -> web.StreamResponse:
    """Answer a chat, as JSON or as a stream; refusals have the shape that OpenAI's clients know."""
    try:
        body = await read_json(request)
        completion = _answer(body)
        words = words_in(body.get("simulate"), _last_user_text(body["messages"]))
        await obey(request, words)
    except Refusal as refusal:
        raise _in_openai_shape(refusal) from None
    if body.get("stream"):
        with_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        return await _stream(request, completion, with_usage, cut=CUT in words)
    message = {"role": "assistant", "content": " ".join(completion.words), "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": completion.finish_reason}
    answer = completion.envelope("chat.completion") | {"choices": [choice], "usage": completion.usage()}
    return web.json_response(answer)


@routes.get("/v1/models")
async def list_models(request: web.Request) -> web.Response:
    """The models that `model` may name."""
    listed = [{"id": name, "object": "model", "created": MODELS_CREATED_S, "owned_by": "sample"} for name in MODELS]
    return web.json_response({"object": "list", "data": listed})


def _answer(body: dict[str, Any]) -> Completion:
    """Check the request and work out the answer; raises Refusal."""
    model, messages = body.get("model"), body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(one, dict) for one in messages):
        raise Refusal(400, "'messages' must be a non-empty array of objects", param="messages")
    if model not in MODELS:
        raise Refusal(404, f"The model `{model}` does not exist", param="model", code="model_not_found")
    if body.get("n") not in (None, 1):
        raise Refusal(400, "'n' must be 1", param="n")
    if not isinstance(body.get("stream") or False, bool):
        raise Refusal(400, "'stream' must be a boolean", param="stream")
    if not isinstance(body.get("stream_options") or {}, dict):
        raise Refusal(400, "'stream_options' must be an object", param="stream_options")
    words = _last_user_text(messages).split()
    cap = _cap(body)
    cut_short = cap is not None and cap < len(words)
    return Completion(
        model=model,
        words=words[:cap] if cut_short else words,
        prompt_tokens=sum(len(_text(message).split()) for message in messages),
        finish_reason="length" if cut_short else "stop",
    )


def _cap(body: dict[str, Any]) -> int | None:
    """The most tokens the client wants: the smaller of the two names for it, None when neither is given."""
    caps: list[int] = []
    for name in ("max_tokens", "max_completion_tokens"):
        value = body.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise Refusal(400, f"'{name}' must be a positive integer", param=name)
        caps.append(value)
    return min(caps, default=None)


def _last_user_text(messages: list[dict[str, Any]]) -> str:
    return next((_text(message) for message in reversed(messages) if message.get("role") == "user"), "")


def _text(message: dict[str, Any]) -> str:
    """The text of a message: a string as it is, of a list of parts the texts; images and sounds have no words."""
    content = message.get("content")
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _chunks(completion: Completion, with_usage: bool) -> Iterator[dict[str, Any]]:
    """The chunks of a stream: the role, every word, the reason for the end and, if wanted, the usage.

    With usage wanted, the other chunks say `"usage": null`, as OpenAI's do.
    """
    envelope = completion.envelope("chat.completion.chunk") | ({"usage": None} if with_usage else {})

    def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return envelope | {"choices": [choice]}

    yield chunk({"role": "assistant", "content": ""})
    for position, word in enumerate(completion.words):
        yield chunk({"content": word if position == 0 else f" {word}"})
    yield chunk({}, completion.finish_reason)
    if with_usage:
        yield envelope | {"choices": [], "usage": completion.usage()}


async def _stream(request: web.Request, completion: Completion, with_usage: bool, *, cut: bool) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await response.prepare(request)
    for position, chunk in enumerate(_chunks(completion, with_usage)):
        if cut and (position == CHUNKS_BEFORE_CUT or chunk["choices"][0]["finish_reason"]):
            return _break_off(request, response)
        await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
    await response.write(b"data: [DONE]\n\n")
    await response.write_eof()
    return response


def _break_off(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """Close the connection without the end of the chunked body, so that the client can tell the stream was cut."""
    if request.transport is not None:
        request.transport.abort()
    return response


def _in_openai_shape(refusal: Refusal) -> Refusal:
    """The same refusal with the error object that OpenAI sends."""
    error = {
        "message": refusal.error,
        "type": "invalid_request_error" if refusal.status < 500 else "server_error",
        "param": refusal.beside.get("param"),
        "code": refusal.beside.get("code"),
    }
    return Refusal(refusal.status, error)

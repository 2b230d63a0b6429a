"""A backend that bills on its own tells clients of its own charges. On routes with `rewrite`, one declared field of its
answer says what Farebox has charged instead, or what is left. Off unless a route says so; nothing else is changed.
"""

from __future__ import annotations

import logging

from proxy import json_spans, strict_json
from proxy.headers import HeaderList
from proxy.pipeline.exchange import Routed
from proxy.strict_json import Unreadable
from proxy.upstream.client import UpstreamAnswer

log = logging.getLogger(__name__)


def restated(routed: Routed, answer: UpstreamAnswer, body: bytes, told: HeaderList) -> bytes | None:
    """The body with the declared field as Farebox has it: the number that is `told` in a header too.

    None where the answer has no such field, or cannot be read: then it passes as it is.
    """
    rewrite = routed.route.settings.rewrite
    assert rewrite is not None, "only routes with one are restated"
    number = _told(told, "Remaining") if rewrite.to == "remaining" else _told(told, "Charged", "Reserved")
    if number is None or not body or not _is_plain_json(answer):
        return None
    path = strict_json.tokens(rewrite.json_)
    try:
        value = strict_json.find(strict_json.parse(body), path)
        if value is None or isinstance(value, dict | list):
            return None
        return json_spans.replaced(body.decode(), path, number).encode()
    except Unreadable as error:
        log.warning("the answer on route %s is not rewritten: %s", routed.route.id, error)
        return None


def _told(headers: HeaderList, *endings: str) -> str | None:
    return next((value for name, value in headers if name.rpartition("-")[2] in endings), None)


def _is_plain_json(answer: UpstreamAnswer) -> bool:
    """Not compressed: such a body would have to be made anew."""
    values = {name.lower(): value.lower() for name, value in answer.headers}
    media_type = values.get("content-type", "").partition(";")[0].strip()
    return media_type == "application/json" and values.get("content-encoding", "identity") == "identity"

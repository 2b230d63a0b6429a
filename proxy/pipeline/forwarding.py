"""Step 5: sending the request to its backend, and what is refused when that fails."""

from __future__ import annotations

from functools import partial

from config.routes import WebSocket
from policies.callers import Caller
from policies.evaluate import Allow
from policies.refusals import Reason, Refusal
from proxy.headers import HeaderList, folded, readable_codings, without
from proxy.pace import Pace
from proxy.pipeline.body import outgoing_body
from proxy.pipeline.exchange import Body, Routed
from proxy.pipeline.relay import write_interim
from proxy.upstream.client import (
    Outgoing,
    UpstreamAnswer,
    UpstreamBroken,
    UpstreamBusy,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from proxy.websocket import handshake
from store.api_keys import PREFIX

UNREAD = Body(b"", complete=False)
"""A body of which nothing was read ahead."""

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that only read (RFC 9110 §9.2.1). A paid request is a purchase, whatever its method."""

BUSY_S = 1
"""When to try again where a backend is busy: exchanges end all the time."""


async def send(
    routed: Routed,
    body: Body,
    pace: Pace,
    caller: Caller | None,
    allow: Allow | None,
    callback: str | None = None,
) -> UpstreamAnswer:
    """The head of the backend's answer; `pace` is that of a body that is streamed. `callback` is where
    the backend may tell how the job ended that it accepts.

    Raises UpstreamUnreachable, UpstreamBusy, UpstreamTimeout or UpstreamBroken, and BodyCut where the client is to
    blame.
    """
    incoming = routed.incoming
    headers = incoming.travelling
    if routed.route.settings.rewrite is not None:
        headers = [*without(headers, ["accept-encoding"]), ("Accept-Encoding", "identity")]
    elif routed.route.reads_answer:
        # Nor may a part be asked for: all of a job's state in one part would be read by its client alone.
        headers = without(readable_codings(headers), ["range", "if-range"])
    headers = _without_our_keys(headers)
    if caller is not None:
        headers += _identity(caller, allow)
    paid = routed.route.upstream.paid
    if paid is not None:
        # Whoever is not charged must not be able to say so.
        headers = [header for header in headers if folded(header[0]) != folded(paid[0])]
        headers += [paid] if allow is not None else []
    headers.append(("X-Request-Id", incoming.id_text))
    if callback is not None:
        headers.append(("X-Farebox-Callback", callback))
    if routed.websocket is not None:
        return await _switch(routed, routed.websocket, headers)
    payload, length = outgoing_body(incoming, body, pace)
    repeatable = payload is None and incoming.method in SAFE and allow is None
    interim = partial(write_interim, incoming)
    outgoing = Outgoing(incoming.method, incoming.target.raw, headers, payload, length, repeatable, interim=interim)
    return await routed.route.upstream.send(outgoing)


async def _switch(routed: Routed, websocket: WebSocket, headers: HeaderList) -> UpstreamAnswer:
    """Ask for a WebSocket; an answer 101 grants it."""
    if websocket.charge == "usage":
        headers = handshake.unextended(headers)
    outgoing = Outgoing("GET", routed.incoming.target.raw, [*headers, *handshake.SWITCHING], None, None, switches=True)
    answer = await routed.route.upstream.send(outgoing)
    if answer.status == 101 and (problem := handshake.problem_of(headers, answer.headers)) is not None:
        async with answer:
            raise UpstreamBroken(f"upstream {routed.route.settings.upstream!r} broke the connection: {problem}")
    return answer


def _without_our_keys(headers: HeaderList) -> HeaderList:
    """API keys of Farebox are of no use to a backend, and not for it to see; the app's own tokens are."""
    return [
        (name, value)
        for name, value in headers
        if not (name.lower() in ("authorization", "x-api-key") and value.rpartition(" ")[2].startswith(PREFIX))
    ]


def _identity(caller: Caller, allow: Allow | None) -> HeaderList:
    """Who calls, for the backend. User ids come from tokens, so they are kept to one line of ASCII."""
    headers = [
        ("X-Farebox-User", caller.user_id.encode("ascii", "backslashreplace").decode()),
        ("X-Farebox-Account", str(caller.account.account_id)),
    ]
    return (
        headers if allow is None else [*headers, ("X-Farebox-Tier", allow.tier), ("X-Farebox-Model", allow.model.key)]
    )


def refusal_for(error: Exception) -> Refusal:
    """What the client is told about a backend that failed before its answer."""
    if isinstance(error, UpstreamUnreachable):
        hint = "Nothing was charged; try again later."
        return Refusal(Reason.UPSTREAM_UNREACHABLE, "The service behind this route cannot be reached", hint)
    if isinstance(error, UpstreamBusy):
        hint = "Nothing was forwarded and nothing was charged; try again."
        return Refusal(
            Reason.UPSTREAM_BUSY, "The service behind this route is busy at the moment", hint, retry_after_s=BUSY_S
        )
    if isinstance(error, UpstreamTimeout):
        hint = "Nothing was charged; try again later."
        return Refusal(Reason.UPSTREAM_TIMEOUT, "The service behind this route did not answer in time", hint)
    hint = "Nothing was charged; the request may have been acted on, so look before trying again."
    return Refusal(Reason.UPSTREAM_BROKEN, "The service behind this route broke the connection", hint)

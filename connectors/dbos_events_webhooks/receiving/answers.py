"""The contract of answers: which status a sender gets, and nothing that tells an attacker anything."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from dbos_events_webhooks.outcome import Answer

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

NOT_FOUND = Answer.json({"error": "not found"}, 404)
RETIRED = Answer.json({"error": "gone"}, 410)
TOO_SLOW = Answer.json({"error": "request timeout"}, 408)
TOO_LARGE = Answer.json({"error": "too large"}, 413)
MALFORMED = Answer.json({"error": "malformed request"}, 400)
UNFIT = Answer.json({"error": "unprocessable content"}, 422)
BROKEN = Answer.json({"error": "internal error"}, 500)


def later(status: int, seconds: int) -> Answer:
    """The sender keeps the event and tries again: 429 for too many at once, 503 where nothing can be stored."""
    words = "too many requests" if status == 429 else "unavailable"
    return Answer.json({"error": words}, status, ("retry-after", str(seconds)))


def stored(status: int, outcomes: Sequence[str], ids: Sequence[str]) -> Answer:
    """All events are durable, or were before; `outcomes` say for each event which.

    A duplicate is answered as the first was but for its word, which tells nothing that the sender did not know.
    """
    if status == 204:
        return Answer(204)
    word = "accepted" if "accepted" in outcomes else next(iter(outcomes), "ignored")
    said: dict[str, Any] = {"status": word}
    if len(ids) == 1:
        said["id"] = ids[0]
    elif ids:
        said["events"] = len(ids)
    return Answer.json(said, status)


async def send_answer(answer: Answer, send: Send, *, close: bool = False) -> None:
    """Send it. `close` ends the connection afterwards, where a body was not read to its end."""
    headers = [
        (name.encode("latin-1"), value.encode("latin-1"))
        for name, value in answer.headers
        if name != "connection"  # of HTTP/1.1 only, and said below
    ]
    headers.append((b"cache-control", b"no-store"))
    if answer.status != 204:
        headers.append((b"content-length", b"%d" % len(answer.body)))
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


def body_of(answer: Answer) -> Any:
    """The JSON of an answer, for tests and logs."""
    return json.loads(answer.body) if answer.body else None

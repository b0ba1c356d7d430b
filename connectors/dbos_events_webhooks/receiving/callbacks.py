"""The URLs of `DBOS.callback`: one POST counts, and whoever has no token learns nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from dbos_events.connect import Recurring, logger
from dbos_events_webhooks.outcome import Answer
from dbos_events_webhooks.receiving import answers
from dbos_events_webhooks.receiving.bodies import Disconnected, Receive, RequestBody, Unread
from dbos_events_webhooks.receiving.limits import Limits, Load
from dbos_events_webhooks.receiving.serving import Scope

MAX_BODY = 256 * 1024
ACCEPTED = Answer.json({"status": "accepted"})
ONLY_POST = Answer.json({"error": "method not allowed"}, 405, ("allow", "POST"))
COMPRESSED = Answer.json({"error": "unsupported media type"}, 415)

Ask = Callable[[str, bytes, str | None], Awaitable[str]]


class Answering(Protocol):
    """An App: what a token is answered through."""

    @property
    def is_launched(self) -> bool: ...

    def answer_callback_async(
        self, token: str, body: bytes, content_type: str | None = None
    ) -> Awaitable[str]: ...


class CallbackEndpoint:
    """Answers requests to `PATH/{token}`. `counts` has what became of them in this process."""

    def __init__(self, app: Answering, path: str, load: Load, max_body: int = MAX_BODY) -> None:
        self.path = path
        self.counts: Counter[str] = Counter()
        self._app = app
        self._load = load
        self._max_body = max_body
        self._trouble = Recurring()

    @property
    def _limits(self) -> Limits:
        return self._load.limits

    async def serve(self, token: str, scope: Scope, receive: Receive, send: answers.Send) -> None:
        """Answer one request; it does not raise."""
        http1 = str(scope.get("http_version", "1.1")).startswith("1")
        body = RequestBody(self._load, self._max_body)
        if not self._load.enter():
            self.counts["overloaded"] += 1
            answer = answers.later(429, self._limits.retry_after_seconds)
            await answers.send_answer(answer, send, close=http1)
            return
        try:
            answer, close = await self._answer(token, scope, receive, body)
        except Disconnected:
            return
        except Unread as unread:
            self.counts[unread.reason] += 1
            known = {"too-slow": answers.TOO_SLOW, "too-large": answers.TOO_LARGE}
            answer, close = (
                known.get(unread.reason) or answers.later(429, self._limits.retry_after_seconds),
                True,
            )
        except Exception:  # noqa: BLE001 - a defect of ours
            self.counts["errors"] += 1
            logger.exception("A callback could not be answered.")
            answer, close = answers.BROKEN, True
        finally:
            self._load.leave(body.held)
        await answers.send_answer(answer, send, close=close and http1)

    async def _answer(
        self, token: str, scope: Scope, receive: Receive, body: RequestBody
    ) -> tuple[Answer, bool]:
        headers = [(bytes(name).lower(), bytes(value)) for name, value in scope.get("headers", ())]
        refused = self._refused(scope, headers)
        if refused is not None:
            return refused, True
        if not self._app.is_launched:
            self.counts["unready"] += 1
            return answers.later(503, self._limits.retry_after_seconds), True
        content = await body.read(receive, self._limits.body_seconds)
        kind = next(
            (value.decode("latin-1")[:255] for name, value in headers if name == b"content-type"), None
        )
        return await self._told(token, content, kind), False

    def _refused(self, scope: Scope, headers: list[tuple[bytes, bytes]]) -> Answer | None:
        if scope["method"] != "POST":  # a mail scanner that follows links decides nothing
            return ONLY_POST
        for name, value in headers:
            if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
                return COMPRESSED
            if name == b"content-length" and (
                not value.isdigit() or len(value) > 15 or int(value) > self._max_body
            ):
                return answers.TOO_LARGE
        return None

    async def _told(self, token: str, content: bytes, kind: str | None) -> Answer:
        app: Any = self._app
        asking = asyncio.ensure_future(app.answer_callback_async(token, content, kind))
        try:
            async with asyncio.timeout(self._limits.store_seconds):
                told = await asyncio.shield(asking)
        except TimeoutError:
            asking.cancel()
            asking.add_done_callback(_heard)
            self.counts["unavailable"] += 1
            self._trouble.say("A callback could not be stored in time, so it gets a 503.")
            return answers.later(503, self._limits.retry_after_seconds)
        self.counts[told] += 1
        return {"answered": ACCEPTED, "late": answers.RETIRED}.get(told, answers.NOT_FOUND)


def _heard(asking: asyncio.Future[str]) -> None:
    if not asking.cancelled():
        asking.exception()

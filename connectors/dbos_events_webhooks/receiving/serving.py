"""From a request to its answer, in the order in which the work costs little, and nothing is believed unproved."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

from dbos_events.connect import Inbox, Outcome, PushedEvent, Recurring, logger
from dbos_events_webhooks.outcome import Answer, Refused
from dbos_events_webhooks.receiving import answers
from dbos_events_webhooks.receiving.bodies import Body, Disconnected, Receive, Unread
from dbos_events_webhooks.receiving.endpoint import Endpoint
from dbos_events_webhooks.receiving.limits import Limits, Load
from dbos_events_webhooks.request import WebhookRequest

Scope = MutableMapping[str, Any]
SPARE_SECONDS = 0.3
"""How much longer than its own bound the inbox may take before this side answers without it."""
BACKLOG = frozenset({"quota", "busy"})


class Service:
    """Answers requests to endpoints. `inbox` is there while the App is launched."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.load = Load(limits)
        self.inbox: Inbox | None = None
        self.draining = False
        self._not_started = Recurring(decision=True)
        self._not_stored = Recurring()

    @property
    def retry(self) -> int:
        return self.limits.retry_after_seconds

    async def serve(
        self,
        endpoint: Endpoint,
        params: Mapping[str, str],
        scope: Scope,
        receive: Receive,
        send: answers.Send,
    ) -> None:
        """Answer one request; whatever it is like, and whatever goes wrong, this does not raise."""
        body = Body(self.load, endpoint.provider.row.max_body)
        http1 = str(scope.get("http_version", "1.1")).startswith("1")
        if not self.load.enter():
            endpoint.counts["overloaded"] += 1
            await answers.send_answer(answers.later(429, self.retry), send, close=http1)
            return
        try:
            answer, close = await self._answer(endpoint, params, scope, receive, body)
        except Disconnected:
            endpoint.counts["disconnected"] += 1
            return
        except Unread as unread:
            endpoint.counts[unread.reason] += 1
            answer, close = self._of_unread(unread.reason), True
        except Exception:  # noqa: BLE001 - a defect of ours, or of a function that was given
            endpoint.counts["errors"] += 1
            logger.exception("A request to %s could not be answered.", endpoint.path)
            answer, close = answers.BROKEN, True
        finally:
            self.load.leave(body.held)
        await answers.send_answer(answer, send, close=close and http1)

    async def _answer(
        self, endpoint: Endpoint, params: Mapping[str, str], scope: Scope, receive: Receive, body: Body
    ) -> tuple[Answer, bool]:
        """The answer, and whether the connection has to end because a body was left unread."""
        if endpoint.retired:
            return answers.RETIRED, True
        head = WebhookRequest.from_asgi({**scope, "path_params": params}, b"")
        refused = endpoint.provider.check_head(head)
        if refused is not None:
            endpoint.refused(refused)
            return refused.answer, True
        inbox = self.inbox
        if inbox is None or self.draining:
            return self._unready(endpoint), True
        content = await body.read(receive, self.limits.body_seconds)
        return await self._judged(endpoint, inbox, head.with_body(content)), False

    def _of_unread(self, reason: str) -> Answer:
        known = {"too-slow": answers.TOO_SLOW, "too-large": answers.TOO_LARGE}
        return known.get(reason) or answers.later(429, self.retry)

    def _unready(self, endpoint: Endpoint) -> Answer:
        endpoint.counts["unready"] += 1
        if not self.draining:
            self._not_started.say(
                "A webhook request came to %s, and DBOS is not launched, so it gets a 503. An app that is mounted does not "
                "run its own lifespan: give the outer app lifespan=hooks.lifespan, or call DBOS.launch().",
                endpoint.path,
            )
        return answers.later(503, self.retry)

    async def _judged(self, endpoint: Endpoint, inbox: Inbox, request: WebhookRequest) -> Answer:
        outcome = await endpoint.provider.verify_async(
            request, lookup_seconds=self.limits.lookup_seconds, head_is_checked=True
        )
        if isinstance(outcome, Answer):
            endpoint.counts["answered"] += 1
            return outcome
        if isinstance(outcome, Refused):
            endpoint.refused(outcome)
            return outcome.answer
        endpoint.used(outcome.secret)
        events = endpoint.pushed(request, outcome)
        if not events:
            endpoint.counts["empty"] += 1
            return answers.stored(outcome.accepted_status, [], [])
        return self._told(endpoint, outcome.accepted_status, await self._accepted(inbox, events))

    async def _accepted(self, inbox: Inbox, events: Sequence[PushedEvent]) -> list[Outcome] | None:
        """What the inbox says. A sender that hangs up cancels nothing: what is under way becomes durable, or not."""
        seconds = self.limits.store_seconds
        storing = asyncio.ensure_future(inbox.accept_async(events, timeout_seconds=seconds))
        try:
            async with asyncio.timeout(seconds + SPARE_SECONDS):
                return await asyncio.shield(storing)
        except TimeoutError:
            storing.add_done_callback(_heard)
            return None

    def _told(self, endpoint: Endpoint, status: int, outcomes: list[Outcome] | None) -> Answer:
        if outcomes is None:
            endpoint.counts["unavailable"] += 1
            self._not_stored.say(
                "A request to %s could not be stored in time, so it gets a 503.", endpoint.path
            )
            return answers.later(503, self.retry)
        endpoint.count([outcome.kind for outcome in outcomes])
        open_ones = [outcome for outcome in outcomes if not outcome.durable]
        if not open_ones:
            ids = [outcome.workflow_id for outcome in outcomes if outcome.workflow_id is not None]
            return answers.stored(status, [_word(outcome) for outcome in outcomes], ids)
        return self._turned_away(endpoint, open_ones)

    def _turned_away(self, endpoint: Endpoint, open_ones: Sequence[Outcome]) -> Answer:
        """Some were not stored: the sender tries again, and those that were are duplicates then."""
        first = open_ones[0]
        if first.cause == "event":  # it cannot be stored, however often it comes
            return answers.MALFORMED
        self._not_stored.say("A request to %s was not stored: %s", endpoint.path, first.reason or first.kind)
        seconds = [outcome.retry_after for outcome in open_ones if outcome.retry_after is not None]
        after = max(1, round(max(seconds))) if seconds else self.retry
        backlog = all(outcome.kind == "paused" or outcome.cause in BACKLOG for outcome in open_ones)
        return answers.later(429 if backlog else 503, after)


def _word(outcome: Outcome) -> str:
    return {"accepted": "accepted", "filtered": "ignored"}.get(outcome.kind, "duplicate")


def _heard(storing: asyncio.Future[list[Outcome]]) -> None:
    """An answer that comes too late has nobody to go to. Its error is read, so that asyncio does not complain of it."""
    if not storing.cancelled():
        storing.exception()

"""From a request to its answer, in the order in which the work costs little, and nothing is believed unproved."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

from dbos_events.connect import Inbox, Outcome, PushedEvent, Recurring, logger
from dbos_events.errors import DBOSException
from dbos_events_webhooks.event import WebhookEvent
from dbos_events_webhooks.outcome import Answer, Refused
from dbos_events_webhooks.outcome import Outcome as Verdict
from dbos_events_webhooks.receiving import answers
from dbos_events_webhooks.receiving.bodies import Disconnected, Receive, RequestBody, Unread
from dbos_events_webhooks.receiving.endpoint import Endpoint
from dbos_events_webhooks.receiving.limits import Limits, Load
from dbos_events_webhooks.receiving.replies import replied, replied_here
from dbos_events_webhooks.request import WebhookRequest
from dbos_events_webhooks.stored import WebhookMessages
from dbos_events_webhooks.threads import Threads, on_thread

Scope = MutableMapping[str, Any]
SPARE_SECONDS = 0.3
"""How much longer than its own bound the inbox may take before this side answers without it."""
MESSAGES = WebhookMessages()
SMALL = 16 * 1024
"""A body of so many bytes has come with its head, or will at once."""
BACKLOG = frozenset({"quota", "busy"})


class Service:
    """Answers requests to endpoints. `inbox` is there while the App is launched, and so are threads for functions."""

    def __init__(self, limits: Limits) -> None:
        self.load = Load(limits)
        self.inbox: Inbox | None = None
        self.draining = False
        self._functions = Threads("webhook-function")
        # Of their own: replies that hang would else take the threads on which other endpoints look up their secrets.
        self._replies = Threads("webhook-reply")
        self._not_started = Recurring(decision=True)
        self._not_stored = Recurring()
        self._not_fitting = Recurring()

    @property
    def limits(self) -> Limits:
        return self.load.limits

    def use(self, limits: Limits) -> None:
        """Other bounds, from now on."""
        self.load.limits = limits

    def open(self, inbox: Inbox) -> None:
        """Take events in from now on."""
        self._functions.open()
        self._replies.open()
        self.draining = False
        self.inbox = inbox

    def close(self) -> None:
        """Take nothing in any more."""
        self.inbox = None
        self._functions.close()
        self._replies.close()

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
        body = RequestBody(self.load, endpoint.provider.row.max_body)
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
            answer, close = self._broken(endpoint), True
        finally:
            self.load.leave(body.held)
        await answers.send_answer(answer, send, close=close and http1)

    async def _answer(
        self, endpoint: Endpoint, params: Mapping[str, str], scope: Scope, receive: Receive, body: RequestBody
    ) -> tuple[Answer, bool]:
        """The answer, and whether the connection has to end because a body was left unread."""
        if endpoint.retired:
            return answers.RETIRED, True
        head = WebhookRequest.from_asgi(scope, b"", params)
        refused = endpoint.provider.check_head(head, comes_at_once=_is_small(head))
        if refused is not None:
            endpoint.refused(refused)
            return refused.answer, True
        inbox = self._inbox_of(endpoint)
        if inbox is None:
            return self._unready(endpoint), True
        content = await body.read(receive, self.limits.body_seconds)
        return await self._judged(endpoint, inbox, head.with_body(content)), False

    def _of_unread(self, reason: str) -> Answer:
        known = {"too-slow": answers.TOO_SLOW, "too-large": answers.TOO_LARGE}
        return known.get(reason) or answers.later(429, self.retry)

    def _inbox_of(self, endpoint: Endpoint) -> Inbox | None:
        """Where its events go; None where nobody takes them, so that no sender hears success for what is lost."""
        return self.inbox if endpoint.consumers and not self.draining else None

    def _unready(self, endpoint: Endpoint) -> Answer:
        endpoint.counts["unready"] += 1
        if self.inbox is not None and not endpoint.consumers:
            self._not_started.say(
                "A webhook request came to %s, which has no handler, so it gets a 503. Either its declaration failed, or it "
                "was declared after the launch.",
                endpoint.path,
            )
        elif not self.draining:
            self._not_started.say(
                "A webhook request came to %s, and DBOS is not launched, so it gets a 503. An app that is mounted does not "
                "run its own lifespan: give the outer app lifespan=hooks.lifespan, or call DBOS.launch().",
                endpoint.path,
            )
        return answers.later(503, self.retry)

    async def _judged(self, endpoint: Endpoint, inbox: Inbox, request: WebhookRequest) -> Answer:
        verdict = await endpoint.provider.verify_async(
            request,
            lookup_seconds=self.limits.lookup_seconds,
            head_is_checked=True,
            threads=self._functions,
        )
        events = self._events(endpoint, request, verdict)
        if isinstance(events, Answer):
            return events
        if endpoint.rejecting:
            unfit = await self._unfit_async(endpoint, inbox, events)
            if unfit is not None:
                return unfit
        outcomes = await self._accepted(inbox, events)
        answer = self._told(endpoint, endpoint.provider.row.accepted_status, outcomes)
        if endpoint.reply is None or answer.status >= 300 or outcomes is None:
            return answer
        event = _message(events[0], outcomes[0])
        said = await replied(endpoint.reply, event, answer, self.limits.reply_seconds, self._replies)
        return self._said(endpoint, said, answer)

    def receive(self, endpoint: Endpoint, request: WebhookRequest) -> Answer:
        """Answer a request whose body was read elsewhere, on this thread; whatever it is like, this does not raise.

        Raises:
            ConfigurationError: A function that was given is async.
            DBOSException: It was called on a running loop.
        """
        inbox = self._entered(endpoint, request)
        if isinstance(inbox, Answer):
            return inbox
        try:
            return self._received(endpoint, inbox, request)
        except DBOSException:
            raise
        except Exception:  # noqa: BLE001 - a defect of ours, or of a function that was given
            return self._broken(endpoint)
        finally:
            self.load.leave(len(request.body))

    def _received(self, endpoint: Endpoint, inbox: Inbox, request: WebhookRequest) -> Answer:
        events = self._events(endpoint, request, endpoint.provider.verify(request))
        if isinstance(events, Answer):
            return events
        unfit = self._unfit(endpoint, inbox, events)
        if unfit is not None:
            return unfit
        outcomes = inbox.accept(events, timeout_seconds=self.limits.store_seconds)
        answer = self._told(endpoint, endpoint.provider.row.accepted_status, outcomes)
        if endpoint.reply is None or answer.status >= 300:
            return answer
        said = replied_here(endpoint.reply, _message(events[0], outcomes[0]), answer)
        return self._said(endpoint, said, answer)

    async def receive_async(self, endpoint: Endpoint, request: WebhookRequest) -> Answer:
        """As `receive`, on the running loop."""
        inbox = self._entered(endpoint, request)
        if isinstance(inbox, Answer):
            return inbox
        try:
            refused = endpoint.provider.check_head(request)
            if refused is not None:
                endpoint.refused(refused)
                return refused.answer
            return await self._judged(endpoint, inbox, request)
        except Exception:  # noqa: BLE001 - a defect of ours, or of a function that was given
            return self._broken(endpoint)
        finally:
            self.load.leave(len(request.body))

    def _entered(self, endpoint: Endpoint, request: WebhookRequest) -> Inbox | Answer:
        """Where a request may go on, which is counted from now on; or the answer, where it may not."""
        inbox = self._inbox_of(endpoint)
        if endpoint.retired:
            return answers.RETIRED
        if inbox is None:
            return self._unready(endpoint)
        if self.load.enter():
            if self.load.hold(len(request.body)):
                return inbox
            self.load.leave(0)
        endpoint.counts["overloaded"] += 1
        return answers.later(429, self.retry)

    def _broken(self, endpoint: Endpoint) -> Answer:
        endpoint.counts["errors"] += 1
        logger.exception("A request to %s could not be answered.", endpoint.path)
        return answers.BROKEN

    def _events(
        self, endpoint: Endpoint, request: WebhookRequest, verdict: Verdict
    ) -> list[PushedEvent] | Answer:
        """What is to be stored; or the answer, where nothing is."""
        if isinstance(verdict, Answer):
            endpoint.counts["answered"] += 1
            return verdict
        if isinstance(verdict, Refused):
            endpoint.refused(verdict)
            return verdict.answer
        endpoint.used(verdict.secret)
        if endpoint.rates is not None:
            seconds = endpoint.rates.seconds(request, endpoint.provider.clock)
            if seconds:
                endpoint.counts["limited"] += 1
                return answers.later(429, max(1, math.ceil(seconds)))
        if endpoint.rejecting and any(event.problem is not None for event in verdict.events):
            endpoint.counts["rejected"] += 1
            return answers.UNFIT
        events = endpoint.pushed(request, verdict)
        if not events:
            endpoint.counts["empty"] += 1
            return answers.stored(verdict.accepted_status, [], [])
        return events

    def _unfit(self, endpoint: Endpoint, inbox: Inbox, events: Sequence[PushedEvent]) -> Answer | None:
        """The answer where an event does not fit that has to: nothing of the request is stored then."""
        for event in events:
            if event.consumer not in endpoint.rejecting:
                continue
            problem = inbox.problem(event)
            if problem is not None:
                endpoint.counts["rejected"] += 1
                self._not_fitting.say("An event that came to %s was rejected: %s", endpoint.path, problem)
                return answers.UNFIT
        return None

    async def _unfit_async(
        self, endpoint: Endpoint, inbox: Inbox, events: Sequence[PushedEvent]
    ) -> Answer | None:
        """As `_unfit`, which calls validators of the program: a sender waits for none that hangs."""
        try:
            async with asyncio.timeout(self.limits.lookup_seconds):
                return await on_thread(self._functions, self._unfit, endpoint, inbox, events)
        except TimeoutError:
            endpoint.counts["unavailable"] += 1
            self._not_stored.say(
                "The content of a request to %s could not be validated in time, so it gets a 503.",
                endpoint.path,
            )
            return answers.later(503, self.retry)

    def _said(self, endpoint: Endpoint, said: Answer | None, usual: Answer) -> Answer:
        if said is None:
            endpoint.counts["reply-failed"] += 1
            return usual
        return said

    async def _accepted(self, inbox: Inbox, events: Sequence[PushedEvent]) -> list[Outcome] | None:
        """What the inbox says. A sender that hangs up cancels nothing: what is under way becomes durable, or not."""
        seconds = self.limits.store_seconds
        storing = asyncio.ensure_future(inbox.accept_async(events, timeout_seconds=seconds))
        try:
            await asyncio.wait((storing,), timeout=seconds + SPARE_SECONDS)  # which cancels nothing
        finally:
            if not storing.done():
                storing.add_done_callback(_heard)
        return storing.result() if storing.done() else None

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


def _message(event: PushedEvent, outcome: Outcome) -> WebhookEvent[Any]:
    return MESSAGES.of(event, outcome.workflow_id or "")


def _is_small(head: WebhookRequest) -> bool:
    lengths = [value for name, value in head.headers if name == "content-length"]
    return len(lengths) == 1 and len(lengths[0]) < 6 and lengths[0].isdigit() and int(lengths[0]) <= SMALL


def _word(outcome: Outcome) -> str:
    return {"accepted": "accepted", "filtered": "ignored"}.get(outcome.kind, "duplicate")


def _heard(storing: asyncio.Future[list[Outcome]]) -> None:
    """An answer that comes too late has nobody to go to. Its error is read, so that asyncio does not complain of it."""
    if not storing.cancelled():
        storing.exception()

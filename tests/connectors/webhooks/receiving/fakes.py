"""An App and an inbox in memory, so that what belongs to HTTP is shown without a database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dbos_events.connect import Inbox, Outcome, PushedEvent, PushOptions, Source
from dbos_events_webhooks import Limits, WebhookEvent, WebhookReceiver, WebhookRequest
from dbos_events_webhooks.connector import connector
from dbos_events_webhooks.stored import WebhookMessages

MESSAGES = WebhookMessages()


@dataclass
class MemoryInbox:
    """Accepts as the core does, without a transaction; `answers` say otherwise for the next calls."""

    consumers: Mapping[str, PushOptions]
    known: dict[tuple[str, str], bytes] = field(default_factory=dict)
    taken: list[PushedEvent] = field(default_factory=list)
    calls: list[Sequence[PushedEvent]] = field(default_factory=list)
    answers: list[list[Outcome]] = field(default_factory=list)
    delay: float = 0.0
    problems: dict[str, str] = field(default_factory=dict)

    async def accept_async(
        self, events: Sequence[PushedEvent], *, timeout_seconds: float = 2.5
    ) -> list[Outcome]:
        self.calls.append(events)
        await asyncio.sleep(self.delay)
        if self.answers:
            return self.answers.pop(0)
        return [self._one(event) for event in events]

    def _one(self, event: PushedEvent) -> Outcome:
        when = self.consumers[event.consumer].when
        if when is not None and not when(MESSAGES.of(event, "")):
            return Outcome("filtered")
        name = self.workflow_id(event.consumer, event.event_id)
        before = self.known.setdefault((event.consumer, event.event_id), event.fingerprint)
        if before != event.fingerprint:
            return Outcome("conflicting-duplicate", name)
        if any(name == self.workflow_id(each.consumer, each.event_id) for each in self.taken):
            return Outcome("duplicate", name)
        self.taken.append(event)
        return Outcome("accepted", name)

    def workflow_id(self, consumer: str, event_id: str) -> str:
        return f"webhook/{consumer}/{event_id}"

    def accept(self, events: Sequence[PushedEvent], *, timeout_seconds: float = 2.5) -> list[Outcome]:
        raise NotImplementedError

    def problem(self, event: PushedEvent) -> str | None:
        return self.problems.get(event.event_id)

    def closed_by(self, consumer: str) -> str:
        return ""

    def report(self, consumer: str, state: str, detail: str | None = None) -> None:
        return

    @property
    def events(self) -> list[WebhookEvent[Any]]:
        """What handlers would be called with."""
        return [MESSAGES.of(each, self.workflow_id(each.consumer, each.event_id)) for each in self.taken]


class MemoryApp:
    """Declares consumers, and launches by opening the connector."""

    def __init__(self) -> None:
        self.declared: dict[str, PushOptions] = {}
        self.launches = 0
        self.source: Source | None = None

    def pushed_consumer(self, kind: str, options: PushOptions) -> Callable[[Any], Any]:
        def decorate(function: Any) -> Any:
            name = options.name or function.__name__
            self.declared[name] = replace(options, name=name)
            return function

        return decorate

    def launch(self) -> MemoryInbox:
        self.launches += 1
        inbox = MemoryInbox(self.declared)
        as_inbox: Inbox = inbox
        self.source = connector.open_source(as_inbox, {})
        self.source.start()
        return inbox

    def destroy(self) -> None:
        assert self.source is not None
        self.source.pause()
        self.source.stop(1.0)
        self.source = None

    async def launch_async(self) -> None:
        self.launch()

    async def destroy_async(self) -> None:
        self.destroy()


def receiver(limits: Limits | None = None) -> WebhookReceiver:
    return WebhookReceiver(MemoryApp(), limits=limits)


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Wire:
    """One request by hand: pieces of its body as they come, and what was answered."""

    app: Any
    request: WebhookRequest
    pieces: list[bytes] | None = None
    hangs: bool = False
    disconnects: bool = False
    scope: dict[str, Any] = field(default_factory=dict)
    received: int = 0

    async def go(self) -> Reply | None:
        sent: list[Any] = []
        pieces = [self.request.body] if self.pieces is None else list(self.pieces)

        async def receive() -> Any:
            if self.received < len(pieces):
                self.received += 1
                more = self.received < len(pieces) or self.hangs or self.disconnects
                return {"type": "http.request", "body": pieces[self.received - 1], "more_body": more}
            if self.disconnects:
                return {"type": "http.disconnect"}
            return await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": self.request.method,
            "path": self.request.path,
            "query_string": self.request.query,
            "headers": [(name.encode("latin-1"), value) for name, value in self.request.headers],
            **self.scope,
        }
        await self.app(scope, receive, send)
        if not sent:
            return None
        headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Reply(sent[0]["status"], headers, b"".join(each["body"] for each in sent[1:]))

    def reply(self) -> Reply:
        answer = asyncio.run(self.go())
        assert answer is not None
        return answer

"""What a connector hands pushed events to, from threads and from event loops (docs/protocol.md, rule 26)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from dbos_events.connect.inbox import Outcome, PushedEvent, PushOptions
from dbos_events.engine.core import Core
from dbos_events.engine.waking import ThreadWaker, running_loop
from dbos_events.errors import DBOSException
from dbos_events.runtime.intake.pushing import PushedConsumer


class Request:
    """The events of one caller. Its fields are guarded by the service's lock."""

    __slots__ = ("deadline", "events", "outcomes", "size", "taken", "wake")

    def __init__(self, events: Sequence[PushedEvent], deadline: float, wake: Callable[[], object]) -> None:
        self.events = events
        self.deadline = deadline
        self.wake = wake
        self.size = sum(len(event.payload) for event in events)
        self.taken = False
        self.outcomes: list[Outcome] | None = None


class Accepting(Protocol):
    """What accepts the events of all connectors."""

    def submit(self, request: Request) -> Outcome | None:
        """Have the events accepted; gives why they are not even waited for."""

    def result(self, request: Request) -> list[Outcome]:
        """What became of the events; whoever asks waits no longer."""


class ConnectorInbox:
    """What one connector hands its events to: `dbos_events.connect.Inbox`."""

    def __init__(self, service: Accepting, core: Core, consumers: Mapping[str, PushedConsumer]) -> None:
        self._service = service
        self._core = core
        self._consumers = consumers
        self._options = MappingProxyType({name: one.options for name, one in consumers.items()})

    @property
    def consumers(self) -> Mapping[str, PushOptions]:
        return self._options

    def accept(self, events: Sequence[PushedEvent], *, timeout_seconds: float = 2.5) -> list[Outcome]:
        if running_loop() is not None:
            raise DBOSException(
                "accept blocks and was called on a running event loop. Use `await accept_async(...)` there."
            )
        waker = ThreadWaker()
        request = Request(events, time.monotonic() + timeout_seconds, waker.wake)
        refused = self._service.submit(request)
        if refused is not None:
            return [refused] * len(events)
        waker.wait(timeout_seconds)
        return self._service.result(request)

    async def accept_async(
        self, events: Sequence[PushedEvent], *, timeout_seconds: float = 2.5
    ) -> list[Outcome]:
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[None] = loop.create_future()
        inbox = self._core.homes.of(loop).inbox

        def answer() -> None:
            if not answered.done():
                answered.set_result(None)

        request = Request(events, time.monotonic() + timeout_seconds, lambda: inbox.post(answer))
        refused = self._service.submit(request)
        if refused is not None:
            return [refused] * len(events)
        timer = loop.call_later(timeout_seconds, answer)
        try:
            await answered
        finally:
            timer.cancel()
            outcomes = self._service.result(request)
        return outcomes

    def workflow_id(self, consumer: str, event_id: str) -> str:
        return self._consumers[consumer].workflow_id(event_id)

    def problem(self, event: PushedEvent) -> str | None:
        return self._consumers[event.consumer].problem(event)

    def closed_by(self, consumer: str) -> str:
        return self._consumers[consumer].closed_by

    def report(self, consumer: str, state: str, detail: str | None = None) -> None:
        number = self._consumers[consumer].number
        core = self._core
        core.ask(lambda: core.storage.sources.report(core.executor, number, state, detail))

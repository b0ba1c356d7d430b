"""Pushed events without their senders: accepted on the path of real ones."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from dbos_events.api.consumers import PushedDeclaration, connector_of
from dbos_events.app import App
from dbos_events.connect import Inbox, PushConnector, PushedEvent
from dbos_events.errors import DBOSException
from dbos_events.testing.bytes import Headers, bytes_of, headers_of


class TestInbox:
    """The pushed consumers of one App as if their connectors were open."""

    __test__ = False

    def __init__(self, app: App) -> None:
        self._app = app
        self._inboxes: dict[str, Inbox] = {}
        self._count = 0

    def declaration(self, handler: Callable[..., Any]) -> PushedDeclaration | None:
        """The consumer of a handler; None where its events are not pushed."""
        name = getattr(handler, "__dbos_name__", None)
        return next((each for each in self._app.pushed if each.function.name == name), None)

    def deliver(
        self,
        declaration: PushedDeclaration,
        value: object,
        *,
        key: bytes | str | None,
        headers: Headers | Mapping[str, bytes | str | None] | None,
        event_id: str | None,
    ) -> str:
        """Accept one event; gives the id of its workflow.

        Raises:
            DBOSException: It was not taken in.
        """
        self._count += 1
        payload = bytes_of(value) or b""
        event = PushedEvent(
            declaration.name,
            event_id or f"event-{self._count}",
            payload,
            hashlib.sha256(payload).digest(),
            self._app.core.clock.now_ms(),
            key.decode("utf-8", "surrogateescape") if isinstance(key, bytes) else key,
            tuple(headers_of(headers) or ()),
        )
        inbox = self.inbox(declaration.connector)
        if inbox.closed_by(declaration.name):
            self._app.launched.consumers.tick()
        (outcome,) = inbox.accept([event])
        if not outcome.durable:
            raise DBOSException(
                f"Consumer {declaration.name!r} takes nothing in: {outcome.reason}. Resume it, let the time pass, or "
                "declare it with breaker=None."
            )
        return outcome.workflow_id or inbox.workflow_id(declaration.name, event.event_id)

    def filtered(self, declaration: PushedDeclaration) -> int:
        """The events that `when` said no to."""
        core = self._app.core
        standing = core.storage.inbox.standing(core.application)
        return sum(each.filtered for each in standing if each.consumer == declaration.name)

    def inbox(self, connector: str) -> Inbox:
        """What a connector would be given at launch."""
        if connector not in self._inboxes:
            ours = [each for each in self._app.pushed if each.connector == connector]
            self._inboxes[connector] = self._app.launched.inbox.open(
                connector_of(connector, PushConnector), [(each.function, each.options) for each in ours]
            )
        return self._inboxes[connector]

    def relaunched(self) -> None:
        """A new process opens what the old one had open."""
        known, self._inboxes = list(self._inboxes), {}
        for connector in known:
            self.inbox(connector)

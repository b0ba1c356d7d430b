"""What the core finds under the entry point `webhooks`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dbos_events.connect import Inbox, PushConnector, Source, SourceHealth
from dbos_events_webhooks.receiving.receiver import CONNECTOR, WebhookReceiver
from dbos_events_webhooks.stored import WebhookMessages


class Receivers:
    """All receivers with an endpoint on one App, while it is launched."""

    name = CONNECTOR

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        found = [options.config.get("receiver") for options in inbox.consumers.values()]
        self._receivers = [each for each in dict.fromkeys(found) if isinstance(each, WebhookReceiver)]

    def start(self) -> None:
        for receiver in self._receivers:
            receiver.open(self._inbox)

    def pause(self) -> None:
        for receiver in self._receivers:
            receiver.pause()

    def stop(self, seconds: float) -> None:
        for receiver in self._receivers:
            receiver.close()

    def health(self) -> SourceHealth:
        return SourceHealth(live=True, ready=True, detail="listening")


def _open(inbox: Inbox, _settings: Mapping[str, Any]) -> Source:
    return Receivers(inbox)


connector = PushConnector(CONNECTOR, "webhook", WebhookMessages(), _open)

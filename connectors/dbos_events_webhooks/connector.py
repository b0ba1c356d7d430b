"""What the core finds under the entry point `webhooks`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dbos_events.connect import Inbox, PushConnector, Source, SourceHealth, SystemClock
from dbos_events.connect.http import HttpApp
from dbos_events.errors import ConfigurationError
from dbos_events_webhooks.receiving.receiver import CONNECTOR, WebhookReceiver
from dbos_events_webhooks.stored import WebhookMessages

ANSWER_SECONDS = 3.0
"""How long requests at work are waited for: none takes longer to be answered, once its body is there."""


class Receivers:
    """All receivers with an endpoint on one App, while it is launched."""

    name = CONNECTOR

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._clock = SystemClock()
        found = [options.config.get("receiver") for options in inbox.consumers.values()]
        self._receivers = [each for each in dict.fromkeys(found) if isinstance(each, WebhookReceiver)]

    def start(self) -> None:
        for consumer in self._inbox.consumers:
            self._inbox.report(consumer, "listening")
        for receiver in self._receivers:
            receiver.open(self._inbox)

    def pause(self) -> None:
        for receiver in self._receivers:
            receiver.pause()

    def stop(self, seconds: float) -> None:
        """What is under way is answered first: the inbox is still there."""
        end = self._clock.monotonic() + min(seconds, ANSWER_SECONDS)
        for receiver in self._receivers:
            receiver.close(end - self._clock.monotonic())

    def http_app(self, path: str) -> HttpApp | None:
        """The receiver with an endpoint at `path`, for a server that is not the program's own."""
        return next((receiver for receiver in self._receivers if receiver.has(path)), None)

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(endpoint.path for receiver in self._receivers for endpoint in receiver.endpoints)

    def health(self) -> SourceHealth:
        return SourceHealth(live=True, ready=True, detail="listening")


def _open(inbox: Inbox, settings: Mapping[str, Any]) -> Source:
    if settings:
        raise ConfigurationError(
            f"The configuration is not usable. {CONNECTOR}.{next(iter(settings))}: webhooks have no settings for all "
            "receivers. Give it to WebhookReceiver."
        )
    return Receivers(inbox)


connector = PushConnector(CONNECTOR, "webhook", WebhookMessages(), _open)

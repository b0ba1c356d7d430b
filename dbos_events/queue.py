"""`Queue` as programs declare it: of the default App."""

from __future__ import annotations

from typing import Any

from dbos_events.api.queues import Queue as AppQueue
from dbos_events.app import App
from dbos_events.facade import default_app
from dbos_events.model.queue import QueueRateLimit


class Queue(AppQueue):
    """A durable queue; see `dbos_events.api.queues.Queue`. It belongs to the default App unless `app` is given."""

    def __init__(
        self,
        name: str,
        concurrency: int | None = None,
        limiter: QueueRateLimit | None = None,
        *,
        app: App | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(name, concurrency, limiter, app=default_app() if app is None else app, **settings)

"""Apps with a consumer, launched in the test's own process."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Self

from dbos_events import KafkaMessage
from dbos_events.app import App

PROTOCOLS: dict[str, dict[str, Any]] = {
    "eager": {"partition.assignment.strategy": "range"},
    "cooperative": {"partition.assignment.strategy": "cooperative-sticky"},
    "broker-assigned": {"group.protocol": "consumer"},
}
CLASSIC = {"session.timeout.ms": 6000, "heartbeat.interval.ms": 300}
"""Short enough for a test: the others learn of a rebalance by their next heartbeat."""

Handler = Callable[[KafkaMessage], Any]


def protocol(name: str) -> dict[str, Any]:
    """The client settings of a group protocol."""
    chosen = PROTOCOLS[name]
    return chosen if "group.protocol" in chosen else {**CLASSIC, **chosen}


class Counting:
    """Counts executions of a handler by event, and how many run at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.executions: Counter[tuple[int, int]] = Counter()
        self.order: list[tuple[int, int]] = []
        self.messages: list[KafkaMessage] = []
        self.at_once = 0
        self.most_at_once = 0

    def began(self, message: KafkaMessage) -> None:
        with self._lock:
            place = message.partition or 0, message.offset or 0
            self.executions[place] += 1
            self.order.append(place)
            self.messages.append(message)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)

    def ended(self) -> None:
        with self._lock:
            self.at_once -= 1

    def sync_handler(self, message: KafkaMessage) -> None:
        self.began(message)
        self.ended()

    async def async_handler(self, message: KafkaMessage) -> None:
        self.began(message)
        self.ended()

    @property
    def total(self) -> int:
        return self.executions.total()


class Consumers:
    """Makes Apps and destroys them at the end. Those of one name are processes of one application."""

    def __init__(self, database_url: str, bootstrap: str) -> None:
        self.database_url = database_url
        self.bootstrap = bootstrap
        self._started = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._started.close()

    def app(self, *, name: str = "rules", **settings: Any) -> App:
        """An App on the test's database, not launched."""
        return App(
            {
                "name": name,
                "system_database_url": self.database_url,
                "application_version": "1",
                "lease_seconds": 2.0,
                "shutdown_timeout_seconds": 10.0,
                **settings,
            }
        )

    def declare(
        self,
        app: App,
        topics: str | Sequence[str],
        handler: Handler,
        *,
        config: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """Add a consumer called `consumer`, of the broker-assigned protocol unless `config` says otherwise."""
        client = {"bootstrap.servers": self.bootstrap, **PROTOCOLS["broker-assigned"], **(config or {})}
        options.setdefault("name", "consumer")
        decorate = app.kafka_consumer(client, topics, **options)
        decorate(app.workflow(name="handler")(_function_of(handler)))

    def launch(self, app: App) -> App:
        """Launch, and destroy at the end of the test."""
        app.launch()
        self._started.callback(app.destroy)
        return app

    def start(self, topics: str | Sequence[str], handler: Handler, **options: Any) -> App:
        """Declare on an App of its own and launch it; options starting with `app_` are its settings."""
        settings = {
            key.removeprefix("app_"): options.pop(key) for key in tuple(options) if key.startswith("app_")
        }
        app = self.app(**settings)
        if options.get("queue_name"):
            app.queue(options["queue_name"])
        self.declare(app, topics, handler, **options)
        return self.launch(app)


def _function_of(handler: Handler) -> Handler:
    """A workflow is a function with a name of its own, not a bound method."""
    import inspect

    if inspect.iscoroutinefunction(handler):

        async def handle_async(message: KafkaMessage) -> Any:
            return await handler(message)

        return handle_async

    def handle(message: KafkaMessage) -> Any:
        return handler(message)

    return handle

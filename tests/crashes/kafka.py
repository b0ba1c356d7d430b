"""Calls of the Kafka client as points, and a life that reads from a broker, on the system's clock."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient

from dbos_events import App
from dbos_events_kafka.testing import EmbeddedBroker
from tests.crashes.points import Watch
from tests.crashes.world import TOPIC, Log, World
from tests.faults.rows import Rows
from tests.faults.waiting import wait_until

MOST = 3
"""Calls of one name that are points: what is asked every second goes on being asked."""
SESSION_MS = 500
WITHOUT_DATA = ("poll", "consume")
"""Calls that mostly give nothing: they are points when they gave something."""


def watch_kafka(watch: Watch) -> None:
    """See all that the connector asks of the client, whatever its modules call it with."""
    classes = {Consumer: _watched(Consumer, watch), AdminClient: _watched(AdminClient, watch)}
    for name, module in tuple(sys.modules.items()):
        if name.startswith("dbos_events_kafka."):
            for attribute, value in tuple(vars(module).items()):
                if isinstance(value, type) and value in classes:
                    setattr(module, attribute, classes[value])


def _watched(kind: type[Any], watch: Watch) -> type[Any]:
    """The class with every public method a point before and after its call."""

    def method(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
            if name in WITHOUT_DATA:
                return watch.after(f"{kind.__name__}.{name}", call(self, *args, **kwargs))
            return watch.around(f"{kind.__name__}.{name}", lambda: call(self, *args, **kwargs))

        return watched

    names = [name for name in dir(kind) if not name.startswith("_") and callable(getattr(kind, name))]
    return type(kind.__name__, (kind,), {name: method(name, getattr(kind, name)) for name in names})


class KafkaWorld(World):
    """One life of an application that reads a broker: real threads, real time."""

    def __init__(
        self, app: App, url: str, log: Log, folder: Path, life: int, watch: Watch, bootstrap: str
    ) -> None:
        super().__init__(app, url, log, folder, life, watch)
        app.configure(
            {
                "name": "shop",
                "system_database_url": url,
                "application_version": "1",
                "lease_seconds": 1.0,
                "kafka": {"bootstrap.servers": bootstrap, "group.protocol": "consumer"},
            }
        )

    def start(self) -> None:
        self.app.launch()

    def receive(self) -> None:
        """The source does it by itself."""

    def settle(self) -> None:
        """Wait until all that the log holds has ended, and Kafka was told of it."""
        count, rows = sum(len(values) for values in self._log.values()), Rows(self._url)
        wait_until(lambda: rows.succeeded() == count, "not all events have ended", seconds=100.0)
        if self.life == 1:  # a later one may find nothing to tell
            self._watch.wait_for("Consumer.commit", 5.0)

    def stop(self) -> None:
        self.app.destroy(workflow_completion_timeout_sec=5.0)


def broker_with(log: Log) -> EmbeddedBroker:
    """A broker that holds the log, and outlives the processes that read it."""
    broker = EmbeddedBroker(session_timeout_ms=SESSION_MS, heartbeat_interval_ms=100)
    broker.create_topic(TOPIC, partitions=len(log))
    for partition, values in log.items():
        broker.produce(TOPIC, *((value[:1], value) for value in values), partition=partition)
    return broker

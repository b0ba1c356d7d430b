"""What the examples run on: a broker and a database that end with the program.

Your own program has none of this: it declares its handlers, and `dbos-events run` runs them with the
broker and the database that the environment names (see consumer.py).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dbos_events import DBOS, WorkflowStatus
from dbos_events_kafka.testing import EmbeddedBroker


@contextmanager
def launched(*topics: str, partitions: int = 1, **config: Any) -> Iterator[EmbeddedBroker]:
    """Launch what was declared, on topics of an embedded broker and a temporary SQLite file."""
    with tempfile.TemporaryDirectory() as folder, EmbeddedBroker() as broker:
        for topic in topics:
            broker.create_topic(topic, partitions)
        DBOS(
            config={
                "name": "example",
                "system_database_url": f"sqlite:///{folder}/example.sqlite",
                "kafka": {"bootstrap.servers": broker.bootstrap_servers, "group.protocol": "consumer"},
                **config,
            }
        )
        DBOS.launch()
        try:
            yield broker
        finally:
            DBOS.destroy()


def wait_for(count: int, name: str, status: str = "SUCCESS", seconds: float = 30.0) -> list[WorkflowStatus]:
    """Wait until so many workflows of this function are in this state; gives them, oldest first.

    Raises:
        TimeoutError: They are not.
    """
    deadline = time.monotonic() + seconds
    while True:
        found = DBOS.list_workflows(name=name, status=status)
        if len(found) >= count:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"{len(found)} of {count} workflows of {name} are {status} after {seconds:g} s."
            )
        time.sleep(0.05)

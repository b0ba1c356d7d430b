"""Databases and brokers for worker processes, and the workers themselves."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.conftest import unique_name
from tests.faults.broker import Broker
from tests.faults.effects import Effects
from tests.faults.worker import Options
from tests.faults.workers import Fleet

QUICK_CLASSIC = {
    "session.timeout.ms": 2000,
    "heartbeat.interval.ms": 300,
    "partition.assignment.strategy": "cooperative-sticky",
}
"""A member that is silent for two seconds is out of its group."""


class FleetFactory(Protocol):
    """Makes fleets on the test's database and broker."""

    def __call__(self, topic: str, **options: Any) -> Fleet: ...


@pytest.fixture
def broker(kafka_bootstrap: str) -> Broker:
    return Broker(kafka_bootstrap)


@pytest.fixture
def fleet_of(migrated_postgres: str, kafka_bootstrap: str, tmp_path: Path) -> Iterator[FleetFactory]:
    """`fleet_of(topic, ordering="partition")` makes a fleet whose leases and sessions are short."""
    with ExitStack() as stack:

        def make(topic: str, **options: Any) -> Fleet:
            chosen: dict[str, Any] = {
                "database": migrated_postgres,
                "effects": migrated_postgres,
                "topic": topic,
                "label": "",
                "kafka": {"bootstrap.servers": kafka_bootstrap, **QUICK_CLASSIC},
                "settings": {"lease_seconds": 1.5, "shutdown_timeout_seconds": 8.0},
                **options,
            }
            # Tests that run beside this one have applications of the same name. In one group with them this fleet would wait
            # in each rebalance for members that another test has stopped.
            chosen["kafka"] = {"group.id": unique_name("fleet"), **chosen["kafka"]}
            Effects(chosen["effects"]).create()
            return stack.enter_context(Fleet(Options(**chosen), tmp_path))

        yield make


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """The file that handlers which hold are waiting for."""
    return tmp_path / "gate"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`broker` and `fleet_of` need servers, also where the shared markers cannot see it."""
    for item in items:
        names = set(getattr(item, "fixturenames", ()))
        if names & {"broker", "fleet_of"}:
            item.add_marker("kafka")

"""A broker, a database, and what a test sees of both."""

from collections.abc import Iterator

import pytest

from tests.connectors.kafka.consuming import Consumers
from tests.faults.broker import Broker
from tests.faults.rows import Rows


@pytest.fixture
def broker(kafka_bootstrap: str) -> Broker:
    """The shared broker; make topics on it with `kafka_topic`."""
    return Broker(kafka_bootstrap)


@pytest.fixture
def rows(postgres_url: str) -> Rows:
    """The system database of `consumers`."""
    return Rows(postgres_url)


@pytest.fixture
def consumers(postgres_url: str, kafka_bootstrap: str) -> Iterator[Consumers]:
    """Makes Apps with one consumer each, on the test's database and the shared broker."""
    with Consumers(postgres_url, kafka_bootstrap) as made:
        yield made


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "broker" in getattr(item, "fixturenames", ()):
            item.add_marker("kafka")

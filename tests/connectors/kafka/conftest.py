"""A broker, a database, and what a test sees of both."""

from collections.abc import Iterator

import pytest

from dbos_events_kafka.testing import EmbeddedBroker
from tests.conftest import unique_name
from tests.connectors.kafka.consuming import Consumers
from tests.connectors.kafka.troubles import Troubles
from tests.faults.broker import Broker
from tests.faults.rows import Rows


@pytest.fixture
def broker(kafka_bootstrap: str) -> Broker:
    """The shared broker; make topics on it with `kafka_topic`."""
    return Broker(kafka_bootstrap)


@pytest.fixture
def rows(migrated_postgres: str) -> Rows:
    """The system database of `consumers`."""
    return Rows(migrated_postgres)


@pytest.fixture
def consumers(migrated_postgres: str, kafka_bootstrap: str) -> Iterator[Consumers]:
    """Makes Apps with one consumer each, on the test's database and the shared broker."""
    with Consumers(migrated_postgres, kafka_bootstrap) as made:
        yield made


@pytest.fixture
def group() -> str:
    return unique_name("group")


@pytest.fixture
def embedded() -> Iterator[EmbeddedBroker]:
    """An embedded broker, without topics."""
    with EmbeddedBroker() as broker:
        yield broker


@pytest.fixture
def local(migrated_sqlite: str, embedded: EmbeddedBroker) -> Iterator[Consumers]:
    """Apps on a SQLite file and the embedded broker."""
    with Consumers(migrated_sqlite, embedded.bootstrap_servers) as made:
        yield made


@pytest.fixture
def stored(migrated_sqlite: str) -> Rows:
    """The system database of `local`."""
    return Rows(migrated_sqlite)


@pytest.fixture
def troubles(caplog: pytest.LogCaptureFixture) -> Troubles:
    return Troubles(caplog)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "broker" in getattr(item, "fixturenames", ()):
            item.add_marker("kafka")

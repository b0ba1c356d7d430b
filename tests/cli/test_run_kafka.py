"""`dbos-events run` with a consumer: records are taken in, and a stop leaves no gap and no repetition."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dbos_events_kafka.testing import EmbeddedBroker
from tests.cli.service import PROGRAM, Service, clean_environment, eventually

CONSUMER = """
from pathlib import Path

from dbos_events import DBOS, KafkaMessage


@DBOS.kafka_consumer({"group.protocol": "consumer"}, ["orders"], ordering="partition")
def on_order(message: KafkaMessage) -> None:
    with Path("handled").open("a") as file:
        print(message.value.decode(), file=file)
"""


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as broker:
        broker.create_topic("orders", partitions=1)
        yield broker


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "consumer"
    folder.mkdir()
    (folder / "consumers.py").write_text(CONSUMER)
    return folder


def handled(folder: Path) -> list[str]:
    file = folder / "handled"
    return file.read_text().split() if file.exists() else []


def status(folder: Path, database_url: str) -> list[dict[str, Any]]:
    command = [PROGRAM, "kafka", "status", "--json", "--database", database_url]
    done = subprocess.run(
        command, cwd=folder, env=clean_environment(), capture_output=True, check=True, timeout=60
    )
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_a_service_consumes_drains_and_goes_on_where_it_was(
    folder: Path, broker: EmbeddedBroker, sqlite_url: str
) -> None:
    arguments = ("consumers.py", "--database", sqlite_url, "--health-port", "0")
    servers = {"DBOS_EVENTS_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap_servers}
    broker.produce("orders", "1", "2", partition=0)

    with Service(folder, *arguments, **servers) as service:
        consumer = service.wait_for("Consumer on_order reads orders")
        assert consumer["extra"] == {"consumer": "on_order", "topics": ["orders"], "ordering": "partition"}
        eventually(lambda: handled(folder) == ["1", "2"], "both records are handled")
        service.wait_until("/readyz", 200)
        eventually(lambda: status(folder, sqlite_url)[0]["in_flight"] == 0, "nothing is in flight")
        (row,) = status(folder, sqlite_url)
        assert (row["consumer"], row["topic"], row["watermark"]) == ("on_order", "orders", 2)
        assert row["holder_alive"]
        service.process.terminate()
        assert service.ended() == 0

    broker.produce("orders", "3", partition=0)
    assert not status(folder, sqlite_url)[0]["holder_alive"]
    with Service(folder, *arguments, **servers) as service:
        eventually(lambda: handled(folder) == ["1", "2", "3"], "the next record is handled, and no other")
        service.process.terminate()
        assert service.ended() == 0


def test_a_service_whose_broker_is_down_is_live_and_not_ready(folder: Path, sqlite_url: str) -> None:
    arguments = ("consumers.py", "--database", sqlite_url, "--health-port", "0")
    with Service(folder, *arguments, DBOS_EVENTS_KAFKA__BOOTSTRAP_SERVERS="127.0.0.1:1") as service:
        service.wait_for("Launched")
        assert service.probe("/livez")[0] == 200
        problems = service.wait_until("/readyz", 503)["problems"]
        assert problems[0].startswith("on_order: ")
        service.process.terminate()
        assert service.ended() == 0


def test_a_consumer_without_a_broker_address_fails_to_start(folder: Path, sqlite_url: str) -> None:
    with Service(folder, "consumers.py", "--database", sqlite_url) as service:
        assert service.ended() == 1
        assert service.errors.startswith("dbos-events: Consumer 'on_order' names no broker.")

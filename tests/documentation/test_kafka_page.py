"""What docs/kafka.md tells to do about a quarantined event works while the service runs."""

import time

from typer.testing import CliRunner

from dbos_events import App, KafkaMessage
from dbos_events.cli.root import app as command_line
from dbos_events_kafka.testing import EmbeddedBroker

SECONDS = 30


def until(app: App, status: str, count: int) -> list[str]:
    deadline = time.monotonic() + SECONDS
    while len(found := app.list_workflows(status=status)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return [one.workflow_id for one in found]


def quarantine(postgres_url: str, *arguments: str) -> str:
    result = CliRunner().invoke(command_line, ["quarantine", *arguments, "--database", postgres_url])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_discarded_event_frees_its_partition(postgres_url: str) -> None:
    app = App()
    mended: list[int] = []

    @app.kafka_consumer(topics=["orders"], ordering="partition")
    def on_order(message: KafkaMessage[bytes]) -> None:
        if message.value == b"bad" and not mended:
            raise ValueError("bad")

    with EmbeddedBroker() as broker:
        broker.create_topic("orders")
        broker.produce("orders", "good", "bad", "good", "bad", "good")
        kafka = {"bootstrap.servers": broker.bootstrap_servers, "group.protocol": "consumer"}
        app.configure({"name": "shop", "system_database_url": postgres_url, "kafka": kafka})
        with app:
            (failed,) = until(app, "ERROR", 1)
            assert len(until(app, "SUCCESS", 1)) == 1
            assert failed in quarantine(postgres_url, "discard", failed, "--reason", "bad")
            assert len(until(app, "SUCCESS", 2)) == 2
            (second,) = set(until(app, "ERROR", 2)) - {failed}
            assert len(app.list_workflows(status="PENDING")) == 1
            mended.append(1)
            assert second in quarantine(postgres_url, "redrive", "--all")
            until(app, "SUCCESS", 4)

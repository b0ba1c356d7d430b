"""A pause by the command line stops two services at once, over restarts, on a real broker."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cli.service import PROGRAM, Service, clean_environment, eventually
from tests.conftest import TopicFactory
from tests.faults.broker import Broker

SHOP = "shop-paused"
"""No other test has this application, and so its consumer group: they share a broker, and may run beside this one."""

CONSUMER = """
from pathlib import Path

from dbos_events import DBOS, KafkaMessage


@DBOS.kafka_consumer({{"group.protocol": "consumer"}}, ["{topic}"], name="on_order")
def on_order(message: KafkaMessage) -> None:
    with Path("handled").open("a") as file:
        file.write(message.value.decode() + "\\n")
"""


@pytest.fixture
def topic(kafka_topic: TopicFactory) -> str:
    return kafka_topic(partitions=2)


@pytest.fixture
def folder(tmp_path: Path, topic: str) -> Path:
    folder = tmp_path / "consumer"
    folder.mkdir()
    (folder / "consumers.py").write_text(CONSUMER.format(topic=topic))
    return folder


def command(postgres_url: str, *arguments: str) -> Any:
    """What `dbos-events kafka ...` answers as JSON."""
    done = subprocess.run(
        [PROGRAM, "kafka", *arguments, "--json", "--application", SHOP, "--database", postgres_url],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_two_services_pause_and_go_on_at_a_command(
    folder: Path, topic: str, kafka_bootstrap: str, postgres_url: str, tmp_path: Path
) -> None:
    broker = Broker(kafka_bootstrap)
    group = f"{SHOP}.on_order"

    def service(name: str) -> Service:
        (home := tmp_path / name).mkdir(exist_ok=True)
        arguments = (str(folder / "consumers.py"), "--database", postgres_url, "--health-port", "0")
        return Service(
            home, *arguments, DBOS_EVENTS_NAME=SHOP, DBOS_EVENTS_KAFKA__BOOTSTRAP_SERVERS=kafka_bootstrap
        )

    def handled() -> list[str]:
        return sorted(line for file in tmp_path.glob("*/handled") for line in file.read_text().split())

    def watermarks() -> int:
        return sum(row["watermark"] for row in command(postgres_url, "status"))

    with service("one") as one, service("two") as two:
        for each in (one, two):
            each.wait_until("/readyz", 200)
        eventually(lambda: broker.members(group) == 2, "both are members")
        broker.produce_to(topic, [(number % 2, f"a{number}") for number in range(20)])
        eventually(lambda: len(handled()) == 20, "the first events are handled")

        assert command(postgres_url, "pause", "on_order", "--reason", "migration")["changed"]
        for each in (one, two):
            each.wait_for("on_order: paused by ")
        broker.produce_to(topic, [(number % 2, f"b{number}") for number in range(20)])
        status, body = two.probe("/readyz")
        assert (status, body["problems"]) == (200, [])
        assert body["notes"][0].endswith(": migration")
        one.process.terminate()
        assert one.ended() == 0
        with service("one") as again:
            again.wait_for("on_order: paused by ")
            eventually(lambda: broker.members(group) == 2, "both are members again")
            rows = command(postgres_url, "status")
            assert {row["paused"]["reason"] for row in rows} == {"migration"}
            assert watermarks() == 20
            assert len(handled()) == 20

            assert command(postgres_url, "resume", "on_order")["changed"]
            eventually(lambda: len(handled()) == 40, "the events are handled after the pause")
            assert handled() == sorted([f"a{n}" for n in range(20)] + [f"b{n}" for n in range(20)])
            assert command(postgres_url, "gaps") == []
            [traced] = command(postgres_url, "trace", topic, "1", "3")
            assert (traced["outcome"], traced["consumer"]) == ("succeeded", "on_order")

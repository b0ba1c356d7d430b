"""Rule 7 on a real cluster: a broker that lacks records is elected, and others are written at their offsets.

Two brokers keep two topics. One dies, what is written then is taken in from the other one alone, that one dies
too, and the first comes back and leads with the log that it has.
"""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from dbos_events import KafkaMessage
from dbos_events.app import App
from dbos_events.cli.root import app as command_line
from tests.conftest import or_left_out
from tests.connectors.kafka.consuming import Consumers
from tests.faults.broker import Broker
from tests.faults.rows import Rows
from tests.faults.waiting import stays, wait_until
from tests.servers import KafkaCluster

KEPT, LOST = 6, 4
AFTER = {0: 9, 1: 2, 2: 3}
"""Records that are written after the election: past where the services stood, short of it, and to a partition that lost
none."""
CUT = (0, 1)
HALTED = {0: "halted", 1: "halted", 2: "reading"}
STOOD = {0: KEPT + LOST, 1: KEPT + LOST, 2: KEPT}

Effect = tuple[int, int, bytes]
Write = Callable[[str, int, dict[int, int]], None]


class Service:
    """An application with one consumer of one topic, called as it is; its handler does one step."""

    def __init__(self, consumers: Consumers, topic: str) -> None:
        self.topic = topic
        self.effects: Counter[Effect] = Counter()
        self._consumers = consumers
        self._lock = threading.Lock()
        self._app: App | None = None

    def start(self) -> None:
        self._app = app = self._consumers.app(name=self.topic)

        @app.step()
        def effect(partition: int, offset: int, value: bytes) -> None:
            with self._lock:
                self.effects[partition, offset, value] += 1

        def handle(message: KafkaMessage) -> None:
            assert isinstance(message.value, bytes)
            effect(message.partition or 0, message.offset or 0, message.value)

        self._consumers.declare(app, self.topic, handle)
        self._consumers.launch(app)

    def stop(self) -> None:
        assert self._app is not None
        self._app.destroy(workflow_completion_timeout_sec=10)

    @property
    def problems(self) -> str:
        """What `/readyz` says."""
        assert self._app is not None
        return "; ".join(self._app.health().problems)

    def command(self, *arguments: str) -> Result:
        """What an operator's command does."""
        options = ("--application", self.topic, "--database", self._consumers.database_url)
        return CliRunner().invoke(command_line, ["kafka", *arguments, *options])

    def status(self) -> dict[int, dict[str, Any]]:
        """Each partition, in its newest incarnation."""
        rows = json.loads(self.command("status", "--json").stdout)
        found = [row for row in rows if row["partition"] is not None]
        return {row["partition"]: row for row in sorted(found, key=lambda row: row["incarnation"])}

    def comes_to(self, states: dict[int, str]) -> None:
        """Wait until the status says so."""

        def shown() -> bool:
            return {partition: row["state"] for partition, row in self.status().items()} == states

        wait_until(shown, f"{self.topic} does not come to {states}", seconds=60)

    def decide(self, partition: int) -> None:
        """Read on where the service found the log to differ, or where we know that it does."""
        decision = ("resolve-truncation", "consumer", self.topic, str(partition))
        done = self.command(*decision)
        if done.exit_code:
            done = self.command(*decision, "--from-offset", str(KEPT))
        assert f"{self.topic}[{partition}] is read from {KEPT} as" in done.output

    def has_done(self, expected: set[Effect]) -> None:
        wait_until(lambda: set(self.effects) >= expected, f"not all of {self.topic} has run", seconds=60)
        assert self.effects == Counter(expected)


def written(word: str, first: int, counts: dict[int, int]) -> set[Effect]:
    """The effects of so many records for each partition, from an offset on."""
    return {
        (partition, offset, f"{word} {partition}-{offset}".encode())
        for partition, count in counts.items()
        for offset in range(first, first + count)
    }


KEPT_ONES = written("kept", 0, dict.fromkeys(STOOD, KEPT))
LOST_ONES = written("lost", KEPT, dict.fromkeys(CUT, LOST))


@pytest.fixture
def cluster() -> Iterator[KafkaCluster]:
    with or_left_out("kafka"):
        cluster = KafkaCluster()
    with cluster:
        yield cluster


@pytest.fixture
def services(cluster: KafkaCluster, postgres_url: str) -> Iterator[list[Service]]:
    """One that is to run all the time, and one that is to be down during the election."""
    with Consumers(postgres_url, cluster.bootstrap) as consumers:
        yield [Service(consumers, "running"), Service(consumers, "stopped")]


def lose_records(cluster: KafkaCluster, services: list[Service], write: Write) -> None:
    """Both services take in what the second broker never gets, and then it leads; one of them is down by then."""
    first, second = cluster.brokers
    topics = [service.topic for service in services]

    def in_sync(*nodes: int) -> bool:
        return all(cluster.in_sync(topic) == [set(nodes)] * len(STOOD) for topic in topics)

    write("kept", 0, dict.fromkeys(STOOD, KEPT))
    for service in services:
        service.start()
    for service in services:
        service.has_done(KEPT_ONES)
    # A commit that a dead broker does not confirm holds up the heartbeats behind it, and the membership ends.
    broker = Broker(cluster.bootstrap)
    wait_until(
        lambda: all(
            set(broker.committed(f"{topic}.consumer", topic, 3).values()) == {KEPT} for topic in topics
        ),
        "the offsets are not committed",
    )
    wait_until(lambda: in_sync(first.node, second.node), "not both brokers have everything", seconds=60)
    second.kill()
    wait_until(lambda: in_sync(first.node), "a dead broker is in sync", seconds=60)
    write("lost", KEPT, dict.fromkeys(CUT, LOST))
    for service in services:
        service.has_done(KEPT_ONES | LOST_ONES)
    services[1].stop()
    first.kill()
    second.start()
    led = [second.node] * len(STOOD)
    wait_until(lambda: all(cluster.leaders(topic) == led for topic in topics), "it does not lead", seconds=60)


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.timeout(300)
def test_a_log_that_lost_records_halts_and_is_read_on_as_a_branch(
    cluster: KafkaCluster, services: list[Service], postgres_url: str
) -> None:
    broker = Broker(cluster.bootstrap)
    for service in services:
        cluster.create_topic(service.topic, len(STOOD))

    def write(word: str, first: int, counts: dict[int, int]) -> None:
        for service in services:
            records = sorted(written(word, first, counts))
            broker.produce_to(service.topic, [(partition, value) for partition, _, value in records])

    lose_records(cluster, services, write)
    write("new", KEPT, AFTER)
    services[1].start()

    new = written("new", KEPT, AFTER)
    untouched = KEPT_ONES | LOST_ONES | {effect for effect in new if effect[0] not in CUT}
    for service in services:
        service.comes_to(HALTED)
        service.has_done(untouched)
    stays(lambda: all(set(one.effects) == untouched for one in services), "it ran undecided", seconds=1.5)
    for service in services:
        status = service.status()
        assert {number: row["watermark"] for number, row in status.items()} == {**STOOD, 2: KEPT + AFTER[2]}
        assert all("truncated" in status[partition]["detail"] for partition in CUT)
        assert "is halted" in service.problems

    # The log ends where records are that were written since: where they begin is not for us to guess.
    refused = services[1].command("resolve-truncation", "consumer", "stopped", "1")
    assert "Find the first offset that is new" in refused.output
    for service in services:
        for partition in CUT:
            service.decide(partition)
    for service in services:
        service.has_done(untouched | new)
    wait_until(lambda: not any(service.problems for service in services), "not ready")
    write("later", KEPT + AFTER[1], {1: 3})
    everything = untouched | new | written("later", KEPT + AFTER[1], {1: 3})
    for service in services:
        service.has_done(everything)
        service.comes_to(dict.fromkeys(STOOD, "reading"))
    rows = Rows(postgres_url)
    wait_until(
        lambda: rows.statuses() == {"SUCCESS": 2 * len(everything)}, "other events than those of the records"
    )

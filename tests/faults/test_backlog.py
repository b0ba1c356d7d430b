"""A backlog stays with the broker: behind a blocked handler neither threads, memory nor work grow."""

import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from dbos_events.runtime.intake.places import MOST_BYTES
from dbos_events_kafka.buffers import TAKE_BYTES
from tests.conftest import TopicFactory
from tests.faults.broker import Broker
from tests.faults.conftest import FleetFactory
from tests.faults.waiting import stays, wait_until
from tests.faults.workers import Worker, end_gracefully

RECORDS = 300_000
PARTITIONS = 4
IN_FLIGHT = 1000
SETTLE_SECONDS = 3.0
WATCH_SECONDS = 5.0
HOLD = b'{"do": "hold"}'


@dataclass(frozen=True, slots=True)
class Measure:
    """What a process takes at one moment."""

    threads: int
    resident_mb: float
    cpu_seconds: float

    @classmethod
    def of(cls, worker: Worker) -> "Measure":
        return cls(worker.threads(), worker.resident_mb(), worker.cpu_seconds())


def watch(worker: Worker, what: str) -> tuple[Measure, Measure]:
    """Measure twice, with time enough between for anything that grows to show."""
    time.sleep(SETTLE_SECONDS)
    before = Measure.of(worker)
    time.sleep(WATCH_SECONDS)
    after = Measure.of(worker)
    print(
        f"{what}: threads {before.threads} -> {after.threads}, "
        f"RSS {before.resident_mb:.0f} -> {after.resident_mb:.0f} MB, "
        f"{(after.cpu_seconds - before.cpu_seconds) / WATCH_SECONDS:.1%} of one core"
    )
    return before, after


def assert_idle(before: Measure, after: Measure) -> None:
    assert after.threads <= before.threads
    assert after.resident_mb - before.resident_mb < 5
    assert (after.cpu_seconds - before.cpu_seconds) / WATCH_SECONDS < 0.2, "a hot loop"


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("handler", "ordering", "threads"),
    [("sync", "none", 64 + 40), ("async", "none", 40), ("async", "partition", 40)],
)
def test_300000_records_behind_blocked_handlers_cost_nothing(
    handler: str,
    ordering: str,
    threads: int,
    kafka_topic: TopicFactory,
    broker: Broker,
    fleet_of: FleetFactory,
    gate: Path,
) -> None:
    topic = kafka_topic(PARTITIONS)
    broker.produce_spread(topic, [HOLD] * RECORDS, PARTITIONS)
    fleet = fleet_of(topic, handler=handler, ordering=ordering, gate=str(gate), max_in_flight=IN_FLIGHT)
    worker = fleet.start(drain_seconds=0.0).wait_launched()
    wait_until(
        lambda: fleet.rows.statuses() == {"PENDING": IN_FLIGHT}, "not as many events as may are in flight"
    )

    before, after = watch(worker, f"{handler}, {ordering}")

    assert fleet.rows.statuses() == {"PENDING": IN_FLIGHT}
    assert sum(fleet.rows.watermarks().values()) == IN_FLIGHT
    assert before.threads <= threads
    assert before.resident_mb < 250
    assert_idle(before, after)
    end_gracefully([worker])


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_blocked_partition_holds_up_neither_the_others_nor_memory(
    kafka_topic: TopicFactory, broker: Broker, fleet_of: FleetFactory, gate: Path
) -> None:
    flowing = 4_000
    topic = kafka_topic(PARTITIONS)
    broker.produce(topic, [HOLD] * RECORDS, partition=0)
    fleet = fleet_of(topic, ordering="partition", gate=str(gate), max_in_flight=IN_FLIGHT)
    worker = fleet.start(drain_seconds=0.0).wait_launched()
    share = IN_FLIGHT // PARTITIONS
    wait_until(lambda: fleet.rows.watermarks().get(0, 0) >= share, "the lane does not fill")

    broker.produce(topic, [b"%d" % number for number in range(flowing)], partition=1)
    wait_until(lambda: fleet.rows.succeeded() == flowing, "the other partition is held up", seconds=90)
    before, after = watch(worker, "one lane blocked, one done")

    assert fleet.rows.watermarks() == {0: share, 1: flowing, 2: 0, 3: 0}
    assert before.resident_mb < 250
    assert_idle(before, after)
    end_gracefully([worker])


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("ordering", ["none", "partition"])
def test_large_headers_stay_with_the_broker_behind_blocked_handlers(
    ordering: str, kafka_topic: TopicFactory, broker: Broker, fleet_of: FleetFactory, gate: Path
) -> None:
    topic = kafka_topic()
    broker.produce_to(topic, [(0, HOLD)] * 300, headers=[("name", bytes(700_000))])
    fleet = fleet_of(topic, ordering=ordering, handler="async", gate=str(gate), max_in_flight=1000)
    worker = fleet.start(drain_seconds=0.0).wait_launched()
    most = MOST_BYTES // 700_000
    wait_until(lambda: fleet.rows.statuses().get("PENDING", 0) >= most, "the memory is not filled")
    stays(lambda: worker.resident_mb() < 450, "it takes too much memory", seconds=5)
    assert fleet.rows.statuses()["PENDING"] <= most + TAKE_BYTES // 700_000 + 1

    gate.touch()
    wait_until(lambda: fleet.rows.succeeded() == 300, "what stayed with the broker does not run", seconds=90)
    assert fleet.rows.gaps() == []
    end_gracefully([worker])

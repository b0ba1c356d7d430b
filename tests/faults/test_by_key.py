"""Order by key while members join and leave, handlers fail, and one key holds a long backlog.

`DBOS_EVENTS_KEY_EVENTS=100000` makes the run longer, `DBOS_EVENTS_FAULT_SEED=n` repeats one.
"""

import json
import os
import random
import time
from collections import defaultdict
from pathlib import Path

import pytest

from tests.conftest import TopicFactory
from tests.faults.broker import Broker
from tests.faults.conftest import FleetFactory
from tests.faults.journal import Line, read_journal
from tests.faults.operator import redrive_all
from tests.faults.waiting import wait_until
from tests.faults.workers import Fleet, end_gracefully

EVENTS = int(os.environ.get("DBOS_EVENTS_KEY_EVENTS", "10000"))
HELD = int(os.environ.get("DBOS_EVENTS_HELD_EVENTS", "20000"))
KEYS = max(10, EVENTS // 100)
PARTITIONS = 8
FAIL = json.dumps({"do": "raise"}).encode()
SECONDS = 60 + EVENTS / 200


def first_failures(events: dict[bytes, list[tuple[int, bool]]]) -> dict[bytes, int]:
    """The offset of each key's first event that fails."""
    return {
        key: next(offset for offset, fails in those if fails)
        for key, those in events.items()
        if any(fails for _, fails in those)
    }


def assert_once_and_in_order(lines: list[Line], expected: dict[bytes, list[int]]) -> None:
    done: dict[bytes, list[int]] = defaultdict(list)
    for line in lines:
        done[line.key].append(line.offset)
    assert done == {key: offsets for key, offsets in expected.items() if offsets}


def produce(broker: Broker, topic: str, seed: int) -> dict[bytes, list[tuple[int, bool]]]:
    """Spread the events over keys by chance, one in a hundred failing; gives (offset, fails) of each key."""
    chance = random.Random(seed)
    records: list[list[tuple[bytes, bytes]]] = [[] for _ in range(PARTITIONS)]
    events: dict[bytes, list[tuple[int, bool]]] = defaultdict(list)
    for number in range(EVENTS):
        which = chance.randrange(KEYS)
        key, those = b"key/%d" % which, records[which % PARTITIONS]
        fails = chance.random() < 0.01
        events[key].append((len(those), fails))
        those.append((key, FAIL if fails else b"%d" % number))
    for partition, those in enumerate(records):
        broker.produce_keyed(topic, those, partition=partition)
    return events


def come_and_go(fleet: Fleet, finished: int) -> None:
    """Let a process join and another leave, again and again, until that many events have finished."""
    workers = [fleet.start().wait_launched(), fleet.start().wait_launched()]
    rounds = 0
    while fleet.rows.succeeded() < finished and rounds < 6:
        before = fleet.rows.succeeded()
        share = (finished - before) // 3
        wait_until(
            lambda: fleet.rows.succeeded() >= before + share,  # noqa: B023 - used up before the next round
            "the events stand still",
            seconds=SECONDS,
        )
        workers.append(fleet.start().wait_launched())
        leaving = workers.pop(0)
        end_gracefully([leaving])
        rounds += 1
    wait_until(
        lambda: fleet.rows.succeeded() >= finished, "not all events that may finish did", seconds=SECONDS
    )
    time.sleep(1.0)  # what must not run would show now
    end_gracefully(workers)


@pytest.mark.slow
@pytest.mark.timeout(4 * SECONDS)
def test_order_by_key_holds_while_members_come_and_go_and_failing_keys_are_held_until_they_are_redriven(
    kafka_topic: TopicFactory, broker: Broker, fleet_of: FleetFactory, tmp_path: Path
) -> None:
    seed = int(os.environ.get("DBOS_EVENTS_FAULT_SEED", "0")) or random.randrange(1, 1_000_000)
    print(f"seed {seed}: DBOS_EVENTS_FAULT_SEED={seed} repeats it")
    journal = tmp_path / "journal"
    topic = kafka_topic(PARTITIONS)
    events = produce(broker, topic, seed)
    held_from = first_failures(events)
    may_finish = {
        key: [offset for offset, _ in those if offset < held_from.get(key, 1 << 60)]
        for key, those in events.items()
    }
    fleet = fleet_of(topic, ordering="key", handler="journal", journal=str(journal))

    began = time.monotonic()
    come_and_go(fleet, sum(map(len, may_finish.values())))
    seconds = time.monotonic() - began
    assert_once_and_in_order(read_journal(journal), may_finish)
    assert len(fleet.rows.quarantined()) == len(held_from), (
        "the first failing event of each key, and no other"
    )
    assert sum(fleet.rows.watermarks(topic).values()) == EVENTS, "what is held waits in the database"

    mended = fleet.start(
        mended=True, settings={"application_version": "2", "lease_seconds": 1.5}
    ).wait_launched()
    assert redrive_all(fleet.options.database) == len(held_from)
    wait_until(
        lambda: fleet.rows.succeeded() == EVENTS, "not all finished after the redrive", seconds=SECONDS
    )
    end_gracefully([mended])
    assert_once_and_in_order(
        read_journal(journal), {key: [offset for offset, _ in those] for key, those in events.items()}
    )
    print(
        f"{EVENTS} events, {len(events)} keys, {len(held_from)} of them held; {seconds:.1f} s until all others "
        f"had finished, {EVENTS - sum(map(len, may_finish.values()))} events after the redrive"
    )


@pytest.mark.slow
@pytest.mark.timeout(300 + HELD / 200)
def test_a_long_backlog_behind_a_quarantined_event_costs_rows_not_memory_nor_the_other_keys(
    kafka_topic: TopicFactory, broker: Broker, fleet_of: FleetFactory, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    topic = kafka_topic(1)
    fleet = fleet_of(topic, ordering="key", handler="journal", journal=str(journal))
    worker = fleet.start().wait_launched()
    others = 5_000

    def done() -> int:
        """Effects so far; counting rows would cost the database more than the events do."""
        return journal.read_bytes().count(b"\n") if journal.exists() else 0

    def run_others() -> float:
        """Events a second of 500 other keys."""
        before = done()
        began = time.monotonic()
        broker.produce_keyed(topic, ((b"other-%d" % (number % 500), b"1") for number in range(others)))
        wait_until(lambda: done() == before + others, "the other keys are held up", seconds=120)
        return others / (time.monotonic() - began)

    run_others()
    alone, memory = run_others(), worker.resident_mb()
    broker.produce_keyed(topic, ((b"poison", value) for value in [FAIL] + [b"1"] * HELD))
    wait_until(
        lambda: fleet.rows.watermarks(topic)[0] == 2 * others + HELD + 1,
        "not taken in",
        seconds=60 + HELD / 200,
    )
    beside, memory_then = run_others(), worker.resident_mb()
    print(
        f"{HELD} held: {alone:,.0f} -> {beside:,.0f} events/s of the other keys, "
        f"RSS {memory:.0f} -> {memory_then:.0f} MB"
    )
    assert [row[2] for row in fleet.rows.quarantined()] == ["handler-failed"]
    assert memory_then - memory < 30
    assert beside > alone / 2
    end_gracefully([worker])

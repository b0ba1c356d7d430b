"""Partitions that move between processes keep their order, and nothing runs twice without a fault."""

import time
from pathlib import Path

import pytest

from tests.conftest import TopicFactory
from tests.faults.broker import Broker
from tests.faults.checks import (
    assert_all_finished,
    assert_every_step_once,
    assert_in_order,
    assert_repeats_are_explained,
)
from tests.faults.conftest import FleetFactory
from tests.faults.waiting import stays, wait_until
from tests.faults.workers import Fleet, Worker, end_gracefully

pytestmark = pytest.mark.slow

PARTITIONS = 4
COUNT = 400
VALUES = [b"%d" % number for number in range(COUNT)]
HOLD = b'{"do": "hold"}'
PROTOCOLS = {
    "classic": {},
    "broker-assigned": {"group.protocol": "consumer"},
}


def wait_for_holder(fleet: Fleet, worker: Worker) -> None:
    wait_until(
        lambda: list(fleet.rows.holders().values()) == [worker.label] * PARTITIONS,
        f"{worker.label} does not hold all partitions",
    )


def wait_for_success(fleet: Fleet, count: int) -> None:
    wait_until(lambda: fleet.rows.succeeded() == count, f"not {count} events succeeded", seconds=60)


@pytest.mark.parametrize(("handler", "protocol"), [("sync", "classic"), ("async", "broker-assigned")])
def test_a_group_that_moves_from_a_to_b_and_back_keeps_the_order(
    protocol: str, handler: str, kafka_topic: TopicFactory, broker: Broker, fleet_of: FleetFactory
) -> None:
    topic = kafka_topic(PARTITIONS)
    fleet = fleet_of(topic, ordering="partition", handler=handler, step_seconds=0.002, batch_size=20)
    fleet.options.kafka.update(PROTOCOLS[protocol])
    broker.produce_spread(topic, VALUES, PARTITIONS)

    first = fleet.start("a").wait_launched()
    wait_until(lambda: fleet.rows.succeeded() >= COUNT // 4, "the first process does nothing")
    second = fleet.start("b").wait_launched()
    wait_until(lambda: len(set(fleet.rows.holders().values())) == 2, "the partitions are not shared")
    end_gracefully([first])
    wait_for_holder(fleet, second)
    broker.produce_spread(topic, VALUES, PARTITIONS)
    wait_until(lambda: fleet.rows.succeeded() >= COUNT, "the second process does nothing")
    third = fleet.start("a").wait_launched()
    end_gracefully([second])
    wait_for_holder(fleet, third)
    wait_for_success(fleet, 2 * COUNT)
    end_gracefully([third])

    effects = fleet.effects.read()
    assert_every_step_once(effects, 2 * COUNT)
    assert_in_order(effects)
    assert_all_finished(fleet.rows, 2 * COUNT)


@pytest.mark.parametrize("handler", ["async"])
def test_an_event_that_its_old_holder_still_runs_is_waited_for(
    handler: str, kafka_topic: TopicFactory, broker: Broker, fleet_of: FleetFactory, gate: Path
) -> None:
    topic = kafka_topic(1)
    fleet = fleet_of(topic, ordering="partition", handler=handler, gate=str(gate))
    first = fleet.start(
        "a", drain_seconds=20.0, settings={**fleet.options.settings, "shutdown_timeout_seconds": 25.0}
    )
    first.wait_launched()
    broker.produce(topic, [b"before", HOLD, b"behind"])
    wait_until(lambda: len(fleet.effects.read()) == 3, "the first process does not hold")

    # The group moves while the event runs: its holder leaves the group only when it has drained, so a
    # second process joins instead, and takes the only partition when the first one's session ends.
    second = fleet.start("b").wait_launched()
    broker.produce(topic, [b"after"])
    stays(lambda: fleet.rows.succeeded() == 1, "an event overtook the one that is held", seconds=1.0)
    first.terminate()
    stays(lambda: fleet.rows.succeeded() == 1, "an event overtook the one that is held", seconds=1.0)
    gate.touch()
    wait_for_success(fleet, 4)
    assert first.wait_ended() == 0
    end_gracefully([second])

    effects = fleet.effects.read()
    assert_every_step_once(effects, 4)
    assert_in_order(effects)


@pytest.mark.parametrize("handler", ["sync"])
def test_an_event_whose_holder_is_killed_runs_again_before_those_behind_it(
    handler: str, kafka_topic: TopicFactory, broker: Broker, fleet_of: FleetFactory, gate: Path
) -> None:
    topic = kafka_topic(PARTITIONS)
    fleet = fleet_of(topic, ordering="partition", handler=handler, gate=str(gate))
    victim = fleet.start("a").wait_launched()
    broker.produce_spread(topic, [HOLD] * PARTITIONS + VALUES, PARTITIONS)
    wait_until(lambda: fleet.effects.count() == PARTITIONS, "not every lane has an event under way")
    wait_until(lambda: sum(fleet.rows.watermarks().values()) == COUNT + PARTITIONS, "not all was taken in")

    heir = fleet.start("b").wait_launched()
    fleet.harm(victim)
    victim.kill()
    killed_at = time.monotonic()
    gate.touch()
    wait_for_success(fleet, COUNT + PARTITIONS)
    print(f"all finished {time.monotonic() - killed_at:.1f} s after the kill")
    end_gracefully([heir])

    effects = fleet.effects.read()
    assert_in_order(effects)
    assert_repeats_are_explained(effects, fleet.sound())
    assert_all_finished(fleet.rows, COUNT + PARTITIONS)


@pytest.mark.parametrize("handler", ["sync", "async"])
def test_a_zombie_that_wakes_up_changes_nothing_and_takes_part_again(
    handler: str, kafka_topic: TopicFactory, broker: Broker, fleet_of: FleetFactory, gate: Path
) -> None:
    topic = kafka_topic(PARTITIONS)
    fleet = fleet_of(topic, ordering="partition", handler=handler, gate=str(gate))
    zombie = fleet.start("a").wait_launched()
    broker.produce_spread(topic, [HOLD] * PARTITIONS + VALUES, PARTITIONS)
    wait_until(lambda: fleet.effects.count() == PARTITIONS, "not every lane has an event under way")

    zombie.freeze()
    fleet.harm(zombie)
    heir = fleet.start("b").wait_launched()
    wait_for_holder(fleet, heir)
    gate.touch()
    wait_for_success(fleet, COUNT + PARTITIONS)
    before = fleet.rows.query("SELECT id, status, take, owner FROM {t}workflows ORDER BY id")
    zombie.thaw()
    wait_until(lambda: len(fleet.executors(zombie)) == 2, "the zombie has not registered anew")
    wait_until(
        lambda: len(set(fleet.rows.holders().values())) == 2,
        "the zombie does not take part again",
        seconds=60,
    )
    broker.produce_spread(topic, VALUES, PARTITIONS)
    wait_for_success(fleet, 2 * COUNT + PARTITIONS)
    old = {row[0] for row in before}
    after = fleet.rows.query("SELECT id, status, take, owner FROM {t}workflows ORDER BY id")
    end_gracefully([zombie, heir])

    assert [row for row in after if row[0] in old] == before
    dead = fleet.executors(zombie)[0]
    by_zombie = [effect for effect in fleet.effects.read() if effect.executor == dead]
    # What it was in the middle of may come to its end, but nothing new begins.
    assert all(effect.offset == 0 for effect in by_zombie)
    others = [effect for effect in fleet.effects.read() if effect.executor != dead]
    assert_in_order(others)
    assert_repeats_are_explained(others, fleet.sound())
    assert_all_finished(fleet.rows, 2 * COUNT + PARTITIONS)

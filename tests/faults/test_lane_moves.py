"""Lanes by key and by topic keep their order while the processes that hold them come, go, die and freeze."""

import pytest

from tests.conftest import TopicFactory
from tests.faults.broker import Broker
from tests.faults.checks import (
    assert_all_finished,
    assert_every_step_once,
    assert_in_order_per_key,
    assert_one_at_a_time,
    assert_repeats_are_explained,
)
from tests.faults.conftest import FleetFactory
from tests.faults.waiting import wait_until
from tests.faults.workers import Fleet, end_gracefully

pytestmark = pytest.mark.slow

PARTITIONS = 4
KEYS = 7
COUNT = 800
VALUES = [b"%d" % number for number in range(COUNT)]


def wait_for_success(fleet: Fleet, count: int) -> None:
    wait_until(lambda: fleet.rows.succeeded() >= count, f"fewer than {count} events succeeded", seconds=90)


@pytest.mark.parametrize("handler", ["sync", "async"])
def test_keys_that_are_handed_over_under_load_keep_their_order(
    handler: str, kafka_topic: TopicFactory, broker: Broker, fleet_of: FleetFactory
) -> None:
    topic = kafka_topic(PARTITIONS)
    fleet = fleet_of(
        topic, ordering="key", keys=KEYS, handler=handler, step_seconds=0.005, batch_size=20, max_in_flight=20
    )
    broker.produce_spread(topic, VALUES, PARTITIONS)
    first = fleet.start("a").wait_launched()
    wait_for_success(fleet, COUNT // 8)
    second = fleet.start("b").wait_launched()
    wait_until(lambda: len(set(fleet.rows.holders().values())) == 2, "the partitions are not shared")
    wait_for_success(fleet, COUNT // 3)
    end_gracefully([first])
    wait_for_success(fleet, COUNT)
    end_gracefully([second])

    effects = fleet.effects.read()
    assert_every_step_once(effects, COUNT)
    assert_in_order_per_key(effects, KEYS)
    assert_all_finished(fleet.rows, COUNT)


def test_keys_of_a_killed_process_go_on_in_order(
    kafka_topic: TopicFactory, broker: Broker, fleet_of: FleetFactory
) -> None:
    topic = kafka_topic(PARTITIONS)
    fleet = fleet_of(topic, ordering="key", keys=KEYS, step_seconds=0.005, batch_size=20, max_in_flight=20)
    broker.produce_spread(topic, VALUES, PARTITIONS)
    victim = fleet.start("a").wait_launched()
    wait_for_success(fleet, COUNT // 8)
    heir = fleet.start("b").wait_launched()
    fleet.harm(victim)
    victim.kill()
    wait_for_success(fleet, COUNT)
    end_gracefully([heir])

    effects = fleet.effects.read()
    assert_in_order_per_key(effects, KEYS)
    assert_repeats_are_explained(effects, fleet.sound())
    assert_all_finished(fleet.rows, COUNT)


def test_keys_of_a_zombie_go_on_in_order_and_it_takes_part_again(
    kafka_topic: TopicFactory, broker: Broker, fleet_of: FleetFactory
) -> None:
    topic = kafka_topic(PARTITIONS)
    fleet = fleet_of(topic, ordering="key", keys=KEYS, step_seconds=0.005, batch_size=20, max_in_flight=20)
    broker.produce_spread(topic, VALUES, PARTITIONS)
    zombie = fleet.start("a").wait_launched()
    wait_for_success(fleet, COUNT // 8)
    zombie.freeze()
    fleet.harm(zombie)
    heir = fleet.start("b").wait_launched()
    wait_for_success(fleet, COUNT)
    zombie.thaw()
    wait_until(lambda: len(fleet.executors(zombie)) == 2, "the zombie has not registered anew")
    broker.produce_spread(topic, VALUES, PARTITIONS)
    wait_for_success(fleet, 2 * COUNT)
    end_gracefully([zombie, heir])

    dead = fleet.executors(zombie)[0]
    others = [effect for effect in fleet.effects.read() if effect.executor != dead]
    assert_in_order_per_key(others, KEYS)
    assert_repeats_are_explained(others, fleet.sound())
    assert_all_finished(fleet.rows, 2 * COUNT)


@pytest.mark.parametrize("ending", ["leaves", "dies"])
def test_a_lane_over_a_topic_goes_on_when_its_holder_ends(
    ending: str, kafka_topic: TopicFactory, broker: Broker, fleet_of: FleetFactory
) -> None:
    topic = kafka_topic(PARTITIONS)
    fleet = fleet_of(topic, ordering="topic", step_seconds=0.001, batch_size=20)
    broker.produce_spread(topic, VALUES[:200], PARTITIONS)
    holder = fleet.start("a").wait_launched()
    wait_for_success(fleet, 20)
    other = fleet.start("b").wait_launched()
    wait_until(lambda: len(set(fleet.rows.holders().values())) == 2, "the partitions are not shared")
    if ending == "dies":
        fleet.harm(holder)
        holder.kill()
    else:
        end_gracefully([holder])
    wait_for_success(fleet, 200)
    end_gracefully([other])

    effects = fleet.effects.read()
    assert_one_at_a_time(effects)
    assert_repeats_are_explained(effects, fleet.sound())
    assert_all_finished(fleet.rows, 200)

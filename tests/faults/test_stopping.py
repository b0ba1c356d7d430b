"""How a process ends: what it leaves unfinished goes on in another, and it never hangs."""

import time
from pathlib import Path

import pytest

from tests.conftest import TopicFactory
from tests.faults.broker import Broker
from tests.faults.checks import assert_all_finished, assert_every_step_once, assert_repeats_are_explained
from tests.faults.conftest import FleetFactory
from tests.faults.waiting import wait_until
from tests.faults.workers import end_gracefully

HOLD = b'{"do": "hold"}'
SLEEP = b'{"do": "sleep", "seconds": 6}'
SHUTDOWN_SECONDS = 3.0


@pytest.mark.parametrize(("handler", "ordering"), [("sync", "none"), ("async", "partition")])
def test_a_drain_has_a_hard_bound_while_a_handler_hangs(
    handler: str, ordering: str, kafka_topic: TopicFactory, broker: Broker, fleet_of: FleetFactory, gate: Path
) -> None:
    topic = kafka_topic(2)
    fleet = fleet_of(
        topic,
        handler=handler,
        ordering=ordering,
        gate=str(gate),
        drain_seconds=60.0,
        settings={"lease_seconds": 1.5, "shutdown_timeout_seconds": SHUTDOWN_SECONDS},
    )
    worker = fleet.start().wait_launched()
    broker.produce_spread(topic, [HOLD] * 2 + [b"%d" % number for number in range(20)], 2)
    wait_until(lambda: sum(fleet.rows.watermarks().values()) == 22, "not all was taken in")
    wait_until(lambda: fleet.effects.count() >= 2, "the handlers do not hang")

    began = time.monotonic()
    fleet.harm(worker)
    worker.terminate()
    assert worker.wait_ended(60) == 0, worker.log.read_text()
    seconds = time.monotonic() - began
    print(f"ended {seconds:.1f} s after SIGTERM, bound {SHUTDOWN_SECONDS} s")
    assert SHUTDOWN_SECONDS - 1 < seconds < SHUTDOWN_SECONDS + 5
    assert fleet.rows.one("SELECT end_reason FROM {t}executors") == "stopped"

    gate.touch()
    other = fleet.start().wait_launched()
    wait_until(lambda: fleet.rows.succeeded() == 22, "what hung does not go on")
    end_gracefully([other])
    assert_all_finished(fleet.rows, 22)
    assert assert_repeats_are_explained(fleet.effects.read(), fleet.sound()) == 0  # first steps are recorded


def test_a_drain_lets_running_handlers_finish_and_takes_nothing_more_in(
    kafka_topic: TopicFactory, broker: Broker, fleet_of: FleetFactory, gate: Path
) -> None:
    topic = kafka_topic(2)
    fleet = fleet_of(
        topic,
        gate=str(gate),
        drain_seconds=20.0,
        settings={"lease_seconds": 1.5, "shutdown_timeout_seconds": 25},
    )
    worker = fleet.start().wait_launched()
    broker.produce_spread(topic, [HOLD] * 10, 2)
    wait_until(lambda: fleet.effects.count() == 10, "the handlers do not run")
    worker.terminate()
    time.sleep(0.5)  # the signal has been heard
    broker.produce_spread(topic, [b"later"] * 10, 2)
    gate.touch()
    assert worker.wait_ended(30) == 0
    assert fleet.rows.statuses() == {"SUCCESS": 10}
    assert fleet.rows.watermarks() == {0: 5, 1: 5}
    assert_every_step_once(fleet.effects.read(), 10)


@pytest.mark.parametrize("ordering", ["none", "partition"])
def test_what_sleeps_when_its_process_is_killed_wakes_up_in_another(
    ordering: str, kafka_topic: TopicFactory, broker: Broker, fleet_of: FleetFactory
) -> None:
    topic = kafka_topic(4)
    fleet = fleet_of(
        topic, ordering=ordering, settings={"lease_seconds": 1.5, "park_after_seconds": 0.1}, max_in_flight=8
    )
    victim = fleet.start().wait_launched()
    broker.produce_spread(topic, [SLEEP] * 16, 4)
    parked = 16 if ordering == "none" else 4

    def asleep() -> int:
        return int(
            fleet.rows.one("SELECT count(*) FROM {t}workflows WHERE owner IS NULL AND wake_at IS NOT NULL")
        )

    wait_until(lambda: asleep() == parked, "sleeping events do not give their places back")
    slept_from = time.monotonic()
    fleet.harm(victim)
    victim.kill()
    heir = fleet.start().wait_launched()
    wait_until(lambda: fleet.rows.succeeded() >= parked, "they do not wake up", seconds=40)
    print(f"finished {time.monotonic() - slept_from:.1f} s after they fell asleep for 6 s")
    if ordering == "none":
        end_gracefully([heir])
        effects = fleet.effects.read()
        assert_every_step_once(effects, 16)
        assert {effect.worker for effect in effects if effect.step == "second"} == {heir.label}
        assert_all_finished(fleet.rows, 16, steps=3)  # and the sleep
    else:
        heir.process.kill()


def test_a_queue_is_served_by_whoever_is_there(
    kafka_topic: TopicFactory, broker: Broker, fleet_of: FleetFactory
) -> None:
    topic = kafka_topic(4)
    fleet = fleet_of(topic, queue="events", step_seconds=0.01)
    first, second = (fleet.start().wait_launched() for _ in range(2))
    broker.produce_spread(topic, [b"%d" % number for number in range(600)], 4)
    wait_until(lambda: fleet.rows.succeeded() >= 100, "the queue stands still")
    fleet.harm(first)
    first.kill()
    wait_until(lambda: fleet.rows.succeeded() == 600, "the queue is not served to its end")
    end_gracefully([second])
    assert_repeats_are_explained(fleet.effects.read(), fleet.sound())
    assert_all_finished(fleet.rows, 600)

"""Events go on to their end, each once, while the processes that run them are killed, frozen and replaced.

`DBOS_EVENTS_FAULT_EVENTS=100000` makes the run longer, `DBOS_EVENTS_FAULT_SEED=n` repeats one.
"""

import os
import random
import time
from collections.abc import Iterator

import pytest

from tests.conftest import TopicFactory
from tests.faults.broker import Broker
from tests.faults.checks import (
    assert_all_finished,
    assert_in_order,
    assert_nothing_skipped,
    assert_repeats_are_explained,
)
from tests.faults.conftest import FleetFactory
from tests.faults.effects import Effect
from tests.faults.waiting import wait_until
from tests.faults.workers import Fleet, Worker, end_gracefully

EVENTS = int(os.environ.get("DBOS_EVENTS_FAULT_EVENTS", "3000"))
PARTITIONS = 8
WORKERS = 3
FROZEN_SECONDS = 3.5  # longer than the lease, and than the group's session
SECONDS_FOR_EVENTS = 60 + EVENTS / 50


class Chaos:
    """Does one thing after the other to the workers of a fleet, and puts a new one in place of each."""

    def __init__(self, fleet: Fleet, seed: int) -> None:
        self.fleet = fleet
        self.random = random.Random(seed)
        self.alive: list[Worker] = []
        self.frozen: list[tuple[float, Worker, int]] = []
        self.thawed: list[tuple[set[int], int]] = []
        self.done: list[str] = []

    def start(self) -> None:
        self.alive.append(self.fleet.start().wait_launched())

    def strike(self, kind: str) -> None:
        """Do `kind` to a worker; another one under a new id comes in its place."""
        victim = self.alive.pop(self.random.randrange(len(self.alive)))
        self.done.append(f"{kind} {victim.label}")
        getattr(self, kind)(victim)
        self.start()

    def kill(self, victim: Worker) -> None:
        self.fleet.harm(victim)
        victim.kill()

    def stop(self, victim: Worker) -> None:
        self.fleet.harm(victim)  # what does not finish in time goes on elsewhere
        victim.terminate()

    def freeze(self, victim: Worker) -> None:
        victim.freeze()
        self.fleet.harm(victim)
        self.frozen.append((time.monotonic() + FROZEN_SECONDS, victim, self.last_effect()))

    def thaw_due(self, *, all_of_them: bool = False) -> None:
        """Let those go on that were frozen for long enough: they are zombies now."""
        while self.frozen and (all_of_them or self.frozen[0][0] <= time.monotonic()):
            due, victim, _ = self.frozen.pop(0)
            time.sleep(max(0.0, due - time.monotonic()))
            self.thawed.append((set(victim.harmed), self.last_effect()))
            victim.thaw()
            self.alive.append(victim)

    def last_effect(self) -> int:
        return max((effect.seq for effect in self.fleet.effects.read()), default=0)

    def without_zombies(self, effects: list[Effect]) -> list[Effect]:
        """Leave out what executors did that were dead already: a step that was under way when they froze."""
        return [
            effect
            for effect in effects
            if not any(effect.executor in dead and effect.seq > thawed for dead, thawed in self.thawed)
        ]


def schedule(seed: int, rounds: int) -> Iterator[str]:
    """Each kind of fault in every three, in an order by chance."""
    chance = random.Random(seed)
    while rounds > 0:
        kinds = ["kill", "freeze", "stop"]
        chance.shuffle(kinds)
        yield from kinds[:rounds]
        rounds -= len(kinds)


@pytest.mark.slow
@pytest.mark.timeout(SECONDS_FOR_EVENTS + 120)
@pytest.mark.parametrize(("ordering", "handler"), [("none", "async"), ("partition", "sync")])
def test_every_event_ends_once_whatever_happens_to_the_processes(
    ordering: str, handler: str, kafka_topic: TopicFactory, broker: Broker, fleet_of: FleetFactory
) -> None:
    seed = int(os.environ.get("DBOS_EVENTS_FAULT_SEED", "0")) or random.randrange(1, 1_000_000)
    print(f"seed {seed}: DBOS_EVENTS_FAULT_SEED={seed} repeats it")
    topic = kafka_topic(PARTITIONS)
    fleet = fleet_of(topic, ordering=ordering, handler=handler, step_seconds=0.002, max_in_flight=200)
    chaos = Chaos(fleet, seed)
    for _ in range(WORKERS):
        chaos.start()
    rounds = max(6, min(60, EVENTS // 500))
    share = EVENTS // rounds

    produced = 0
    began = time.monotonic()
    for number, kind in enumerate(schedule(seed, rounds)):
        count = share if number < rounds - 1 else EVENTS - produced
        broker.produce_spread(topic, [b"%d" % value for value in range(count)], PARTITIONS)
        wanted = produced + count // 3
        produced += count
        wait_until(
            lambda: fleet.rows.succeeded() >= wanted,  # noqa: B023 - used up before the next round
            f"the events stand still after {chaos.done}, seed {seed}",
            seconds=SECONDS_FOR_EVENTS,
        )
        chaos.thaw_due()
        chaos.strike(kind)
    chaos.thaw_due(all_of_them=True)
    wait_until(
        lambda: fleet.rows.succeeded() == EVENTS,
        f"not all events finished after {chaos.done}, seed {seed}",
        seconds=SECONDS_FOR_EVENTS,
    )
    seconds = time.monotonic() - began
    end_gracefully([worker for worker in chaos.alive if worker.running])

    effects = fleet.effects.read()
    assert_all_finished(fleet.rows, EVENTS)
    assert fleet.rows.watermarks(topic) == broker.ends(topic, PARTITIONS)
    repeats = assert_repeats_are_explained(effects, fleet.sound())
    assert_nothing_skipped(effects)
    if ordering == "partition":
        assert_in_order(chaos.without_zombies(effects))
    print(f"{EVENTS} events, {', '.join(chaos.done)}: {repeats} repeated steps, {seconds:.1f} s")

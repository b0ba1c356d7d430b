"""The events of a run: what each of them asks its handler for follows from the seed alone."""

from __future__ import annotations

import random
import threading
import time
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, Message, Producer

from tests.chaos.plan import Plan

if TYPE_CHECKING:
    from tests.chaos.conversations import Conversation

PLAIN, PAIR, RETRY, SLEEP, CHILD, POISON, RAISE, TALK = range(8)
"""One step; two; one that fails at first; two with a durable sleep in between; a child; one that is put aside; one that
raises what its place says (`raising.py`); one that talks with another event in between (`conversations.py`)."""

ONE, TWO, FLAKY, IN_CHILD, RAISED = range(1, 6)
"""The last one says that the handler of an event has raised."""
STEPS: dict[int, tuple[int, ...]] = {
    PLAIN: (ONE,),
    PAIR: (ONE, TWO),
    RETRY: (ONE, FLAKY),
    SLEEP: (ONE, TWO),
    CHILD: (ONE, IN_CHILD),
    POISON: (ONE, TWO),
    RAISE: (ONE, TWO),
    TALK: (ONE, TWO),
}
STEP_NAMES = {"one": ONE, "two": TWO, "flaky": FLAKY, "in_child": IN_CHILD}

SHARES = {
    "none": {PAIR: 0.15, RETRY: 0.02, SLEEP: 0.01, CHILD: 0.02, POISON: 0.001},
    "key": {PAIR: 0.15, RETRY: 0.02, SLEEP: 0.01, CHILD: 0.02, POISON: 0.0005},
    "partition": {PAIR: 0.15, RETRY: 0.002, SLEEP: 0.001, CHILD: 0.002, POISON: 0.0},
    "topic": {PAIR: 0.15, RETRY: 0.002, SLEEP: 0.001, CHILD: 0.002, POISON: 0.0},
}
"""How many of the events are what; all others are plain. Where a few lanes hold all events, those that wait are few."""

TALKING_IN_FEW_LANES = 0.1
"""Where a few lanes hold all events, so much of the share that is to talk does."""

POISONED_PARTITIONS = 3
"""Whatever the shares, the last event of each of these is poison: it holds nothing but its lane's end."""

SLEEP_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Events:
    """The events of one partition, by offset: kind and key of each, and what those that talk take part in."""

    kinds: bytes
    keys: array[int]
    talks: dict[int, Conversation] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.kinds)

    def value(self, offset: int) -> bytes:
        """What the record at an offset says."""
        talk = self.talks.get(offset)
        return b"%d %d" % (self.kinds[offset], offset) if talk is None else talk.value(offset)


def failures_of(offset: int) -> int:
    """How often the flaky step of the event at this offset fails before it succeeds."""
    return 1 + offset % 2


def make_events(plan: Plan, partition: int) -> Events:
    """The events of a partition. A key lies in one partition only: the one that its number says."""
    chance = random.Random(f"{plan.seed} {partition}")
    count = plan.events_of(partition)
    shares = SHARES[plan.ordering]
    weights = [1.0 - sum(shares.values()), *(shares[kind] for kind in range(PAIR, POISON + 1))]
    kinds = bytearray(chance.choices(range(POISON + 1), weights, k=count))
    if kinds:
        if plan.ordering in ("none", "key"):
            for _ in range(-(-plan.raising // plan.partitions)):
                kinds[chance.randrange(count)] = RAISE
        if partition < POISONED_PARTITIONS:
            kinds[-1] = POISON
        elif plan.raising:
            kinds[-1] = RAISE
    _choose_talking(plan, partition, kinds)
    within = max(1, plan.keys // plan.partitions)
    keys = array("I", (partition + plan.partitions * chance.randrange(within) for _ in range(count)))
    return Events(bytes(kinds), keys)


def _choose_talking(plan: Plan, partition: int, kinds: bytearray) -> None:
    """Let a share of the plain events talk; the others are as they would be without it."""
    chance = random.Random(f"{plan.seed} talking {partition}")
    share = plan.talking * (1.0 if plan.ordering in ("none", "key") else TALKING_IN_FEW_LANES)
    for offset, kind in enumerate(kinds):
        if kind == PLAIN and chance.random() < share:
            kinds[offset] = TALK


class Producing:
    """Writes all events from a thread of its own: some at once, the rest spread over a share of the run's time."""

    def __init__(
        self,
        plan: Plan,
        bootstrap: str,
        topic: str,
        events: list[Events],
        *,
        at_once: float = 0.5,
        within: float = 0.8,
    ) -> None:
        self.failures: list[str] = []
        self.written = 0
        self._at_once = int(plan.events * at_once)
        self._pace = (plan.events - self._at_once) / (within * plan.seconds)
        self._topic = topic
        self._events = events
        self._stop = threading.Event()
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "log_level": 0,
                "enable.idempotence": True,
                "linger.ms": 20,
                "delivery.timeout.ms": 1_800_000,
                "queue.buffering.max.messages": 100_000,
            }
        )
        self._thread = threading.Thread(target=self._produce, name="producing", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Give up; for a run that has failed."""
        self._stop.set()
        self._thread.join(30)

    def _produce(self) -> None:
        try:
            self._produce_all()
        except Exception as error:  # noqa: BLE001 - the run reports it
            self.failures.append(repr(error))

    def _produce_all(self) -> None:
        began = time.monotonic()
        for offset in range(max(map(len, self._events))):
            for partition, events in enumerate(self._events):
                if offset < len(events):
                    self._write(partition, offset, events)
                    self.written += 1
            ahead = began + (self.written - self._at_once) / self._pace - time.monotonic()
            if ahead > 0.05 and self._stop.wait(ahead):
                return
        while self._producer.flush(1) and not self._stop.is_set():
            pass

    def _write(self, partition: int, offset: int, events: Events) -> None:
        key, value = events.keys[offset], events.value(offset)
        while not self._stop.is_set():
            try:
                self._producer.produce(
                    self._topic, value, b"%d" % key, partition=partition, on_delivery=self._delivered
                )
            except BufferError:
                self._producer.poll(0.1)
            else:
                break
        self._producer.poll(0)

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.failures.append(str(error))

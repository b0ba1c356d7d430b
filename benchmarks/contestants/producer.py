"""An open-loop producer: records at times fixed beforehand, whatever the consumer does meanwhile.

Each value begins with the time at which its record was due, not the time at which it was sent: when this
process falls behind, the wait counts, as it would for the sender of the event.
"""

from __future__ import annotations

import random
import struct
import sys
import time

from confluent_kafka import Producer

from benchmarks.contestants.common import Task, read_task

DUE = struct.Struct(">d")
SPIN_SECONDS = 0.001
MANY = 1_000.0
"""Records a second above which they are sent in small batches: a request for each fills the broker's core, not ours."""
LINGER_MS = 2
PARTITIONS = 4


def due_of(value: bytes) -> float:
    """Return when the record of this value was due, on the machine's monotonic clock."""
    due: float = DUE.unpack_from(value)[0]
    return due


def schedule(rate: float, count: int, seed: int) -> list[float]:
    """Return the seconds from now at which records are due: at random, as independent senders are."""
    chance = random.Random(seed)
    times, now = [], 0.0
    for _ in range(count):
        now += chance.expovariate(rate)
        times.append(now)
    return times


def main() -> None:
    """Produce `count` records at `rate` a second."""
    produce(read_task())


def produce(task: Task) -> None:
    """Send each record when it is due."""
    rate = float(task.options["rate"])
    linger = LINGER_MS if rate > MANY else 0
    producer = Producer({"bootstrap.servers": task.kafka, "linger.ms": linger})
    filler = b"x" * (task.number("value_bytes", 100) - DUE.size)
    times = schedule(rate, task.count, task.number("seed", 1))
    began = time.perf_counter() + 0.2
    for number, offset in enumerate(times):
        due = began + offset
        wait_until(due)
        value = DUE.pack(due) + filler
        producer.produce(
            task.topic, key=b"key-%d" % (number % 100), value=value, partition=number % PARTITIONS
        )
        producer.poll(0)
    if producer.flush(30):
        sys.exit("some records were not delivered")


def wait_until(moment: float) -> None:
    """Sleep until `moment`; exact to a part of a millisecond on a machine that is not loaded."""
    while (left := moment - time.perf_counter()) > 0:
        time.sleep(left if left > SPIN_SECONDS else 0)


if __name__ == "__main__":
    main()

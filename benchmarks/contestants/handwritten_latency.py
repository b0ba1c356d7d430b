"""From a record's due time to its handler in the hand-written loop, which hands over what came in 5 ms."""

from __future__ import annotations

from benchmarks.contestants.common import read_task, report
from benchmarks.contestants.handwritten import start
from benchmarks.contestants.latency import Clock, measure_latency

WAIT_SECONDS = 0.005


def main() -> None:
    """Measure the loop."""
    task = read_task()
    clock = Clock(task)

    def handle(value: bytes) -> int:
        clock.note(value)
        return len(value)

    start(task, handle, WAIT_SECONDS)
    report(measure_latency(task, clock))


if __name__ == "__main__":
    main()

"""A long sleep: a workflow that waits costs a row, not a thread, and the wait survives the process.

    python -m examples.long_sleep

Two hundred orders wait for their reminder. They leave memory at once, the program "ends" while they sleep
and starts again, and each reminder goes out at its time, once.
"""

from __future__ import annotations

import threading
import time

from dbos_events import DBOS, KafkaMessage
from examples.embedded import launched, wait_for

COUNT = 200
SECONDS = 4.0
reminded: list[str] = []


@DBOS.step()
def remind(order: str) -> None:
    reminded.append(order)


@DBOS.kafka_consumer(topics=["orders"])
def on_order(message: KafkaMessage[bytes]) -> None:
    order = message.value.decode()
    DBOS.sleep(SECONDS)  # days are as good: DBOS.sleep(7 * 24 * 3600)
    remind(order)


def wait_until_parked() -> None:
    """Wait until all are asleep, and none of them is in this process any more."""
    deadline = time.monotonic() + 30
    while sum(one.wake_at is not None for one in DBOS.list_workflows(name="on_order")) < COUNT:
        if time.monotonic() > deadline:
            raise TimeoutError("they are not asleep")
        time.sleep(0.05)


def main() -> None:
    # Waits longer than park_after_seconds leave memory; the default is two seconds.
    with launched("orders", park_after_seconds=0.1, max_executor_threads=8) as broker:
        broker.produce("orders", *[f"order {number}" for number in range(COUNT)])
        wait_until_parked()
        threads = sum(thread.name.startswith("dbos-workflow") for thread in threading.enumerate())
        print(f"{COUNT} workflows sleep, and {threads} threads are there to run them")
        DBOS.destroy()
        print(f"the program has ended; reminders so far: {len(reminded)}")
        DBOS.launch()
        wait_for(COUNT, "on_order")
        print(f"started again: {len(reminded)} reminders, {len(set(reminded))} different ones")


if __name__ == "__main__":
    main()

"""A process that serves the queue of test_queue_limits.py until its standard input ends."""

import sys
import time

from dbos_events import App

app = App(
    {
        "name": "jobs",
        "system_database_url": sys.argv[1],
        "lease_seconds": 1.0,
        "application_version": "1",
        "park_after_seconds": 2.0,
    }
)
queue = app.queue(
    "q",
    6,
    {"limit": 12, "period": 1.0},
    worker_concurrency=3,
    partition_concurrency=2,
)


@app.step()
def work(number: int) -> int:
    time.sleep(0.05)
    return number


@app.workflow(name="job")
def job(number: int) -> int:
    return work(number) + work(number)


if __name__ == "__main__":
    with app:
        print("ready", flush=True)  # noqa: T201
        sys.stdin.read()

"""How soon work begins: from enqueue to start in this process and in another, and how late ticks are.

Run `python -m benchmarks.pickup postgresql://... [seconds]` on a database of its own; it prints milliseconds.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

from dbos_events import App, DBOSClient

NAME = "pickup"
ENQUEUES = 300


def program(url: str, *, ticks: bool = False) -> App:
    """An App whose workflow tells when it began, and one that a schedule of each second starts."""
    app = App({"name": NAME, "system_database_url": url, "application_version": "1"})
    app.queue("q")

    @app.workflow(name="begin")
    def begin() -> float:
        return time.time()

    if ticks:

        @app.scheduled("* * * * * *", name="each second")
        @app.workflow(name="tick")
        def tick(scheduled: Any, _actual: Any) -> float:
            return time.time() - float(scheduled.timestamp())

    return app


def pick_up(enqueue: Any) -> list[float]:
    """Milliseconds from before each enqueue to the workflow's first line; one at a time."""
    found = []
    for _ in range(ENQUEUES):
        before = time.time()
        found.append((enqueue().get_result() - before) * 1000)
        time.sleep(0.01)
    return found


def lateness(url: str, seconds: float) -> list[float]:
    """Milliseconds from each nominal second to the first line of its workflow; the first ticks are left out."""
    with program(url, ticks=True) as app:
        time.sleep(seconds + 3)
        rows = app.list_workflows(name="tick", status="SUCCESS")
        app.delete_schedule("each second")
    return [row.output * 1000 for row in rows[3:]]


def told(what: str, values: list[float]) -> None:
    """Print the distribution."""
    ordered = sorted(values)
    at = {name: ordered[min(len(ordered) - 1, int(len(ordered) * share))] for name, share in
          (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))}  # fmt: skip
    shown = ", ".join(f"{name} {value:.1f}" for name, value in at.items())
    print(f"{what} ({len(ordered)}): {shown}, most {ordered[-1]:.1f} ms")


def main(url: str, seconds: float) -> None:
    """Measure all three."""
    with program(url) as app:
        queued = {"workflow_name": "begin", "queue_name": "q"}
        told("enqueue to start, this process", pick_up(lambda: app.enqueue_workflow_with_options(queued)))  # type: ignore[arg-type]
    other = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.pickup", url, "serve"], stdout=subprocess.PIPE
    )
    try:
        assert other.stdout is not None
        other.stdout.readline()
        with DBOSClient(system_database_url=url, application_name=NAME) as client:
            told("enqueue by a client to start, another process", pick_up(lambda: client.enqueue(queued)))  # type: ignore[arg-type]
    finally:
        other.terminate()
        other.wait()
    told("tick to start", lateness(url, seconds))


if __name__ == "__main__":
    if sys.argv[2:] == ["serve"]:
        with program(sys.argv[1]):
            print("ready", flush=True)
            while True:
                time.sleep(1)
    main(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 60)

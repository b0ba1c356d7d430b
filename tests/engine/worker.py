"""A process of an application, told by its standard input what to do: see test_processes.py.

It prints `ready`, `step N` when a step begins, and `result R`. A step whose number stands in `holds`
waits for a line on its input before it ends.
"""

import json
import sys

from dbos_events import App, SetWorkflowID

options = json.loads(sys.argv[1])
app = App(
    {
        "name": "jobs",
        "system_database_url": options["url"],
        "lease_seconds": options.get("lease_seconds", 1.0),
        "application_version": "1",
        "executor_id": options.get("executor_id"),
        "park_after_seconds": options.get("park_after_seconds", 2.0),
    }
)


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


@app.step()
def step(number: int) -> int:
    say(f"step {number}")
    if number in options.get("holds", []):
        sys.stdin.readline()
    return number


@app.workflow()
def job(steps: int) -> int:
    total = 0
    for number in range(1, steps + 1):
        total += step(number)
        if number == options.get("sleeps_after"):
            app.sleep(0.3)
    return total


if __name__ == "__main__":
    with app:
        say("ready")
        if options.get("starts"):
            with SetWorkflowID("job"):
                app.start_workflow(job, options["steps"])
        if options.get("waits", True):
            say(
                f"result {app.retrieve_workflow('job', existing_workflow=False).get_result(polling_interval_sec=0.05)}"
            )
        sys.stdin.readline()

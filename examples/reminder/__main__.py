"""A reminder after days, and an end after more of them: a sleep and a timeout, both of which survive the process.

    python -m examples.reminder

Three offers are sent. Each is reminded of after a while, and withdrawn when its time is over: then its workflow is
cancelled where it sleeps, as a row, without being woken. The program "ends" in between and starts again. One customer
accepts after the reminder, so that offer is no longer waited for.
"""

from __future__ import annotations

import time

from dbos_events import DBOS, SetWorkflowID, SetWorkflowTimeout
from examples.embedded import launched

DAY = 0.5  # seconds; 86_400 are as good


@DBOS.step()
def send(offer: str) -> None:
    print(f"{offer}: sent")


@DBOS.step()
def remind(offer: str) -> None:
    print(f"{offer}: reminder")


@DBOS.workflow()
def offer(name: str) -> str:
    send(name)
    answer = DBOS.recv("answer", timeout_seconds=4 * DAY)
    if answer is None:
        remind(name)
        answer = DBOS.recv("answer", timeout_seconds=365 * DAY)
    return f"{name}: {answer}"


def wait_until(status: str, count: int) -> None:
    """Wait until so many offers have this status and none of those that wait is in this process any more."""
    deadline = time.monotonic() + 30
    while True:
        found = DBOS.list_workflows(name="offer", status=status)
        if len(found) >= count and all(one.executor_id is None for one in found if status == "PENDING"):
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"{count} offers should be {status}")
        time.sleep(0.05)


def main() -> None:
    # Waits longer than park_after_seconds leave memory; the default is two seconds.
    with launched("orders", park_after_seconds=0.1):
        for name in ("A", "B", "C"):
            with SetWorkflowID(f"offer-{name}"), SetWorkflowTimeout(12 * DAY):
                DBOS.start_workflow(offer, name)
        wait_until("PENDING", 3)
        DBOS.destroy()
        print("the program has ended; it starts again")
        DBOS.launch()
        while sum(step.function_name == "remind" for step in DBOS.list_workflow_steps("offer-B")) == 0:
            time.sleep(0.05)
        DBOS.send("offer-B", "accepted", "answer")
        wait_until("CANCELLED", 2)
        print(DBOS.retrieve_workflow("offer-B").get_result())
        for one in DBOS.list_workflows(name="offer", status="CANCELLED"):
            print(f"{one.workflow_id}: withdrawn, {one.end_reason}")


if __name__ == "__main__":
    main()

"""An approval by a person: a workflow asks, waits for days if need be, and survives the process meanwhile.

    python -m examples.approval

Three refunds wait for somebody who decides. The program "ends" while they wait and starts again. One is approved, one is
declined, by a click that is sent twice, and for one nobody decides in time.
"""

from __future__ import annotations

import time

from dbos_events import DBOS, SetWorkflowID
from examples.embedded import launched

SECONDS = 4.0  # days are as good


@DBOS.step()
def ask(refund: str) -> None:
    print(f"{refund}: who decides?")


@DBOS.step()
def pay(refund: str) -> None:
    print(f"{refund}: paid")


@DBOS.workflow()
def refund(name: str) -> str:
    ask(name)
    decision = DBOS.recv("decision", timeout_seconds=SECONDS)
    if decision is None:
        return f"{name}: nobody decided in time"
    if decision["approved"]:
        pay(name)
        return f"{name}: approved by {decision['by']}"
    return f"{name}: declined by {decision['by']}"


def wait_until_parked() -> None:
    """Wait until all three wait as rows, and none of them is in this process any more."""
    deadline = time.monotonic() + 30
    while sum(one.wake_at is not None for one in DBOS.list_workflows(name="refund")) < 3:
        if time.monotonic() > deadline:
            raise TimeoutError("they do not wait")
        time.sleep(0.05)


def main() -> None:
    # Waits longer than park_after_seconds leave memory; the default is two seconds.
    with launched("orders", park_after_seconds=0.1):
        for name in ("A", "B", "C"):
            with SetWorkflowID(f"refund-{name}"):
                DBOS.start_workflow(refund, name)
        wait_until_parked()
        DBOS.destroy()
        print("the program has ended; it starts again")
        DBOS.launch()
        DBOS.send("refund-A", {"approved": True, "by": "Ada"}, "decision")
        for _ in range(2):  # a double click is one decision
            DBOS.send("refund-B", {"approved": False, "by": "Ada"}, "decision", idempotency_key="decision")
        for name in ("A", "B", "C"):
            print(DBOS.retrieve_workflow(f"refund-{name}").get_result())


if __name__ == "__main__":
    main()

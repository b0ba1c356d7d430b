"""A plain handler: one function, called once for each record, with two steps.

    python -m examples.plain_handler

The function is a workflow, though nothing says so but its decorator: when the process dies between its
steps, another process goes on with the second step and does not repeat the first.
"""

from __future__ import annotations

import json

from dbos_events import DBOS, KafkaMessage
from examples.embedded import launched, wait_for


@DBOS.step()
def reserve(item: str, count: int) -> str:
    # A crash right here repeats the step, with the same key: hand it to whoever must not do it twice.
    key = DBOS.idempotency_key
    return f"{count} x {item} reserved under {key}"


@DBOS.step(retries_allowed=True, max_attempts=3, interval_seconds=0.1)
def notify(customer: str, text: str) -> None:
    print(f"to {customer}: {text}", flush=True)


@DBOS.kafka_consumer(topics=["orders"])
def on_order(message: KafkaMessage[bytes]) -> str:
    order = json.loads(message.value)
    reserved = reserve(order["item"], order["count"])
    notify(order["customer"], reserved)
    return reserved


def main() -> None:
    with launched("orders") as broker:
        broker.produce("orders", json.dumps({"customer": "Ada", "item": "lamp", "count": 2}))
        (workflow,) = wait_for(1, "on_order")
        print(f"{workflow.workflow_id}: {workflow.status}, {workflow.output!r}")
        for step in DBOS.list_workflow_steps(workflow.workflow_id):
            print(f"  step {step.function_id}: {step.function_name} -> {step.output!r}")


if __name__ == "__main__":
    main()

"""Retries, quarantine, redrive and discard: what becomes of events whose handler fails.

    python -m examples.failure_and_redrive

The bank is down twice and answers the third time: a retry repeats the failed step alone. Order "B" has its
amount as text, so every attempt fails, and it goes into quarantine: it is redriven with a mended value. Order
"C" is nobody's, which no retry mends: the handler puts it aside at once, and it is discarded with a reason. On the
command line the same is `dbos-events quarantine list`, `show`, `redrive` and `discard`.
"""

from __future__ import annotations

import json
from typing import Any

from dbos_events import DBOS, KafkaMessage, Quarantine, Retry
from examples.embedded import launched, wait_for

bank_is_down = [True, True]


@DBOS.step()
def reserve(order_id: str) -> None:
    print(f"  {order_id}: reserved", flush=True)


@DBOS.step()
def charge(order_id: str, cents: Any) -> str:
    if order_id == "A" and bank_is_down:
        bank_is_down.pop()
        print(f"  {order_id}: the bank does not answer", flush=True)
        raise TimeoutError("the bank does not answer")
    return f"{order_id} paid {cents / 100:.2f}"


@DBOS.kafka_consumer(
    topics=["orders"], ordering="partition", retries=Retry(max_attempts=3, interval_seconds=0.2)
)
def on_order(message: KafkaMessage[bytes]) -> str:
    order = json.loads(message.value)
    if "customer" not in order:
        raise Quarantine("no customer")
    reserve(order["id"])
    return charge(order["id"], order["cents"])


def main() -> None:
    with launched("orders") as broker:
        broker.produce("orders", json.dumps({"id": "A", "customer": "ada", "cents": 500}))
        (paid,) = wait_for(1, "on_order")
        print(f"after {paid.generation} retries: {paid.output}")

        broker.produce("orders", json.dumps({"id": "B", "customer": "berta", "cents": "700"}))
        broker.produce("orders", json.dumps({"id": "C"}))
        wait_for(1, "on_order", status="ERROR")
        (failed,) = DBOS.list_quarantined()
        print(f"in quarantine after {failed.attempts} attempts: {failed.error_type}")
        mended = json.dumps({"id": "B", "customer": "berta", "cents": 700})
        DBOS.redrive_events(failed.workflow_id, value=mended, reason="cents as text")
        print(f"redriven: {wait_for(2, 'on_order')[1].output}")

        wait_for(1, "on_order", status="ERROR")
        (orphan,) = DBOS.list_quarantined(quarantine_reason="no customer")
        DBOS.discard_events(orphan.workflow_id, reason="a test order", by="ada")
        detail = DBOS.get_quarantined(orphan.workflow_id)
        for decision in detail.decisions if detail else ():
            print(f"{decision.decided_by}: {decision.decision}, {decision.reason}")


if __name__ == "__main__":
    main()

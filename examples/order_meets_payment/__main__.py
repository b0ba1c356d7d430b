"""An order meets its payment: two topics, either first, and a list of what found no partner.

    python -m examples.order_meets_payment

Payments start no workflow: they are published with the intake that moves the watermark, under the number of their order. An
order waits for its payment, which may have come before it. One payment has no order, and one order is never paid.
"""

from __future__ import annotations

import time
from decimal import Decimal

from pydantic import BaseModel

from dbos_events import DBOS
from examples.embedded import launched, wait_for


class Order(BaseModel):
    """What comes by the topic `orders`."""

    number: str


class Payment(BaseModel):
    """What comes by the topic `payments`."""

    order: str
    amount: Decimal


def by_order(payment: Payment) -> tuple[str, str]:
    return "payment", payment.order


DBOS.kafka_consumer(topics=["payments"], name="payments", publishes=by_order)(None)


@DBOS.kafka_consumer(topics=["orders"])
def on_order(order: Order) -> str:
    payment = DBOS.wait_for("payment", order.number, Payment, timeout_seconds=3, take=True)
    return f"order {order.number}: " + ("not paid in time" if payment is None else f"paid {payment.amount}")


def wait_until_taken_in(count: int) -> None:
    """Wait until all payments are published."""
    deadline = time.monotonic() + 30
    while sum(published().values()) < count:
        if time.monotonic() > deadline:
            raise TimeoutError("the payments are not there")
        time.sleep(0.05)


def published() -> dict[str, int]:
    """How many payments are in which state."""
    from dbos_events.control.matches import MatchControl
    from dbos_events.facade import default_app

    core = default_app().core
    return MatchControl(core.storage, core.codecs).counts().get("payment", {})


def main() -> None:
    with launched("orders", "payments") as broker:
        broker.produce("payments", '{"order": "1", "amount": "12.50"}', '{"order": "9", "amount": "3.00"}')
        wait_until_taken_in(2)
        print("two payments are there, and no order")
        broker.produce("orders", '{"number": "1"}', '{"number": "2"}', '{"number": "3"}')
        time.sleep(0.5)
        broker.produce("payments", '{"order": "2", "amount": "7.00"}')
        wait_for(3, "on_order")
        for line in sorted(str(one.output) for one in DBOS.list_workflows(name="on_order")):
            print(line)
        print(f"payments: {published()}")


if __name__ == "__main__":
    main()

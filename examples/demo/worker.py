"""A worker of the demo: charges and ships each order of the topic.

This is all that a service needs. `dbos-events run examples.demo.worker` runs it; the demo starts two of
them, with their settings in the environment.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from dbos_events import DBOS, KafkaMessage
from examples.demo.ledger import Call, Ledger
from examples.demo.orders import Order

ledger = Ledger(Path(os.environ["DEMO_LEDGER"]))
topic = os.environ["DEMO_TOPIC"]


@DBOS.step()
async def charge(order: Order) -> str:
    """Take the money. The provider acts at once, and its answer takes a while: a crash may come between."""
    key = DBOS.idempotency_key or ""
    ledger.record(Call("charge", order.id, key, DBOS.executor_id), order.cents)
    await asyncio.sleep(order.charge_seconds)
    return f"receipt for {order.id}"


@DBOS.step()
async def ship(order: Order, receipt: str) -> str:
    """Send the parcel, once it is paid for."""
    key = DBOS.idempotency_key or ""
    ledger.record(Call("ship", order.id, key, DBOS.executor_id), 0)
    await asyncio.sleep(order.ship_seconds)
    return f"parcel for {order.id}, {receipt}"


@DBOS.kafka_consumer(topics=[topic], max_in_flight=40)
async def on_order(message: KafkaMessage[bytes]) -> str:
    order = Order.from_json(message.value)
    receipt = await charge(order)
    return await ship(order, receipt)

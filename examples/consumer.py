"""A consumer service, as docker/compose.yaml runs it: `dbos-events run consumer`.

Where the broker and the database are is said by the environment:

    DBOS_EVENTS_KAFKA__BOOTSTRAP_SERVERS=localhost:9092
    DBOS_SYSTEM_DATABASE_URL=postgresql://user:password@localhost/orders
    DBOS_EVENTS_NAME=orders
"""

from __future__ import annotations

import json

from dbos_events import DBOS, KafkaMessage, Quarantine


@DBOS.step(retries_allowed=True, max_attempts=5)
async def charge(order: str, cents: int) -> str:
    DBOS.logger.info("charge %s: %d cents, key %s", order, cents, DBOS.idempotency_key)
    return f"receipt for {order}"


@DBOS.step(retries_allowed=True, max_attempts=5)
async def ship(order: str, receipt: str) -> None:
    DBOS.logger.info("ship %s, %s", order, receipt)


@DBOS.kafka_consumer(topics=["orders"])
async def on_order(message: KafkaMessage) -> str:
    """Each record is `{"order": "A-1", "cents": 1200}`; what is not is put aside and holds nothing up."""
    try:
        record = json.loads(message.value or b"")
        order, cents = str(record["order"]), int(record["cents"])
    except (ValueError, KeyError, TypeError) as error:
        raise Quarantine(f"not an order: {error}") from error
    receipt = await charge(order, cents)
    await ship(order, receipt)
    return receipt

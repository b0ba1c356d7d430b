"""Typed handlers: a record's value arrives decoded and checked, or it is put aside with the reason.

    python -m examples.typed_payloads

The annotation says what a handler takes: a pydantic model, with `| None` where tombstones are welcome, the
whole message with its value decoded, or text. `when` leaves records out before they start anything, and a
codec reads what is not JSON. The record that fits nobody's model is in quarantine; the others went on.
"""

from __future__ import annotations

import csv
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from dbos_events import DBOS, KafkaMessage
from examples.embedded import launched, wait_for


class Placed(BaseModel):
    """A customer has ordered."""

    kind: Literal["placed"]
    order: int
    total: Decimal


class Cancelled(BaseModel):
    """A customer does not want it any more."""

    kind: Literal["cancelled"]
    order: int


OrderEvent = Annotated[Placed | Cancelled, Field(discriminator="kind")]


class Address(BaseModel):
    """Where a customer lives; the record's key says who."""

    city: str


class Lines:
    """Reads `lamp;2`."""

    def decode(self, message: KafkaMessage[bytes]) -> dict[str, Any]:
        (row,) = csv.reader([message.value.decode()], delimiter=";")
        return dict(zip(("article", "pieces"), row, strict=True))


class Stock(BaseModel):
    """What has come into the warehouse."""

    article: str
    pieces: int


def is_large(event: OrderEvent) -> bool:
    return isinstance(event, Cancelled) or event.total >= 100


@DBOS.kafka_consumer(topics=["orders"], when=is_large)
async def on_order(event: OrderEvent) -> str:
    if isinstance(event, Cancelled):
        return f"order {event.order} is cancelled"
    return f"order {event.order} over {event.total}"


@DBOS.kafka_consumer(topics=["addresses"])
def on_address(message: KafkaMessage[Address | None]) -> str:
    who = message.key.decode() if isinstance(message.key, bytes) else message.key
    return f"{who} moved to {message.value.city}" if message.value is not None else f"{who} is forgotten"


@DBOS.kafka_consumer(topics=["stock"], codec=Lines())
def on_stock(stock: Stock) -> str:
    return f"{stock.pieces} x {stock.article}"


def main() -> None:
    with launched("orders", "addresses", "stock") as broker:
        broker.produce(
            "orders",
            '{"kind": "placed", "order": 1, "total": "250.00"}',
            '{"kind": "placed", "order": 2, "total": "9.90"}',
            '{"kind": "placed", "order": 3, "total": "a lot"}',
            '{"kind": "cancelled", "order": 1}',
        )
        broker.produce("addresses", ("ada", '{"city": "Turin"}'), ("ada", None))
        broker.produce("stock", "lamp;2")
        # A handler is a workflow, and called as one: its argument is checked by the type checker, and stored.
        print(f"called directly: {on_stock(Stock(article='chair', pieces=1))}")
        for name, count in (("on_order", 2), ("on_address", 2), ("on_stock", 2)):
            for status in sorted(wait_for(count, name), key=lambda one: one.workflow_id):
                if status.workflow_id.startswith("kafka/"):
                    print(status.output)
        (failed,) = wait_for(1, "on_order", status="ERROR")
        print(f"quarantined: {failed.error}")


if __name__ == "__main__":
    main()

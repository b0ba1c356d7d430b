"""The orders of the demo: always the same ones for the same seed."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass

CUSTOMERS = ("Ada", "Berta", "Carl", "Dora", "Emil", "Frieda", "Gustav", "Hanna")


@dataclass(frozen=True)
class Order:
    """One order. The seconds say how long the payment provider and the carrier take to answer."""

    id: str
    customer: str
    cents: int
    charge_seconds: float
    ship_seconds: float

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Order:
        return cls(**json.loads(text))


def make_orders(count: int, seed: int) -> list[Order]:
    """The first `count` orders of this seed."""
    chance = random.Random(seed)
    return [
        Order(
            id=f"order-{number:04d}",
            customer=chance.choice(CUSTOMERS),
            cents=chance.randrange(100, 20_000),
            charge_seconds=round(chance.uniform(0.05, 0.25), 3),
            ship_seconds=round(chance.uniform(0.05, 0.25), 3),
        )
        for number in range(1, count + 1)
    ]

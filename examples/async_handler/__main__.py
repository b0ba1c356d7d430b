"""An async handler: steps that run side by side, one with a time limit and retries.

    python -m examples.async_handler

All async handlers of a process share one event loop, so thousands of events may wait at once. Calls in a
gather are named by their branch, so a replay after a crash gives each branch its own results again
(docs/replay.md).
"""

from __future__ import annotations

import asyncio

from dbos_events import DBOS, KafkaMessage
from examples.embedded import launched, wait_for

attempts = 0


@DBOS.step(retries_allowed=True, max_attempts=3, interval_seconds=0.05, timeout_seconds=0.5)
async def price_of(item: str) -> int:
    """A shop that does not answer at first: the attempt is cut off, and the next one is quick."""
    global attempts  # noqa: PLW0603 - stands for the world outside
    attempts += 1
    if attempts == 1:
        await asyncio.sleep(60)
    return 10 * len(item)


@DBOS.step()
async def stock_of(item: str) -> int:
    return len(item)


@DBOS.kafka_consumer(topics=["questions"])
async def on_question(message: KafkaMessage[bytes]) -> str:
    item = message.value.decode()
    price, stock = await asyncio.gather(price_of(item), stock_of(item))
    return f"{item}: {price} each, {stock} left"


def main() -> None:
    with launched("questions") as broker:
        broker.produce("questions", "lamp", "chair", "table")
        for workflow in wait_for(3, "on_question"):
            print(workflow.output)
        print(f"the shop was asked {attempts} times for 3 prices")


if __name__ == "__main__":
    main()

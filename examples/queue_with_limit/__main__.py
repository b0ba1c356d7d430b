"""A queue with limits: events are put on a durable queue, and any process runs them within its limits.

    python -m examples.queue_with_limit

`concurrency` counts over all processes, `worker_concurrency` within one; the limiter bounds the starts in
any period, over all processes. The topic is taken in at full speed meanwhile: the queue is in the database.
"""

from __future__ import annotations

import threading
import time

from dbos_events import DBOS, KafkaMessage, Queue
from examples.embedded import launched, wait_for

COUNT = 12
PERIOD = 1.0
LIMIT = 4

Queue("thumbnails", concurrency=2, limiter={"limit": LIMIT, "period": PERIOD})

lock = threading.Lock()
running = 0
most = 0
starts: list[float] = []


@DBOS.step()
def render(image: str) -> str:
    global running, most  # noqa: PLW0603 - the example looks at itself
    with lock:
        starts.append(time.monotonic())
        running += 1
        most = max(most, running)
    time.sleep(0.1)
    with lock:
        running -= 1
    return f"thumbnail of {image}"


@DBOS.kafka_consumer(topics=["images"], queue_name="thumbnails")
def on_image(message: KafkaMessage[bytes]) -> str:
    return render(message.value.decode())


def main() -> None:
    with launched("images") as broker:
        broker.produce("images", *[f"image {number}" for number in range(COUNT)])
        wait_for(COUNT, "on_image")
    took = max(starts) - min(starts)
    print(f"{COUNT} images, at most {most} at once")
    print(f"their starts took {took:.1f} s: at most {LIMIT} start in any {PERIOD:g} s")


if __name__ == "__main__":
    main()

"""Options of enqueues: priorities, deduplication, partitions that take turns, and calls that are debounced.

    python -m examples.queue_options

Nothing but an SQLite file of its own is needed. The queue runs one workflow at a time, so the order is to be seen.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from dbos_events import DBOS, Debouncer, Queue, SetEnqueueOptions
from dbos_events.error import DBOSQueueDeduplicatedError

mails = Queue("mails", concurrency=1)
tenants = Queue("tenants", worker_concurrency=1, partition_concurrency=1)
sent: list[str] = []
served: list[str] = []


@DBOS.workflow()
def mail(to: str) -> str:
    sent.append(to)
    return to


@DBOS.workflow()
def busy() -> str:
    time.sleep(0.5)
    return ""


@DBOS.workflow()
def serve(tenant: str) -> str:
    served.append(tenant)
    return tenant


@DBOS.workflow()
def index(pages: list[str]) -> int:
    return len(pages)


def priorities() -> None:
    """What waits starts by priority; the queue is busy at first, so that all three wait together."""
    handles = [mails.enqueue(busy)]
    for to, priority in (("newsletter", 9), ("invoice", 5), ("alarm", 1)):
        with SetEnqueueOptions(priority=priority, deduplication_id=to):
            handles.append(mails.enqueue(mail, to))
    with SetEnqueueOptions(deduplication_id="alarm"):
        try:
            mails.enqueue(mail, "alarm")
        except DBOSQueueDeduplicatedError as error:
            print(f"a second alarm is refused: {error.winner == handles[3].workflow_id}")
    for handle in handles:
        handle.get_result()
    print(f"sent: {', '.join(sent)}")


def partitions() -> None:
    """A tenant with a backlog keeps nobody else waiting."""
    handles = []
    for tenant in [*["big"] * 6, "small"]:
        with SetEnqueueOptions(queue_partition_key=tenant):
            handles.append(tenants.enqueue(serve, tenant))
    for handle in handles:
        handle.get_result()
    print(f"the small tenant came before the end of the big one's backlog: {served.index('small') < 6}")


def debounced() -> None:
    """Three calls, one run, which gets all of them."""
    debouncer = Debouncer.create(index, debounce_timeout_sec=5, keep="all")
    handles = [debouncer.debounce("site", 0.2, page) for page in ("a", "b", "c")]
    print(f"pages indexed by each call's run: {[handle.get_result() for handle in handles]}")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        DBOS(
            config={"name": "example", "system_database_url": f"sqlite:///{Path(folder) / 'example.sqlite'}"}
        )
        DBOS.launch()
        try:
            priorities()
            partitions()
            debounced()
        finally:
            DBOS.destroy()


if __name__ == "__main__":
    main()

"""Order by partition: one event of a partition at a time, by offset; partitions run side by side.

    python -m examples.partition_order

Records with the same key share a partition, so the bookings of an account are done in the order in which
they were written. An event that fails is put into quarantine and holds those behind it: "berta" below.
The other partition goes on. With on_failure="record" the failed event would be noted as ERROR, and the
next one would run.
"""

from __future__ import annotations

from dbos_events import DBOS, KafkaMessage
from examples.embedded import launched, wait_for

balances: dict[str, int] = {}


@DBOS.step()
def book(account: str, amount: int) -> int:
    if account not in ("ada", "berta"):
        raise LookupError(f"there is no account {account}")
    balances[account] = balances.get(account, 0) + amount
    return balances[account]


@DBOS.kafka_consumer(topics=["bookings"], ordering="partition")
def on_booking(message: KafkaMessage[bytes]) -> None:
    account, amount = message.value.decode().split()
    balance = book(account, int(amount))
    print(f"partition {message.partition}, offset {message.offset}: {account} has {balance}", flush=True)


def main() -> None:
    with launched("bookings", partitions=2) as broker:
        broker.produce("bookings", "ada 10", "ada 20", "ada 30", partition=0)
        wait_for(3, "on_booking")
        broker.produce("bookings", "berta 5", "nobody 1", "berta 7", partition=1)
        (failed,) = wait_for(1, "on_booking", status="ERROR")
        (held,) = wait_for(1, "on_booking", status="PENDING")
        print(f"quarantined: {failed.workflow_id}: {failed.error}")
        print(f"held behind it: {held.workflow_id}")
        broker.produce("bookings", "ada 40", partition=0)
        wait_for(5, "on_booking")


if __name__ == "__main__":
    main()

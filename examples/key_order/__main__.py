"""Order by key: the events of a key run one after the other, and a key in trouble holds up only itself.

    python -m examples.key_order

The bookings of three accounts share one partition. Those of an account are done in the order in which they
were written. "nobody" fails: its later bookings wait behind it, held as rows, while the others go on.
`ordering_key` takes the account out of the record's value; without it the record's key would be it.
"""

from __future__ import annotations

from dbos_events import DBOS, KafkaMessage
from examples.embedded import launched, wait_for

balances: dict[str, int] = {"ada": 0, "berta": 0}


def account_of(message: KafkaMessage[bytes]) -> str:
    return message.value.decode().split()[0]


@DBOS.step()
def book(account: str, amount: int) -> int:
    if account not in balances:
        raise LookupError(f"there is no account {account}")
    balances[account] += amount
    return balances[account]


@DBOS.kafka_consumer(topics=["bookings"], ordering="key", ordering_key=account_of)
def on_booking(message: KafkaMessage[bytes]) -> None:
    account, amount = message.value.decode().split()
    balance = book(account, int(amount))
    print(f"offset {message.offset}: {account} has {balance}", flush=True)


def main() -> None:
    with launched("bookings") as broker:
        broker.produce("bookings", "nobody 1", "nobody 2", "nobody 3")
        (failed,) = wait_for(1, "on_booking", status="ERROR")
        print(f"quarantined: {failed.workflow_id}: {failed.error}")
        broker.produce("bookings", "ada 10", "ada 20", "ada 30")
        wait_for(3, "on_booking")
        broker.produce("bookings", "berta 5", "berta 7")
        wait_for(5, "on_booking")
        held = wait_for(2, "on_booking", status="PENDING")
        print(f"held behind it: {', '.join(sorted(each.workflow_id for each in held))}")


if __name__ == "__main__":
    main()

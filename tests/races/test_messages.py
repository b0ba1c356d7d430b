"""Rule 16: a message and its receiver find each other, whichever comes first, statement by statement."""

from dataclasses import dataclass

import pytest

from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.subjects.taking import Taker
from dbos_events.storage.writes import Consume, NewMessage, Send, Written, message_key
from tests.races.interleaving import Operation, Race
from tests.storage.building import APP, begin, end, ids, park, read, register, step, workflow, write

NAMES = ["work"]


@dataclass
class Talk:
    """The receiver runs on the first executor, the sender on the second one."""

    first: int
    second: int


def talk(storage: SqlStorage) -> Talk:
    made = Talk(register(storage, "a"), register(storage, "b"))
    begin(storage, made.first, "receiver")
    begin(storage, made.second, "sender", "other")
    return made


def message(number: int = 1, topic: str | None = "t") -> NewMessage:
    return NewMessage("receiver", f"m{number}", topic, "json", str(number), "sender")


def park_for(*topics: str | None) -> Operation[Talk]:
    def work(made: Talk, storage: SqlStorage) -> object:
        keys = [message_key("receiver", topic) for topic in topics]
        return [isinstance(one, Written) for one in write(storage, made.first, park("receiver", keys=keys))]

    return work


def send_in_workflow(made: Talk, storage: SqlStorage) -> object:
    sent = step("sender", 1, write_id=5)
    sent.change = Send((message(),))
    return [isinstance(one, Written) for one in write(storage, made.second, sent)]


def send_from_outside(_: Talk, storage: SqlStorage) -> object:
    storage.messages.send([message()])
    return "sent"


def cancel_receiver(_: Talk, storage: SqlStorage) -> object:
    return storage.workflows.cancel(["receiver"])


def wake(made: Talk, storage: SqlStorage) -> object:
    return ids(storage.taking.wake_due(Taker(made.first, APP, "v1", NAMES), 9))


def receiver_wakes(_: Talk, storage: SqlStorage) -> None:
    row = workflow(storage, "receiver")
    assert (row.status, row.owner, row.awaits) == ("PENDING", None, None)
    assert row.wake_at is not None
    assert storage.messages.peek("receiver", "t") is not None


@pytest.mark.parametrize("send", [send_in_workflow, send_from_outside])
@pytest.mark.parametrize("topics", [("t",), ("t", "u"), (None, "t", "u")], ids=len)
def test_rule_16_a_receiver_that_goes_to_sleep_hears_of_the_message(
    race: Race, send: Operation[Talk], topics: tuple[str | None, ...]
) -> None:
    race(talk, park_for(*topics), send, must_hold=receiver_wakes)


def test_rule_16_a_message_to_a_receiver_that_is_being_woken(race: Race) -> None:
    def asleep(storage: SqlStorage) -> Talk:
        made = talk(storage)
        write(storage, made.first, park("receiver", 0, keys=[message_key("receiver", "t")]))
        return made

    race(asleep, wake, send_from_outside, then=wake, must_hold=has_message)


def has_message(_: Talk, storage: SqlStorage) -> None:
    assert storage.messages.peek("receiver", "t") is not None


def test_rule_16_a_message_to_a_receiver_that_is_being_cancelled_is_kept(race: Race) -> None:
    def asleep(storage: SqlStorage) -> Talk:
        made = talk(storage)
        park_for("t")(made, storage)
        return made

    race(asleep, cancel_receiver, send_from_outside, must_hold=has_message)


def test_rule_16_messages_have_numbers_in_the_order_in_which_their_senders_committed(race: Race) -> None:
    """Two senders at once: each has its own order, and what was committed first has the lower number."""

    def sends(number: int) -> Operation[Talk]:
        def work(_: Talk, storage: SqlStorage) -> object:
            storage.messages.send([message(number), message(number + 1)])
            return "sent"

        return work

    def in_order(_: Talk, storage: SqlStorage) -> None:
        rows = read(storage, "SELECT value FROM {schema}.messages ORDER BY number")
        assert [int(row.value) for row in rows] in ([1, 2, 11, 12], [11, 12, 1, 2])

    race(talk, sends(1), sends(11), must_hold=in_order)


def test_rule_16_the_same_key_sent_twice_at_once_is_one_message(race: Race) -> None:
    def once(_: Talk, storage: SqlStorage) -> None:
        assert len(read(storage, "SELECT 1 FROM {schema}.messages")) == 1

    race(talk, send_in_workflow, send_from_outside, must_hold=once)


def test_rule_16_a_receiver_that_lost_its_workflow_consumes_nothing(race: Race) -> None:
    def one_waits(storage: SqlStorage) -> Talk:
        made = talk(storage)
        storage.messages.send([message()])
        return made

    def consume(made: Talk, storage: SqlStorage) -> object:
        found = storage.messages.peek("receiver", "t")
        assert found is not None
        received = step("receiver", 1, output="1", write_id=9)
        received.change = Consume(found.number)
        return [isinstance(one, Written) for one in write(storage, made.first, received)]

    def resume(_: Talk, storage: SqlStorage) -> object:
        return storage.workflows.resume(["receiver"])

    def together(_: Talk, storage: SqlStorage) -> None:
        received = bool(storage.workflows.list_steps("receiver"))
        assert (storage.messages.peek("receiver", "t") is None) == received, (
            "the value and the mark, or neither"
        )

    for other in (resume, cancel_receiver):
        race(one_waits, consume, other, must_hold=together)


def test_rule_2_senders_to_each_other_that_park_give_way_and_both_wake(race: Race) -> None:
    def both(storage: SqlStorage) -> Talk:
        return talk(storage)

    def of_the_first(made: Talk, storage: SqlStorage) -> object:
        sent = step("receiver", 1, write_id=1)
        sent.change = Send((NewMessage("sender", "a", None, "json", "1"),))
        writes = [sent, park("receiver", keys=[message_key("receiver", "t")])]
        return [isinstance(one, Written) for one in write(storage, made.first, *writes)]

    def of_the_second(made: Talk, storage: SqlStorage) -> object:
        sent = step("sender", 1, write_id=2)
        sent.change = Send((message(),))
        writes = [sent, park("sender", keys=[message_key("sender", None)]), end("other")]
        return [isinstance(one, Written) for one in write(storage, made.second, *writes)]

    def all_wake(made: Talk, storage: SqlStorage) -> None:
        assert sorted(wake(made, storage)) == ["receiver", "sender"]  # type: ignore[call-overload]

    # One of them is rolled back, and a number is left out: rows differ in that alone.
    race(both, of_the_first, of_the_second, must_hold=all_wake, repeated=True, serial=False)

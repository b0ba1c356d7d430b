"""Rule 16 in the database: what a send and a receipt change, and what a cut gives back."""

import pytest

from dbos_events.errors import DBOSNonExistentWorkflowError, DBOSWorkflowConflictIDError, ExecutorFenced
from dbos_events.model.quarantine import Redrive
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.subjects.messages import Owner
from dbos_events.storage.subjects.quarantine import OperatorDecision
from dbos_events.storage.subjects.taking import Taker
from dbos_events.storage.writes import (
    Consume,
    Failure,
    NewMessage,
    NextAttempt,
    Send,
    Write,
    Written,
    message_key,
)
from tests.races.test_messages import message, talk
from tests.storage.building import APP, begin, kill, park, quarantine, read, register, step, write
from tests.storage.topics import topic


def test_rule_16_a_send_of_a_run_that_was_fenced_sends_nothing(storage: SqlStorage) -> None:
    made = talk(storage)
    storage.workflows.resume(["sender"])
    sent = step("sender", 1)
    sent.change = Send((message(),))
    assert not isinstance(write(storage, made.second, sent)[0], Written)
    assert storage.messages.peek("receiver", "t") is None


def test_rule_16_a_send_to_nobody_leaves_no_checkpoint_and_others_of_its_batch_are_written(
    storage: SqlStorage,
) -> None:
    made = talk(storage)
    sent, to_nobody = step("sender", 1), step("other", 1)
    sent.change = Send((message(),))
    to_nobody.change = Send((message(2), NewMessage("nobody", "m", None, "json", "1")))
    answers = write(storage, made.second, sent, to_nobody, Write(change=Send((message(3),))))
    assert [isinstance(one, Written) for one in answers] == [True, False, True]
    assert (len(storage.workflows.list_steps("sender")), len(storage.workflows.list_steps("other"))) == (1, 0)
    values = [row.value for row in read(storage, "SELECT value FROM {schema}.messages ORDER BY number")]
    assert values == ["1", "3"]


def test_a_message_of_another_topic_is_not_the_next(storage: SqlStorage) -> None:
    talk(storage)
    storage.messages.send([message(1, "t"), message(2, None), message(3, "t")])
    for topic_, value in (("t", "1"), (None, "2")):
        found = storage.messages.peek("receiver", topic_)
        assert found is not None
        assert found.value == value
    assert storage.messages.peek("receiver", "other") is None
    assert storage.messages.peek("sender", "t") is None


def test_a_run_that_was_taken_away_does_not_send_from_its_steps(storage: SqlStorage) -> None:
    made = talk(storage)
    storage.messages.send([message(1)], Owner(made.second, "sender", 1))
    storage.workflows.resume(["sender"])
    with pytest.raises(DBOSWorkflowConflictIDError):
        storage.messages.send([message(2)], Owner(made.second, "sender", 1))
    kill(storage, made.second)
    with pytest.raises(ExecutorFenced):
        storage.messages.send([message(3)], Owner(made.second, "sender", 1))
    assert [row.value for row in read(storage, "SELECT value FROM {schema}.messages")] == ["1"]


def test_what_is_sent_to_nobody_is_not_sent_at_all(storage: SqlStorage) -> None:
    talk(storage)
    with pytest.raises(DBOSNonExistentWorkflowError):
        storage.messages.send([message(), NewMessage("nobody", "m", None, "json", "1")])
    assert storage.messages.peek("receiver", "t") is None


def test_a_batch_that_is_written_again_sends_and_consumes_nothing_twice(storage: SqlStorage) -> None:
    made = talk(storage)
    sent = step("sender", 1)
    sent.change = Send((message(),))
    for _ in range(2):
        write(storage, made.second, sent)
    [row] = read(storage, "SELECT number FROM {schema}.messages")
    received = step("receiver", 1, output="1")
    received.change = Consume(row.number)
    for _ in range(2):
        assert isinstance(write(storage, made.first, received)[0], Written)
    [row] = read(storage, "SELECT consumed_step FROM {schema}.messages")
    assert row.consumed_step == 1


FAILURE = Failure("json", "{}", "ValueError", "no", (2,))


def received_twice(storage: SqlStorage, executor: int, workflow_id: str) -> None:
    """The first message is consumed by step 1, the second one by step 2; a third one waits."""
    storage.messages.send([NewMessage(workflow_id, f"m{n}", None, "json", str(n)) for n in (1, 2, 3)])
    for number in (1, 2):
        found = storage.messages.peek(workflow_id, None)
        assert found is not None
        received = step(workflow_id, number, output=found.value)
        received.change = Consume(found.number)
        write(storage, executor, received)


def waiting(storage: SqlStorage, workflow_id: str) -> list[str]:
    rows = read(
        storage,
        "SELECT value FROM {schema}.messages WHERE destination = :id AND consumed_step IS NULL ORDER BY number",
        id=workflow_id,
    )
    return [row.value for row in rows]


def test_a_retry_gets_back_what_was_consumed_by_the_call_that_it_makes_anew(storage: SqlStorage) -> None:
    executor = register(storage)
    begin(storage, executor, "w")
    received_twice(storage, executor, "w")
    assert waiting(storage, "w") == ["3"]
    write(storage, executor, Write("w", 1, 0, change=NextAttempt(0, 1, "failed", FAILURE)))
    assert waiting(storage, "w") == ["2", "3"]


@pytest.mark.parametrize(
    ("order", "left"),
    [
        (Redrive(), ["3"]),
        (Redrive(from_step=2), ["2", "3"]),
        (Redrive(from_step=1), ["1", "2", "3"]),
        (Redrive(fresh=True), ["1", "2", "3"]),
    ],
    ids=["default", "from the second step", "from the first step", "fresh"],
)
def test_a_redrive_gets_back_what_was_consumed_behind_its_cut(
    storage: SqlStorage, order: Redrive, left: list[str]
) -> None:
    executor = register(storage)
    orders = topic(storage)
    orders.intake(executor, {0: (orders.epoch(executor), 0, 1)})
    received_twice(storage, executor, "e-0-0")
    write(storage, executor, quarantine("e-0-0", orders.consumer))
    assert storage.quarantine.redrive(["e-0-0"], order, OperatorDecision("somebody", None, {})) == ["e-0-0"]
    assert waiting(storage, "e-0-0") == left


@pytest.mark.slow
def test_ten_thousand_parked_receivers_are_woken_by_ten_thousand_messages(storage: SqlStorage) -> None:
    executor = register(storage)
    count, at_once = 10_000, 1_000
    names = [f"w{number}" for number in range(count)]
    for begins in range(0, count, at_once):
        some = names[begins : begins + at_once]
        begin(storage, executor, *some)
        write(storage, executor, *(park(name, keys=[message_key(name, "t")]) for name in some))
    assert storage.taking.next_wake(APP) is None, "nobody looks now and then"
    for begins in range(0, count, at_once):
        some = names[begins : begins + at_once]
        storage.messages.send([NewMessage(name, "m", "t", "json", "1") for name in some])
    woken: set[str] = set()
    while taken := storage.taking.wake_due(Taker(executor, APP, "v1", ["work"]), at_once):
        woken.update(row.id for row in taken)
    assert woken == set(names)

"""What messages cost: transactions and looks, and what a receiver gets from memory in spite of senders elsewhere."""

import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from dbos_events import App
from dbos_events.engine.mailboxes import MOST_MESSAGES, Topic, channel_of
from dbos_events.model.message import StoredMessage
from dbos_events.storage.opening import open_storage
from dbos_events.storage.writes import NewMessage
from dbos_events.storage.writes.send import PlacedMessage

# A test asks for its database first, so that the App ends before it.


@pytest.fixture
def app() -> Iterator[App]:
    made = App()
    yield made
    made.destroy()


def launch(app: App, url: str) -> None:
    app.configure({"name": "talk", "system_database_url": url, "application_version": "1"})
    app.launch()


def counted(app: App, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many looks and batches there are from now on, and the calls that were written together."""
    counts: Counter[str] = Counter()
    storage: Any = app.core.storage
    look, write = storage.messages.look, storage.write_batch

    def looks(*args: Any) -> Any:
        counts["look"] += 1
        return look(*args)

    def writes(executor: int, batch: Any) -> Any:
        counts["batch"] += 1
        counts["+".join(one.checkpoint.name for one in batch if one.checkpoint is not None)] += 1
        return write(executor, batch)

    monkeypatch.setattr(storage.messages, "look", looks)
    monkeypatch.setattr(storage, "write_batch", writes)
    return counts


def test_an_answer_is_one_transaction_with_the_receipt_before_it(
    database_url: str, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    @app.workflow()
    def answers(to: str) -> None:
        app.send(to, app.recv(timeout_seconds=60))

    @app.workflow()
    def asks() -> Any:
        return app.recv("answer", timeout_seconds=60)

    launch(app, database_url)
    with_answer = app.start_workflow(asks)
    first = app.start_workflow(answers, with_answer.workflow_id)
    counts = counted(app, monkeypatch)
    app.send(first.workflow_id, 1)
    first.get_result()
    together = [names for names in counts if "DBOS.recv" in names and "DBOS.send" in names]
    assert len(together) == 1, counts
    app.send(with_answer.workflow_id, "late", "answer")
    assert with_answer.get_result() == "late"


def test_what_another_process_has_sent_before_comes_first(database_url: str, app: App) -> None:
    received = threading.Event()
    may_go_on = threading.Event()

    @app.workflow()
    def receives() -> list[Any]:
        got = [app.recv(timeout_seconds=60)]
        received.set()
        may_go_on.wait(60)
        return [*got, app.recv(timeout_seconds=60), app.recv(timeout_seconds=60)]

    launch(app, database_url)
    handle = app.start_workflow(receives)
    app.send(handle.workflow_id, 1)
    assert received.wait(60)
    other = open_storage(database_url, schema="dbos_events", clock=app.core.clock)
    try:
        other.messages.send([NewMessage(handle.workflow_id, "from elsewhere", None, "json", "2")])
    finally:
        other.close()
    app.send(handle.workflow_id, 3)
    may_go_on.set()
    assert handle.get_result() == [1, 2, 3]


def test_a_receiver_that_runs_here_gets_a_burst_without_looking_for_each(
    migrated_postgres: str, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready, may_go_on = threading.Event(), threading.Event()

    @app.workflow()
    def receives(count: int) -> list[Any]:
        got = [app.recv(timeout_seconds=60)]
        ready.set()
        may_go_on.wait(60)
        return [*got, *(app.recv(timeout_seconds=60) for _ in range(count - 1))]

    launch(app, migrated_postgres)
    handle = app.start_workflow(receives, 20)
    app.send(handle.workflow_id, 0)
    assert ready.wait(60)
    counts = counted(app, monkeypatch)
    for number in range(1, 20):
        app.send(handle.workflow_id, number)
    may_go_on.set()
    assert handle.get_result() == list(range(20))
    assert counts["look"] <= 1


def placed(number: int, previous: int | None, value: str = "1") -> PlacedMessage:
    return PlacedMessage(NewMessage("w", f"m{number}", None, "json", value), number, previous)


def numbers(topic: Topic) -> list[int]:
    got = []
    while (first := topic.first()) is not None:
        topic.take(first, all_durable=True)
        got.append(first.number)
    return got


def test_a_message_is_taken_from_memory_only_where_nothing_waits_before_it() -> None:
    topic = Topic()
    assert topic.offer(placed(5, None))
    assert topic.offer(placed(9, 5))
    assert not topic.offer(placed(12, 11)), "11 is not known here"
    assert topic.offer(placed(9, 5)), "a second answer to the same write adds nothing"
    assert numbers(topic) == [5, 9]
    assert topic.offer(placed(13, 9)), "9 is about to be marked as consumed"
    topic.forget()
    assert topic.first() is None


def test_memory_holds_a_bounded_part_of_a_mailbox() -> None:
    topic = Topic()
    offered = [topic.offer(placed(n + 1, n or None)) for n in range(MOST_MESSAGES + 2)]
    assert offered == [True] * MOST_MESSAGES + [False] * 2
    assert not Topic().offer(placed(1, None, "x" * 200_000))


def filled(app: App, count: int) -> str:
    """Send so many messages to a workflow that has ended, and give its id."""

    @app.workflow()
    def ends() -> None:
        pass

    handle = app.start_workflow(ends)
    handle.get_result()
    for number in range(count):
        app.send(handle.workflow_id, number)
    return handle.workflow_id


def test_what_was_taken_and_is_not_durable_is_not_received_again_when_others_are_given_back(
    database_url: str, app: App
) -> None:
    launch(app, database_url)
    workflow_id, topic = filled(app, 3), Topic()
    received = []
    for _ in range(3):
        first = topic.look(app.core, workflow_id, None)
        assert first is not None
        received.append(first.value)
        topic.take(first, all_durable=False)
        topic.forget()
    assert topic.look(app.core, workflow_id, None) is None
    assert received == ["0", "1", "2"]


def test_after_messages_were_given_back_the_database_is_read_to_its_end_before_memory_counts(
    database_url: str, app: App
) -> None:
    launch(app, database_url)
    workflow_id, topic = filled(app, 3), Topic()
    late = placed(10**6, None)  # its sender saw none that waits before it
    topic.forget()
    assert not topic.offer(late)
    first = topic.look(app.core, workflow_id, None)
    assert first is not None
    assert numbers(topic) == [first.number], "the first page has one message"
    assert not topic.offer(late)
    while (first := topic.look(app.core, workflow_id, None)) is not None:
        while (known := topic.first()) is not None:
            topic.take(known, all_durable=True)
    assert topic.offer(late)


def test_a_look_that_was_under_way_while_messages_were_given_back_counts_for_nothing(
    database_url: str, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch(app, database_url)
    workflow_id, topic = filled(app, 2), Topic()
    messages: Any = app.core.storage.messages
    look, looked = messages.look, []

    def misses_the_first(*args: Any) -> Any:
        found = look(*args)
        looked.append(found)
        if len(looked) == 1:
            topic.forget()
            return []
        return found

    monkeypatch.setattr(messages, "look", misses_the_first)
    first = topic.look(app.core, workflow_id, None)
    assert first is not None
    assert first.value == "0"


def test_what_lies_in_the_database_is_read_ahead(database_url: str, app: App) -> None:
    launch(app, database_url)
    workflow_id, topic = filled(app, 8), Topic()
    found: list[StoredMessage] = []
    looks = 0
    while topic.look(app.core, workflow_id, None) is not None:
        looks += 1
        while (first := topic.first()) is not None:
            topic.take(first, all_durable=True)
            found.append(first)
    assert [int(one.value or "") for one in found] == list(range(8))
    assert looks < 8


def test_a_mailbox_is_dropped_with_its_run(database_url: str, app: App) -> None:
    @app.workflow()
    def receives() -> Any:
        return app.recv(timeout_seconds=60)

    launch(app, database_url)
    for _ in range(3):
        handle = app.start_workflow(receives)
        app.send(handle.workflow_id, 1)
        assert handle.get_result() == 1
    waiting = [name for name in app.core.hub._waiting if name.startswith(channel_of(""))]
    assert len(waiting) <= 2, "each is dropped when the next one is made"

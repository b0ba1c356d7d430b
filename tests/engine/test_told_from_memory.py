"""Who waits in the process that publishes is told from memory, and looks in the database where that does not do."""

import asyncio
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from dbos_events import App, SetWorkflowID, StreamReset
from dbos_events.engine.audience import MOST, Audience, here
from dbos_events.engine.reader import StreamReader
from dbos_events.engine.waking import Hub, ThreadWaker
from dbos_events.storage.writes import SetValue, StreamEntry, value_key

PATIENCE = 10.0


class World:
    """A hub, an audience, and a database that is asked for nothing."""

    def __init__(self) -> None:
        self.hub = Hub()
        self.mailboxes = SimpleNamespace(audience=Audience())

    def reader(self, mode: Any = "all", position: int = 0) -> StreamReader:
        reader = StreamReader(self, "w", "s", position, mode)  # type: ignore[arg-type]
        reader.listen("stream/w/s").heard = False
        return reader

    def tell(self, *entries: StreamEntry) -> None:
        for one in entries:
            self.mailboxes.audience.tell("stream/w/s", one)


def entry(
    position: int, *, committed: bool | None = True, resets: int | None = None, text: str = ""
) -> StreamEntry:
    return StreamEntry("s", position, 1, 0, committed, False, "json", text or str(position), 1, resets)


def read(reader: StreamReader) -> Iterator[object]:
    while (item := reader.take()) is not None:
        yield item.text if item.reset is None else item.reset


def must_look(reader: StreamReader) -> bool:
    listener = reader.listen("stream/w/s")
    return listener.heard


def test_entries_that_follow_each_other_are_given_from_memory() -> None:
    world = World()
    reader = world.reader()
    world.tell(entry(0), entry(1), entry(2))
    assert list(read(reader)) == ["0", "1", "2"]
    assert not must_look(reader)


def test_what_was_read_already_is_given_once() -> None:
    world = World()
    reader = world.reader(position=2)
    world.tell(entry(0), entry(1), entry(2), entry(1), entry(3))
    assert list(read(reader)) == ["2", "3"]


def test_after_a_gap_the_reader_looks_and_nothing_is_given_out_of_order() -> None:
    world = World()
    reader = world.reader()
    world.tell(entry(1), entry(0))
    assert list(read(reader)) == []
    assert must_look(reader)


@pytest.mark.parametrize("committed", [None, False])
def test_a_reader_of_what_counts_looks_for_what_may_not_count(committed: bool | None) -> None:
    world = World()
    reader = world.reader("committed")
    world.tell(entry(0), entry(1, committed=committed))
    assert list(read(reader)) == ["0"]
    assert must_look(reader)


def test_a_reset_comes_before_the_entry_that_makes_it_for_readers_that_see_it() -> None:
    world = World()
    live, plain = world.reader("live"), world.reader()
    world.tell(entry(0), entry(1, resets=0))
    assert list(read(live)) == ["0", StreamReset(1, 0), "1"]
    assert list(read(plain)) == ["0", "1"]


@pytest.mark.parametrize("text", ["", "x" * 10_000], ids=["many", "large"])
def test_a_slow_reader_keeps_little_and_looks(text: str) -> None:
    world = World()
    reader = world.reader()
    world.tell(*(entry(number, text=text) for number in range(MOST + 1)))
    assert len(reader.listen("stream/w/s")._told) <= MOST
    assert sum(len(one.value or "") for one in reader.listen("stream/w/s")._told) <= 1_000_000
    assert must_look(reader)


@pytest.mark.parametrize("channel", ["stream/w/s", "workflow:w"])
def test_what_others_say_and_the_end_of_the_workflow_are_looked_up(channel: str) -> None:
    world = World()
    reader = world.reader()
    waker = ThreadWaker()
    world.hub.subscribe(reader.listen("stream/w/s").own, waker)
    world.hub.signal(channel)
    assert waker.woken
    assert must_look(reader)


def test_a_reader_that_is_closed_or_freed_is_told_nothing_more() -> None:
    world = World()
    reader, other = world.reader(), world.reader()
    reader.close()
    del other
    world.reader().close()
    assert world.hub._waiting == {}
    assert world.mailboxes.audience._listeners == {}


def test_a_reader_that_is_freed_within_a_lock_of_the_hub_leaves_later() -> None:
    world = World()
    reader = world.reader()
    with world.hub._lock:
        reader.close()
    assert "stream/w/s" in world.hub._waiting
    world.reader().close()
    assert world.hub._waiting == {}


# -- in an application ------------------------------------------------------------------------


@pytest.fixture
def app(database_url: str) -> Iterator[App]:
    app = App({"name": "talk", "system_database_url": database_url})
    yield app
    app.destroy()


class Looks:
    """Counts what is asked of the database."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, of: object, name: str) -> None:
        self.count = 0
        self.looked = threading.Semaphore(0)
        ask = getattr(of, name)

        def counted(*args: Any) -> Any:
            self.count += 1
            found = ask(*args)
            self.looked.release()
            return found

        monkeypatch.setattr(of, name, counted)


def test_a_value_is_not_read_back_by_who_waits_for_it_here(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()

    @app.workflow()
    def sets() -> None:
        assert go_on.wait(PATIENCE)
        app.set_event("k", {"a": (1, 2)})

    app.launch()
    core = app.launched.core
    looks = Looks(monkeypatch, core.storage.values, "read")
    with SetWorkflowID("w"):
        handle = app.start_workflow(sets)
    got: list[object] = []
    waits = threading.Thread(target=lambda: got.append(app.get_event("w", "k")))
    waits.start()
    assert looks.looked.acquire(timeout=PATIENCE)
    go_on.set()
    waits.join(PATIENCE)
    handle.get_result()
    assert got == [{"a": (1, 2)}]
    assert looks.count <= (1 if core.storage.name == "postgres" else 2)


def test_a_value_that_is_told_late_is_not_given_for_the_one_that_has_replaced_it(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    @app.workflow()
    def sets() -> None:
        app.set_event("k", "old")
        app.set_event("k", "new")

    app.launch()
    with SetWorkflowID("w"):
        app.start_workflow(sets).get_result()
    audience = app.launched.core.mailboxes.audience
    join = audience.join

    def joins(*args: Any) -> Any:
        listener = join(*args)
        listener.offer(SetValue("k", 1, 1, "json", '"old"', 1))
        return listener

    monkeypatch.setattr(audience, "join", joins)
    assert app.get_event("w", "k") == "new"


def test_of_values_that_become_durable_together_the_last_one_is_given(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    @app.workflow()
    def waits() -> None:
        app.recv(timeout_seconds=60)

    app.launch()
    core = app.launched.core
    looks = Looks(monkeypatch, core.storage.values, "read")
    with SetWorkflowID("w"):
        app.start_workflow(waits)
    got: list[object] = []
    reads = threading.Thread(target=lambda: got.append(app.get_event("w", "k")))
    reads.start()
    assert looks.looked.acquire(timeout=PATIENCE)
    channel = value_key("w", "k").text
    for number in (1, 2):
        core.mailboxes.audience.tell(channel, SetValue("k", number, number, "json", str(number), number))
    core.hub.signal(here(channel))
    reads.join(PATIENCE)
    assert got == [2]
    app.cancel_workflow("w")


def test_a_stream_is_not_read_back_by_who_reads_it_here(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()

    @app.workflow()
    def writes() -> None:
        assert go_on.wait(PATIENCE)
        for number in range(300):
            app.write_stream("s", number)
        app.close_stream("s")

    app.launch()
    core = app.launched.core
    looks = Looks(monkeypatch, core.storage.streams, "read")
    with SetWorkflowID("w"):
        handle = app.start_workflow(writes)

    async def reads() -> list[Any]:
        return [value async for value in app.read_stream_async("w", "s")]

    got: list[list[Any]] = []
    readers = [
        threading.Thread(target=lambda: got.append(list(app.read_stream("w", "s")))),
        threading.Thread(target=lambda: got.append(asyncio.run(reads()))),
    ]
    for one in readers:
        one.start()
        assert looks.looked.acquire(timeout=PATIENCE)
    go_on.set()
    for one in readers:
        one.join(PATIENCE)
    handle.get_result()
    assert got == [list(range(300))] * 2
    if core.storage.name == "postgres":
        assert looks.count <= 4


def test_what_a_function_does_not_write_is_looked_up(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a batch is written statement by statement, nobody has said yet that all of it is durable."""
    go_on = threading.Event()

    @app.workflow()
    def publishes() -> None:
        assert go_on.wait(PATIENCE)
        app.set_event("k", 1)
        app.write_stream("s", 2)
        app.close_stream("s")

    app.launch()
    core = app.launched.core
    monkeypatch.setattr("dbos_events.storage.subjects.batches.fits_one_call", lambda _parted: False)
    values = Looks(monkeypatch, core.storage.values, "read")
    streams = Looks(monkeypatch, core.storage.streams, "read")
    with SetWorkflowID("w"):
        app.start_workflow(publishes)
    got: list[object] = []
    waits = threading.Thread(target=lambda: got.append(app.get_event("w", "k")))
    reads = threading.Thread(target=lambda: got.append(list(app.read_stream("w", "s"))))
    for one, looks in ((waits, values), (reads, streams)):
        one.start()
        assert looks.looked.acquire(timeout=PATIENCE)
    go_on.set()
    waits.join(PATIENCE)
    reads.join(PATIENCE)
    assert 1 in got
    assert [2] in got
    assert values.count >= 2
    assert streams.count >= 2

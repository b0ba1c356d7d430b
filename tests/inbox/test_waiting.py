"""Callers of an inbox: they wait for one transaction, never for long, and nothing of theirs is kept when they leave."""

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dbos_events import App
from dbos_events.connect import Inbox, Outcome, PushedEvent
from dbos_events.errors import DBOSException, StorageUnavailable
from dbos_events.runtime import inbox as inboxes
from tests.connectors.folder.connector import File, event, folder_consumer, inbox_of
from tests.inbox.crew import wait_until
from tests.servers import PostgresServer


class Handled:
    """A launched application whose handler notes the names of its events."""

    def __init__(self, url: str, **options: Any) -> None:
        self.seen: list[str] = []
        self.app = App({"name": "shop", "system_database_url": url})

        @folder_consumer(self.app, name="orders", breaker=None, **options)
        async def on_file(file: File) -> None:
            self.seen.append(file.name)

        self.app.launch()

    @property
    def inbox(self) -> Inbox:
        return inbox_of(self.app)


@pytest.fixture
def launched(database_url: str) -> Iterator[Handled]:
    handled = Handled(database_url)
    yield handled
    handled.app.destroy()


class Held:
    """Holds acceptances up where they would ask the database, and counts them."""

    def __init__(self, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[int] = []
        self.gate = threading.Event()
        self.entered = threading.Event()
        storage = app.core.storage.inbox
        accept = storage.accept

        def held(batch: Any) -> Any:
            self.asked.append(len(batch.events))
            self.entered.set()
            assert self.gate.wait(60)
            return accept(batch)

        monkeypatch.setattr(storage, "accept", held)


@pytest.fixture
def held(launched: Handled, monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    found = Held(launched.app, monkeypatch)
    yield found
    found.gate.set()


def kinds(outcomes: list[Outcome]) -> list[str]:
    return [outcome.kind for outcome in outcomes]


def test_whoever_comes_while_a_transaction_is_under_way_goes_into_the_next_one(
    launched: Handled, held: Held
) -> None:
    with ThreadPoolExecutor(41) as pool:
        first = pool.submit(launched.inbox.accept, [event("orders", "first")], timeout_seconds=60)
        assert held.entered.wait(60)
        others = [
            pool.submit(launched.inbox.accept, [event("orders", f"e{n}")], timeout_seconds=60)
            for n in range(40)
        ]
        wait_until(lambda: launched.app.launched.inbox.waiting == 40)
        held.gate.set()
        assert [kinds(one.result()) for one in (first, *others)] == [["accepted"]] * 41
    assert held.asked == [1, 40]
    wait_until(lambda: len(launched.seen) == 41)


def test_a_caller_who_is_alone_is_answered_by_a_transaction_of_its_own_at_once(
    launched: Handled, held: Held
) -> None:
    held.gate.set()
    for number in range(3):
        assert kinds(launched.inbox.accept([event("orders", f"{number}"), event("orders", "x")]))
    assert held.asked == [2, 2, 2]


def test_a_database_that_does_not_answer_is_told_in_time_and_nothing_is_kept(
    launched: Handled, held: Held
) -> None:
    began = time.monotonic()
    with ThreadPoolExecutor(20) as pool:
        asked = [
            pool.submit(launched.inbox.accept, [event("orders", f"e{n}")], timeout_seconds=0.5)
            for n in range(20)
        ]
        outcomes = [one.result()[0] for one in asked]
    assert time.monotonic() - began < 3
    assert {(one.kind, one.cause, one.durable) for one in outcomes} == {("refused", "database", False)}
    assert all(one.retry_after for one in outcomes)
    assert launched.app.launched.inbox.waiting == 0
    held.gate.set()
    again = [launched.inbox.accept([event("orders", f"e{n}")])[0] for n in range(20)]
    assert {one.kind for one in again} <= {"accepted", "duplicate"}
    wait_until(lambda: len(launched.seen) == 20)
    assert sorted(launched.seen) == sorted(f"e{n}" for n in range(20))


def test_no_more_waits_in_memory_than_there_is_room_for(
    launched: Handled, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inboxes, "MOST_EVENTS", 10)
    monkeypatch.setattr(inboxes, "MOST_BYTES", 1000)

    async def flood() -> list[Outcome]:
        first = asyncio.create_task(
            launched.inbox.accept_async([event("orders", "first")], timeout_seconds=1)
        )
        await asyncio.to_thread(held.entered.wait, 60)
        many = [launched.inbox.accept_async([event("orders", f"e{n}")], timeout_seconds=1) for n in range(30)]
        large = [launched.inbox.accept_async([event("orders", "l", b"x" * 2000)], timeout_seconds=1)]
        answers = await asyncio.gather(first, *many, *large)
        return [outcome for (outcome,) in answers]

    causes = [outcome.cause for outcome in asyncio.run(flood())]
    assert causes.count("busy") == 21
    assert causes.count("database") == 11
    assert launched.app.launched.inbox.waiting == 0


def test_a_cancelled_caller_takes_its_events_with_it_unless_they_are_under_way(
    launched: Handled, held: Held
) -> None:
    async def cancel() -> None:
        first = asyncio.create_task(
            launched.inbox.accept_async([event("orders", "first")], timeout_seconds=60)
        )
        await asyncio.to_thread(held.entered.wait, 60)
        second = asyncio.create_task(
            launched.inbox.accept_async([event("orders", "second")], timeout_seconds=60)
        )
        await asyncio.to_thread(wait_until, lambda: launched.app.launched.inbox.waiting == 1)
        for task in (first, second):
            task.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        assert launched.app.launched.inbox.waiting == 0

    asyncio.run(cancel())
    held.gate.set()
    wait_until(lambda: launched.seen == ["first"])
    assert kinds(launched.inbox.accept([event("orders", "first"), event("orders", "second")])) == [
        "duplicate",
        "accepted",
    ]


@pytest.mark.parametrize("content_type", ["text/\0plain", "\ud800", "x" * 5000])
def test_an_event_that_cannot_be_stored_is_refused_alone(
    launched: Handled, held: Held, content_type: str
) -> None:
    bad = event("orders", "bad", content_type=content_type)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(launched.inbox.accept, [event("orders", "first")], timeout_seconds=60)
        assert held.entered.wait(60)
        others = [
            pool.submit(launched.inbox.accept, [one], timeout_seconds=60)
            for one in (bad, event("orders", "good"))
        ]
        wait_until(lambda: launched.app.launched.inbox.waiting == 2)
        held.gate.set()
        refused, good = (one.result()[0] for one in others)
    assert first.result()[0].kind == good.kind == "accepted"
    assert (refused.kind, refused.cause, refused.retry_after) == ("refused", "event", None)


def test_what_can_never_be_accepted_is_refused_and_the_rest_of_its_request_is_not(launched: Handled) -> None:
    events = [event("nobody", "1"), event("orders", ""), event("orders", "1")]
    outcomes = launched.inbox.accept(events)
    assert [(one.kind, one.cause) for one in outcomes] == [
        ("refused", "consumer"),
        ("refused", "event"),
        ("accepted", ""),
    ]
    assert outcomes[2].workflow_id == launched.inbox.workflow_id("orders", "1")
    assert launched.inbox.accept([]) == []


def test_an_event_of_the_wrong_shape_is_refused_and_keeps_nobody_else_out(launched: Handled) -> None:
    odd: Any = "text"
    events = [
        event("orders", "header", headers=[("a", odd)]),
        event("orders", "headers", headers=odd),
        PushedEvent("orders", "payload", odd, b"", 0),
        PushedEvent("orders", "fingerprint", b"", odd, 0),
        PushedEvent("orders", 7, b"", b"", 0),  # type: ignore[arg-type]
        event("orders", "good"),
    ]
    outcomes = launched.inbox.accept(events)
    assert [one.cause for one in outcomes] == ["event"] * 5 + [""]
    assert all(one.reason and one.retry_after is None for one in outcomes[:5])
    wait_until(lambda: launched.seen == ["good"])


def test_on_a_running_loop_the_blocking_form_says_so(launched: Handled) -> None:
    async def call() -> None:
        with pytest.raises(DBOSException, match="accept_async"):
            launched.inbox.accept([event("orders", "1")])

    asyncio.run(call())


def test_a_process_that_stops_refuses_and_what_it_had_accepted_runs_in_the_next(database_url: str) -> None:
    handled = Handled(database_url, max_in_flight=1)
    inbox = handled.inbox
    accepted = inbox.accept([event("orders", f"e{n}") for n in range(20)])
    handled.app.destroy()
    assert {one.kind for one in accepted} == {"accepted"}
    assert [one.cause for one in inbox.accept([event("orders", "late")])] == ["stopping"]
    other = Handled(database_url)
    try:
        wait_until(lambda: {*handled.seen, *other.seen} == {f"e{n}" for n in range(20)})
        assert not {*handled.seen} & {*other.seen} or len(handled.seen) + len(other.seen) <= 21
    finally:
        other.app.destroy()


def test_no_more_events_run_at_once_than_max_in_flight_says(database_url: str) -> None:
    running = peak = 0
    app = App({"name": "shop", "system_database_url": database_url})
    lock, ended = threading.Lock(), []

    @app.step()
    def work(name: str) -> None:
        nonlocal running, peak
        with lock:
            running += 1
            peak = max(peak, running)
        time.sleep(0.01)
        with lock:
            running -= 1
            ended.append(name)

    @folder_consumer(app, name="orders", max_in_flight=3)
    def on_file(file: File) -> None:
        work(file.name)

    with app:
        outcomes = inbox_of(app).accept([event("orders", f"e{n}") for n in range(30)])
        assert {one.kind for one in outcomes} == {"accepted"}
        wait_until(lambda: len(ended) == 30)
    assert peak == 3
    assert len(set(ended)) == 30


def test_files_in_a_folder_are_taken_in_and_deleted(database_url: str, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(10):
        (folder / f"key--{number}").write_bytes(b"x")
    handled = Handled(database_url, folder=folder)
    try:
        wait_until(lambda: len(handled.seen) == 10 and not list(folder.iterdir()))
        assert handled.seen == [str(number) for number in range(10)]
        handled.app.pause_consumer("orders", reason="audit")
        wait_until(lambda: "audit" in handled.inbox.closed_by("orders"))
        (folder / "late").write_bytes(b"x")
        (folder / "key--3").write_bytes(b"x")
        wait_until(lambda: [path.name for path in folder.iterdir()] == ["late"])
        assert handled.app.health().ready
        handled.app.resume_consumer("orders")
        wait_until(lambda: handled.seen[10:] == ["late"] and not list(folder.iterdir()))
    finally:
        handled.app.destroy()


def test_an_id_that_another_transaction_holds_is_given_up_in_time(
    migrated_postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    handled = Handled(migrated_postgres)
    try:
        with psycopg.connect(migrated_postgres) as blocker:
            blocker.execute("LOCK TABLE dbos_events.seen IN ACCESS EXCLUSIVE MODE")
            began = time.monotonic()
            (outcome,) = handled.inbox.accept([event("orders", "1")])
            assert time.monotonic() - began < 3
            assert (outcome.kind, outcome.cause) == ("refused", "database")
        (outcome,) = accepted_in_the_end(handled, "1")
        assert outcome.durable
        wait_until(lambda: handled.seen == ["1"])
    finally:
        handled.app.destroy()


def test_a_server_that_stops_is_told_in_time_and_accepts_again_when_it_is_back(
    postgres_server: PostgresServer,
) -> None:
    handled = Handled(postgres_server.url)
    try:
        assert accepted_in_the_end(handled, "before")[0].kind == "accepted"
        postgres_server.stop()
        for _ in range(2):
            began = time.monotonic()
            (outcome,) = handled.inbox.accept([event("orders", "during")])
            assert time.monotonic() - began < 3
            assert (outcome.kind, outcome.cause) == ("refused", "database")
        postgres_server.start()
        assert accepted_in_the_end(handled, "during")[0].durable
        wait_until(lambda: sorted(handled.seen) == ["before", "during"])
    finally:
        handled.app.destroy()


def accepted_in_the_end(handled: Handled, name: str) -> list[Outcome]:
    """As a sender does that sends again until it hears that the event was received."""
    answers: list[list[Outcome]] = []

    def durable() -> bool:
        answers.append(handled.inbox.accept([event("orders", name)]))
        return answers[-1][0].durable

    wait_until(durable)
    return answers[-1]


def test_a_process_that_was_declared_dead_refuses_until_it_has_registered_anew(launched: Handled) -> None:
    core = launched.app.core
    before = core.executor
    (row,) = [row for row in core.storage.executors.read("shop") if row.id == before]
    assert core.storage.executors.declare_dead(before, row.heartbeat, "test")
    first = launched.inbox.accept([event("orders", "1", lane="k")])
    assert [(one.kind, one.cause) for one in first] == [("refused", "database")] or core.executor != before
    assert accepted_in_the_end(launched, "1")[0].durable
    wait_until(lambda: launched.seen == ["1"])
    assert core.executor != before


def test_an_answer_that_was_lost_is_looked_up_and_the_event_runs_here_at_once(
    launched: Handled, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = launched.app.core.storage.inbox
    accept, lost = storage.accept, []

    def lose(batch: Any) -> Any:
        found = accept(batch)
        if not lost:
            lost.append(found)
            raise StorageUnavailable("the answer was lost")
        return found

    monkeypatch.setattr(storage, "accept", lose)
    (outcome,) = launched.inbox.accept([event("orders", "1", lane="k")])
    assert lost
    assert outcome.kind == "accepted"
    wait_until(lambda: launched.seen == ["1"])

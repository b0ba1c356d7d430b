"""Handing writes over to the committer: each is answered once, whoever hands it over and whenever the committer ends."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from dbos_events.engine import committer as committer_module
from dbos_events.engine import later
from dbos_events.engine.committer import MAX_BATCH, Committer
from dbos_events.engine.tickets import Ticket
from dbos_events.engine.waking import ThreadWaker
from dbos_events.errors import BadWrite, DBOSException, StorageUnavailable
from dbos_events.storage.writes import WRITTEN, Fenced, NewWorkflow, Refused, Result, Write
from dbos_events.telemetry.outages import Outages

PATIENCE = 10.0


class Database:
    """Takes every batch, each when the test lets it."""

    def __init__(self) -> None:
        self.batches: list[Sequence[Write]] = []
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()
        self.open.set()

    def write(self, writes: Sequence[Write]) -> Sequence[Result]:
        self.entered.release()
        assert self.open.wait(PATIENCE)
        self.batches.append(writes)
        return [WRITTEN] * len(writes)


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def committer(database: Database) -> Iterator[Committer]:
    committer = Committer(database.write, lambda: None)
    committer.start()
    yield committer
    database.open.set()
    committer.stop(PATIENCE)


def new(workflow_id: str) -> NewWorkflow:
    return NewWorkflow(workflow_id, "work", "shop", 1, "ENQUEUED", None)


def hand_over(committer: Committer, name: str) -> Callable[[], Result]:
    waker = ThreadWaker()
    ticket: Ticket = committer.submit(Write(name), waker=waker)

    def answer() -> Result:
        while ticket.result is None:
            assert waker.wait(PATIENCE), f"{name} was never answered"
        return ticket.result

    return answer


def held_commit(committer: Committer, database: Database) -> Callable[[], Result]:
    """The answer to a write that is being committed until the test opens the database."""
    database.open.clear()
    first = hand_over(committer, "first")
    assert database.entered.acquire(timeout=PATIENCE)
    return first


def names(database: Database) -> list[list[str]]:
    return [[write.workflow_id for write in batch] for batch in database.batches]


def test_one_that_comes_alone_is_written_at_once(committer: Committer, database: Database) -> None:
    for name in ("a", "b"):
        assert hand_over(committer, name)() == WRITTEN
    assert names(database) == [["a"], ["b"]]


def test_what_comes_during_a_commit_goes_out_together_in_order(
    committer: Committer, database: Database
) -> None:
    first = held_commit(committer, database)
    others = [hand_over(committer, f"{number}") for number in range(50)]
    database.open.set()
    assert {answer() for answer in (first, *others)} == {WRITTEN}
    assert names(database) == [["first"], [f"{number}" for number in range(50)]]


def test_a_batch_is_bounded(committer: Committer, database: Database) -> None:
    held_commit(committer, database)
    answers = [hand_over(committer, f"{number}") for number in range(MAX_BATCH + 1)]
    database.open.set()
    for answer in answers:
        assert answer() == WRITTEN
    assert [len(batch) for batch in database.batches] == [1, MAX_BATCH, 1]


def test_many_threads_hand_over_and_each_write_is_answered_once(
    committer: Committer, database: Database
) -> None:
    answers: list[list[Result]] = [[] for _ in range(4)]

    def work(number: int) -> None:
        answers[number] += [hand_over(committer, f"{number}-{one}")() for one in range(300)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert [len(of_thread) for of_thread in answers] == [300] * 4
    written = [name for batch in names(database) for name in batch]
    assert len(written) == len(set(written)) == 1200


def test_what_is_queued_is_written_before_the_end(committer: Committer, database: Database) -> None:
    held_commit(committer, database)
    last = hand_over(committer, "last")
    assert committer.stop(0.0) is False
    database.open.set()
    assert last() in (WRITTEN, Fenced(None))  # by whether the database was there in time
    assert committer.stop(PATIENCE)


def test_what_comes_after_the_end_is_refused_at_once(committer: Committer, database: Database) -> None:
    assert committer.stop(PATIENCE)
    assert hand_over(committer, "late")() == Fenced(None)
    assert names(database) == []


def test_a_committer_that_never_began_refuses_what_it_has_and_what_comes(database: Database) -> None:
    committer = Committer(database.write, lambda: None)
    before = hand_over(committer, "before")
    assert committer.stop(PATIENCE)
    assert [before(), hand_over(committer, "after")()] == [Fenced(None)] * 2


def test_while_it_ends_nothing_more_is_taken(committer: Committer, database: Database) -> None:
    held_commit(committer, database)
    queued = hand_over(committer, "queued")
    ending = threading.Thread(target=committer.stop, args=(PATIENCE,))
    ending.start()
    while not committer._stopped:
        threading.Event().wait(0.001)
    assert hand_over(committer, "late")() == Fenced(None)
    database.open.set()
    assert queued() == WRITTEN
    ending.join(PATIENCE)


def test_starts_fail_apart_from_what_runs(database: Database) -> None:
    """Nothing that a run writes may tell who started something that it was not started, nor the other way round."""

    def write(writes: Sequence[Write]) -> Sequence[Result]:
        if any(not isinstance(write.change, NewWorkflow) for write in writes):
            raise BadWrite("a value that does not fit")
        return database.write(writes)

    committer = Committer(write, lambda: None)
    starts = [committer.submit(Write(change=new(f"{number}"))) for number in range(2)]
    other = hand_over(committer, "run")
    committer.start()
    assert isinstance(other(), Refused)
    assert committer.stop(PATIENCE)
    assert [start.result for start in starts] == [WRITTEN] * 2


class Refusing:
    """Refuses batches with the next of these errors, then takes them; what each held is kept."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.tried: list[list[str]] = []

    def __call__(self, writes: Sequence[Write]) -> Sequence[Result]:
        self.tried.append([write.workflow_id for write in writes])
        if self.errors:
            raise self.errors.pop(0)
        return [WRITTEN] * len(writes)


@pytest.mark.parametrize(
    "error", [StorageUnavailable("revoked"), RuntimeError("a defect"), OSError(5, "io"), KeyError("k")]
)
def test_what_is_not_about_data_has_the_whole_batch_tried_again_and_shows(error: Exception) -> None:
    outages = Outages()
    shown: list[list[str]] = []

    class Looked(Refusing):
        def __call__(self, writes: Sequence[Write]) -> Sequence[Result]:
            shown.append(outages.problems)
            return super().__call__(writes)

    write = Looked(*[error] * 7)
    committer = Committer(write, lambda: None, outages=outages)
    answers = [hand_over(committer, name) for name in ("a", "b")]
    committer.start()
    assert [answer() for answer in answers] == [WRITTEN] * 2
    assert write.tried == [["a", "b"]] * 8
    assert "wait for the database" in shown[-1][0]
    assert outages.problems == []
    assert committer.stop(PATIENCE)


def test_a_refused_value_is_found_by_halving_and_stored_without_the_frames_of_the_refusal() -> None:
    def write(writes: Sequence[Write]) -> Sequence[Result]:
        if any(one.workflow_id == "bad" for one in writes):
            raise BadWrite("a value that does not fit")
        return [WRITTEN] * len(writes)

    committer = Committer(write, lambda: None)
    answers = {name: hand_over(committer, name) for name in ("a", "bad", "b")}
    committer.start()
    results = {name: answer() for name, answer in answers.items()}
    assert (results["a"], results["b"]) == (WRITTEN, WRITTEN)
    refused = results["bad"]
    assert isinstance(refused, Refused)
    assert refused.error.__traceback__ is None
    assert committer.stop(PATIENCE)


class Damaged:
    """A database that refuses each batch with certain workflows in it, for no reason that lies in their values."""

    def __init__(self, error: Callable[[], Exception], *refused: str) -> None:
        self.error = error
        self.refused = set(refused)
        self.written: list[tuple[str, int]] = []
        self.tries = 0

    def __call__(self, writes: Sequence[Write]) -> Sequence[Result]:
        self.tries += 1
        if self.refused & {write.workflow_id for write in writes}:
            raise self.error()
        self.written += [(write.workflow_id, write.take) for write in writes]
        return [WRITTEN] * len(writes)


def by_trigger() -> Exception:
    error = StorageUnavailable("a trigger refuses it")
    error.__cause__ = psycopg.errors.RaiseException()
    return error


def of_a_damaged_page() -> Exception:
    error = StorageUnavailable("the file is damaged")
    error.__cause__ = sqlite3.DatabaseError()
    error.__cause__.sqlite_errorcode = 11
    return error


REFUSALS = [by_trigger, of_a_damaged_page, lambda: TypeError("a defect of ours")]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(later, "PAUSE", 0.01)
    monkeypatch.setattr(committer_module, "FIRST_PAUSE", 0.0005)
    monkeypatch.setattr(committer_module, "MAX_PAUSE", 0.001)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("error", REFUSALS)
@pytest.mark.parametrize("beside", [0, 1, 7, 300])
def test_a_workflow_that_the_database_refuses_again_and_again_keeps_no_other_waiting(
    error: Callable[[], Exception], beside: int
) -> None:
    database = Damaged(error, "bad", "worse")
    outages = Outages()
    committer = Committer(database, lambda: None, outages=outages)
    names = [f"{number}" for number in range(beside)]
    middle = beside // 2
    answers = {
        name: hand_over(committer, name) for name in [*names[:middle], "bad", *names[middle:], "worse"]
    }
    committer.start()
    for name in names:
        assert answers[name]() is WRITTEN
    late = hand_over(committer, "late")
    assert late() is WRITTEN, "what comes later does not wait either"
    after = committer.submit(Write("bad", 2))
    before_it = committer.submit(Write("late", 2))
    while before_it.result is None:
        time.sleep(0)
    assert after.result is None, "it does not overtake what its workflow has handed over before"
    assert not committer.idle
    while not outages.problems:
        time.sleep(0)
    assert "wait apart" in outages.problems[0]
    database.refused.clear()
    assert [answers[name]() for name in ("bad", "worse")] == [WRITTEN] * 2
    while after.result is None or not committer.idle:
        time.sleep(0)
    assert [take for name, take in database.written if name == "bad"] == sorted(
        take for name, take in database.written if name == "bad"
    )
    assert outages.problems == []
    assert committer.stop(PATIENCE)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("error", REFUSALS)
def test_where_all_is_refused_the_database_is_not_stormed_and_all_is_written_once_it_is_over(
    error: Callable[[], Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(later, "PAUSE", 0.05)
    names = [f"{number}" for number in range(500)]
    database = Damaged(error, *names)
    committer = Committer(database, lambda: None)
    answers = [hand_over(committer, name) for name in names]
    began = time.monotonic()
    committer.start()
    while database.tries < 300:
        time.sleep(0)
    cycles = 1 + (time.monotonic() - began) / 0.05
    assert database.tries <= committer_module.TRIES_TOGETHER + (later.TRIES_AT_ONCE + 1) * (cycles + 1)
    database.refused.clear()
    assert [answer() for answer in answers] == [WRITTEN] * 500
    assert committer.stop(PATIENCE)


def test_what_says_that_a_run_has_failed_is_written_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its workflow would have no end otherwise, and nobody would look for it while this process lives."""
    monkeypatch.setattr(later, "PAUSE", 0.01)
    write = Refusing(BadWrite("no error fits"), BadWrite("no error fits"))
    outages = Outages()
    committer = Committer(write, lambda: None, outages=outages)
    waker = ThreadWaker()
    ticket = committer.submit(Write("w"), None, waker, final=True)
    committer.start()
    assert waker.wait(PATIENCE)
    assert ticket.result == WRITTEN
    assert write.tried == [["w"]] * 3
    assert committer.stop(PATIENCE)
    assert outages.problems == []


def test_a_write_without_an_answer_is_a_problem(
    committer: Committer, database: Database, monkeypatch: Any
) -> None:
    monkeypatch.setattr(committer_module, "SLOW", 0.0)
    held_commit(committer, database)
    assert "have waited for the database" in committer.problems[0]
    database.open.set()
    assert committer.stop(PATIENCE)
    assert committer.problems == []


def test_a_run_that_is_stopped_while_its_batch_is_looked_through_is_answered(database: Database) -> None:
    """Each ticket is judged once: sound when it was looked at is sound."""
    committer = Committer(database.write, lambda: None)
    runs: list[Any] = [StopsWhenAsked(), StopsWhenAsked()]
    tickets = [Ticket(Write(name), run, None, final=False) for name, run in zip("ab", runs, strict=True)]
    committer._queue.extend(tickets)
    committer.start()
    assert committer.stop(PATIENCE)
    assert [run.asked for run in runs] == [1, 1]
    assert [ticket.result for ticket in tickets] == [WRITTEN] * 2


class StopsWhenAsked:
    """A run that is stopped as soon as somebody has asked whether it was."""

    def __init__(self) -> None:
        self.asked = 0

    @property
    def verdict(self) -> Exception | None:
        self.asked += 1
        return None if self.asked == 1 else DBOSException("It was stopped.")

    def settled(self, _write: Write, _result: Result) -> None:
        """Nothing is told of it."""


def test_nothing_is_lost_between_the_last_batch_and_the_end(database: Database) -> None:
    """Handed over in the very moment of the end: written or refused, never forgotten."""
    for _ in range(50):
        committer = Committer(database.write, lambda: None)
        committer.start()
        ending = threading.Thread(target=committer.stop, args=(PATIENCE,))
        ending.start()
        answers = [hand_over(committer, f"{number}") for number in range(20)]
        for answer in answers:
            assert answer() in (WRITTEN, Fenced(None))
        ending.join(PATIENCE)


def test_abandoned_writes_are_refused_and_nothing_more_is_written(
    committer: Committer, database: Database
) -> None:
    first = held_commit(committer, database)
    queued = hand_over(committer, "queued")
    committer.abandon()
    assert queued() == Fenced(None)
    assert hand_over(committer, "late")() == Fenced(None)
    database.open.set()
    assert first() == WRITTEN  # the database had it already
    assert names(database) == [["first"]]


def test_who_is_interrupted_while_it_wakes_the_committer_does_not_leave_it_asleep(
    committer: Committer, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a signal handler that raises, which Python calls between any two steps of its own."""
    gate = committer._gate

    def interrupted() -> None:
        monkeypatch.setattr(committer, "_gate", gate)
        raise KeyboardInterrupt

    monkeypatch.setattr(committer, "_gate", SimpleNamespace(wake=interrupted, wait=gate.wait))
    with pytest.raises(KeyboardInterrupt):
        committer.submit(Write("first"))
    assert hand_over(committer, "second")() is WRITTEN
    assert [write.workflow_id for batch in database.batches for write in batch] == ["first", "second"]

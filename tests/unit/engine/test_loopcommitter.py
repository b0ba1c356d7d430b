"""Committing on the loop: small batches go out from there, all else goes to the committer's thread, in order."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dbos_events.engine import loopcommitter, loopline
from dbos_events.engine.committer import Committer
from dbos_events.engine.loopcommitter import MOST, LoopCommitter
from dbos_events.engine.tickets import Ticket
from dbos_events.engine.waking import ThreadWaker
from dbos_events.runtime.loops import BackgroundLoop
from dbos_events.storage.rollback import NotAsExpected
from dbos_events.storage.writes import WRITTEN, Fenced, Refused, Result, Write

PATIENCE = 10.0


class FakeLine:
    """A line whose other end is the test: `answer` is what the database would do."""

    def __init__(self) -> None:
        self._near, self._far = socket.socketpair()
        self.sent: list[list[str]] = []
        self.arrived = threading.Semaphore(0)
        self.busy = False
        self.broken = False
        self.closed = threading.Event()
        self.takes_all = True
        self.flushes = 0
        self.flushed = threading.Event()
        self.failure: Exception | None = None

    def fileno(self) -> int:
        return self._near.fileno()

    def send(self, writes: Sequence[Write]) -> None:
        self.busy = True
        self.sent.append([write.workflow_id for write in writes])
        self.arrived.release()

    def flush(self) -> bool:
        self.flushes += 1
        if self.takes_all:
            self.flushed.set()
        taken, self.takes_all = self.takes_all, True
        return taken

    def receive(self) -> bool:
        self._near.recv(1)
        if self.failure is not None:
            failure, self.failure = self.failure, None
            if not self.broken:
                self.busy = False
            raise failure
        self.busy = False
        return True

    def wait(self, seconds: float) -> bool:
        self._near.settimeout(max(0.001, seconds))
        try:
            return bool(self._near.recv(1, socket.MSG_PEEK))
        except TimeoutError:
            return False

    def close(self) -> None:
        self.closed.set()
        self._near.close()

    def end(self) -> None:
        self._near.close()
        self._far.close()

    # -- the test's side ----------------------------------------------------------------------

    def await_batch(self) -> list[str]:
        assert self.arrived.acquire(timeout=PATIENCE), "nothing was sent on the line"
        return self.sent[-1]

    def answer(self, failure: Exception | None = None, *, breaks: bool = False) -> None:
        self.failure, self.broken = failure, breaks
        self._far.send(b"x")


class FakeRun:
    """The run of a task: it remembers what became of its writes, in order, and on which thread it was told."""

    def __init__(self, name: str) -> None:
        self.id = name
        self.tasks: object | None = object()
        self.verdict: BaseException | None = None
        self.results: list[Result] = []
        self.told: list[threading.Thread] = []

    def handing(self) -> None:
        return

    def settled(self, _write: Write, result: Result) -> None:
        self.results.append(result)
        self.told.append(threading.current_thread())


class Bench:
    """A committer, its loop, and a database: `lines` are those that were opened, `written` what the thread wrote."""

    def __init__(self) -> None:
        self.own = BackgroundLoop()
        self.loop = self.own.start()
        self.threads = ThreadPoolExecutor(1)
        self.lines: list[FakeLine] = []
        self.opened = threading.Semaphore(0)
        self.plain = True
        self.written: list[list[str]] = []
        self.wrote = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()
        self.committer = Committer(self._write, lambda: None)
        self.near = LoopCommitter(
            self.loop, self.committer, self.threads,
            open_line=self._open, send=self._send, after_batch=lambda: None,
        )  # fmt: skip
        self.committer.near = self.near
        self.committer.start()

    def _write(self, writes: Sequence[Write]) -> Sequence[Result]:
        assert self.gate.wait(PATIENCE)
        self.written.append([write.workflow_id for write in writes])
        self.wrote.release()
        return [WRITTEN] * len(writes)

    def _open(self) -> Any:
        self.lines.append(FakeLine())
        self.opened.release()
        return self.lines[-1]

    def _send(self, line: Any, writes: Sequence[Write]) -> bool:
        if self.plain:
            line.send(writes)
        return self.plain

    def on_loop(self, work: Callable[[], Any]) -> Any:
        """Do `work` on the loop, in one callback of it."""

        async def call() -> Any:
            return work()

        return asyncio.run_coroutine_threadsafe(call(), self.loop).result(PATIENCE)

    def hand_over(self, *runs: FakeRun) -> list[Ticket]:
        """As tasks do that are ready together."""
        tickets: list[Ticket] = self.on_loop(lambda: [self.submit(run) for run in runs])
        return tickets

    def submit(self, run: Any, waker: ThreadWaker | None = None) -> Ticket:
        return self.committer.submit(Write(run.id), run, waker)

    def open_line(self) -> FakeLine:
        """Have the first line opened, as the first write does, which goes to the thread."""
        known = len(self.lines)
        self.hand_over(FakeRun("first"))
        assert self.opened.acquire(timeout=PATIENCE)
        line: Any = self.lines[known]
        self.await_rest(lambda: self.near._line._line is line)
        return self.lines[known]

    def await_rest(self, holds: Callable[[], bool] = lambda: True) -> None:
        """Until everything has its answer, and `holds`."""
        end = threading.Event()
        while not (holds() and self.committer.rests):
            assert not end.wait(0.001)

    def await_that(self, holds: Callable[[], bool]) -> None:
        end = threading.Event()
        while not holds():
            assert not end.wait(0.001)

    def end(self) -> None:
        self.gate.set()
        self.committer.stop(PATIENCE)
        self.own.stop()
        self.threads.shutdown()
        for line in self.lines:
            line.end()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.end()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread takes nothing over in this test, however slow the machine is."""
    monkeypatch.setattr(loopcommitter, "PATIENCE", PATIENCE)
    monkeypatch.setattr(loopcommitter, "SLOW", PATIENCE)


@pytest.fixture
def prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line is opened again at once."""
    monkeypatch.setattr(loopline, "OPEN_AGAIN", 0.0)


def test_before_there_is_a_line_the_thread_writes(bench: Bench) -> None:
    run = FakeRun("a")
    bench.hand_over(run)
    bench.await_rest()
    assert bench.written == [["a"]]
    assert run.results == [WRITTEN]


@pytest.mark.usefixtures("patient")
def test_what_ready_tasks_hand_over_goes_out_from_the_loop_in_one_batch(bench: Bench) -> None:
    line = bench.open_line()
    runs = [FakeRun("a"), FakeRun("b")]
    bench.hand_over(*runs)
    assert line.await_batch() == ["a", "b"]
    assert [run.results for run in runs] == [[], []]
    line.answer()
    bench.await_rest()
    assert [run.results for run in runs] == [[WRITTEN], [WRITTEN]]
    assert {run.told[0].name for run in runs} == {"dbos-loop"}
    assert bench.written == [["first"]]


@pytest.mark.usefixtures("patient")
def test_what_comes_during_a_commit_goes_out_together_after_it(bench: Bench) -> None:
    line = bench.open_line()
    run = FakeRun("a")
    bench.hand_over(run)
    line.await_batch()
    bench.hand_over(run)
    bench.hand_over(run, FakeRun("b"))
    line.answer()
    assert line.await_batch() == ["a", "a", "b"]
    line.answer()
    bench.await_rest()
    assert run.results == [WRITTEN] * 3


@pytest.mark.usefixtures("patient")
def test_what_others_hand_over_goes_to_the_thread_meanwhile(bench: Bench) -> None:
    line = bench.open_line()
    bench.hand_over(FakeRun("a"))
    line.await_batch()
    waker = ThreadWaker()
    blocking = FakeRun("sync")
    blocking.tasks = None
    bench.submit(blocking, waker)
    assert waker.wait(PATIENCE)
    assert blocking.results == [WRITTEN]
    line.answer()
    bench.await_rest()


@pytest.mark.usefixtures("patient")
def test_a_blocking_run_on_the_loops_own_thread_needs_no_loop(bench: Bench) -> None:
    bench.open_line()

    def block() -> Result | None:
        run = FakeRun("sync")
        run.tasks = None
        waker = ThreadWaker()
        ticket = bench.submit(run, waker)
        bench.committer.before_blocking()
        assert waker.wait(PATIENCE)
        return ticket.result

    assert bench.on_loop(block) == WRITTEN


@pytest.mark.usefixtures("patient")
def test_who_blocks_the_loop_for_an_answer_gets_it(bench: Bench) -> None:
    """An async workflow that calls a sync step: what it handed over before must be durable first."""
    line = bench.open_line()
    runs = [FakeRun("under way"), FakeRun("gathered")]
    bench.hand_over(runs[0])
    line.await_batch()

    def answer() -> None:
        line.answer()
        assert line.await_batch() == ["gathered"]
        line.answer()

    def block() -> list[list[Result]]:
        bench.submit(runs[1])
        database = threading.Thread(target=answer)
        database.start()
        bench.committer.before_blocking()
        database.join(PATIENCE)
        return [run.results for run in runs]

    assert bench.on_loop(block) == [[WRITTEN], [WRITTEN]]


@pytest.mark.usefixtures("patient")
def test_many_at_once_go_to_the_thread(bench: Bench) -> None:
    line = bench.open_line()
    names = [f"{number}" for number in range(MOST + 1)]
    bench.hand_over(*[FakeRun(name) for name in names])
    bench.await_rest()
    assert line.sent == []
    assert bench.written == [["first"], names]


@pytest.mark.usefixtures("patient")
def test_too_many_that_came_during_a_commit_go_to_the_thread_after_it(bench: Bench) -> None:
    line = bench.open_line()
    bench.hand_over(FakeRun("a"))
    line.await_batch()
    names = [f"{number}" for number in range(MOST + 1)]
    bench.hand_over(*[FakeRun(name) for name in names])
    assert bench.written == [["first"]]
    line.answer()
    bench.await_rest()
    assert bench.written == [["first"], names]


@pytest.mark.usefixtures("patient")
def test_what_takes_more_than_one_call_goes_to_the_thread(bench: Bench) -> None:
    bench.open_line()
    bench.plain = False
    bench.hand_over(FakeRun("a"))
    bench.await_rest()
    assert bench.written == [["first"], ["a"]]


@pytest.mark.usefixtures("patient")
def test_what_the_thread_has_is_not_overtaken(bench: Bench) -> None:
    line = bench.open_line()
    bench.gate.clear()
    bench.plain = False
    run = FakeRun("a")
    bench.hand_over(run)
    bench.plain = True
    bench.hand_over(run)
    bench.hand_over(run)
    assert line.sent == []
    bench.gate.set()
    bench.await_rest()
    assert line.sent == []
    assert [name for batch in bench.written for name in batch] == ["first", "a", "a", "a"]
    bench.hand_over(run)
    assert line.await_batch() == ["a"]
    line.answer()
    bench.await_rest()


@pytest.mark.usefixtures("patient")
def test_what_the_call_refuses_is_written_by_the_thread_and_the_line_serves_again(bench: Bench) -> None:
    line = bench.open_line()
    run = FakeRun("a")
    bench.hand_over(run)
    line.await_batch()
    bench.hand_over(run, FakeRun("b"))
    line.answer(NotAsExpected())
    bench.await_rest()
    assert bench.written == [["first"], ["a"], ["a", "b"]]
    assert run.results == [WRITTEN, WRITTEN]
    bench.hand_over(run)
    assert line.await_batch() == ["a"]
    line.answer()
    bench.await_rest()
    assert len(bench.lines) == 1


@pytest.mark.usefixtures("patient", "prompt")
def test_a_broken_line_is_replaced_and_its_batch_is_written_by_the_thread(bench: Bench) -> None:
    line = bench.open_line()
    run = FakeRun("a")
    bench.hand_over(run)
    line.await_batch()
    line.answer(ConnectionError(), breaks=True)
    bench.await_rest()
    assert line.closed.wait(PATIENCE)
    assert bench.written == [["first"], ["a"]]
    other = bench.open_line()
    bench.hand_over(run)
    assert other.await_batch() == ["a"]
    other.answer()
    bench.await_rest()
    assert run.results == [WRITTEN, WRITTEN]


@pytest.mark.usefixtures("patient")
def test_where_no_line_can_be_opened_the_thread_writes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Semaphore(0)

    def fails() -> None:
        asked.release()
        raise ConnectionError

    monkeypatch.setattr(bench.near._line, "_open_line", fails)
    for name in ("a", "b"):
        bench.hand_over(FakeRun(name))
        bench.await_rest(lambda: not bench.near._line._opening)
    assert asked.acquire(timeout=PATIENCE)
    assert bench.written == [["a"], ["b"]]
    assert not asked.acquire(blocking=False)  # not again at once


@pytest.mark.usefixtures("patient")
def test_what_the_socket_does_not_take_at_once_is_sent_when_it_does(bench: Bench) -> None:
    line = bench.open_line()
    line.takes_all = False
    bench.hand_over(FakeRun("a"))
    line.await_batch()
    assert line.flushed.wait(PATIENCE)
    line.answer()
    bench.await_rest()
    assert bench.written == [["first"]]
    assert line.flushes == 2


@pytest.mark.usefixtures("patient")
def test_what_comes_after_a_refused_write_of_its_run_is_refused_too(bench: Bench) -> None:
    line = bench.open_line()
    run = FakeRun("a")
    run.verdict = ValueError("refused before")
    bench.hand_over(run)
    bench.await_rest()
    assert line.sent == []
    assert bench.written == [["first"]]
    assert isinstance(run.results[0], Refused)


def test_the_thread_takes_over_from_a_blocked_loop(bench: Bench) -> None:
    line = bench.open_line()
    under_way, gathered = FakeRun("under way"), FakeRun("gathered")
    bench.hand_over(under_way)
    line.await_batch()

    def block() -> None:
        bench.submit(gathered)
        line.answer()  # which the loop cannot hear
        for _ in ("under way", "gathered"):
            if not gathered.results:
                assert bench.wrote.acquire(timeout=PATIENCE)

    assert bench.wrote.acquire(timeout=PATIENCE)  # the first, which opened the line
    bench.on_loop(block)
    bench.await_rest()
    assert bench.written == [["first"], ["under way"], ["gathered"]]
    assert [under_way.results, gathered.results] == [[WRITTEN], [WRITTEN]]
    bench.await_rest(lambda: not line.busy)  # the late answer is heard, and tells nobody anything
    assert under_way.results == [WRITTEN]
    bench.hand_over(gathered)
    assert line.await_batch() == ["gathered"]
    line.answer()
    bench.await_rest()


@pytest.mark.usefixtures("patient")
def test_what_was_sent_is_written_again_as_the_same_batch(bench: Bench) -> None:
    """What goes into the row of a workflow depends on what stands beside its outcome."""
    line = bench.open_line()
    run = FakeRun("a")
    bench.hand_over(run)
    line.await_batch()
    bench.hand_over(run, run)
    bench.gate.clear()
    waker = ThreadWaker()
    other = FakeRun("sync")
    other.tasks = None
    bench.submit(other, waker)
    bench.near.hand_over()
    bench.gate.set()
    bench.await_rest()
    written = [batch for batch in bench.written if "a" in batch]
    assert written in ([["a"], ["a", "a"]], [["a"], ["sync", "a", "a"]])
    assert run.results == [WRITTEN] * 3


def test_the_thread_takes_over_from_a_blocked_loop_while_it_has_other_work(bench: Bench) -> None:
    line = bench.open_line()
    run = FakeRun("a")
    bench.hand_over(run)
    line.await_batch()

    def block() -> bool:
        end = threading.Event()
        for _ in range(1000):
            other = FakeRun("sync")
            other.tasks = None
            bench.submit(other)
            end.wait(0.01)
            if run.results:
                return True
        return False

    assert bench.on_loop(block)
    assert run.results == [WRITTEN]


def test_a_silent_line_is_noticed_while_others_hand_over(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loopcommitter, "SLOW", 0.5)
    line = bench.open_line()
    run = FakeRun("a")
    bench.hand_over(run)
    line.await_batch()
    end = threading.Event()
    for _ in range(1000):
        bench.hand_over(FakeRun("other"))
        if run.results or end.wait(0.01):
            break
    assert run.results == [WRITTEN]


def test_a_slow_database_is_not_asked_twice_while_the_loop_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loopcommitter, "SLOW", PATIENCE)
    monkeypatch.setattr(loopcommitter, "PATIENCE", 0.02)
    line = bench.open_line()
    run = FakeRun("a")
    bench.hand_over(run)
    line.await_batch()
    [sent] = bench.near._sent or []
    bench.await_that(lambda: bench.near._heard is sent)
    looked = threading.Semaphore(0)
    look = bench.near.look

    def count() -> float | None:
        looked.release()
        return look()

    monkeypatch.setattr(bench.near, "look", count)
    for _ in range(5):
        assert looked.acquire(timeout=PATIENCE)
    assert run.results == []
    line.answer()
    bench.await_rest()
    assert bench.written == [["first"]]


def test_the_thread_takes_over_from_a_closed_loop(bench: Bench) -> None:
    line = bench.open_line()
    run = FakeRun("a")
    bench.hand_over(run)
    line.await_batch()
    bench.own.stop()
    bench.await_rest()
    assert run.results == [WRITTEN]
    assert bench.written == [["first"], ["a"]]


@pytest.mark.usefixtures("patient")
def test_at_the_end_the_thread_writes_what_is_left(bench: Bench) -> None:
    line = bench.open_line()
    runs = [FakeRun("under way"), FakeRun("gathered")]
    for run in runs:
        bench.hand_over(run)
    assert bench.committer.stop(PATIENCE)
    assert [run.results for run in runs] == [[WRITTEN], [WRITTEN]]
    late = FakeRun("late")
    bench.hand_over(late)
    assert late.results == [Fenced(None)]
    assert line.closed.wait(PATIENCE)


@pytest.mark.usefixtures("patient")
def test_abandoned_nothing_is_written_and_all_are_answered(bench: Bench) -> None:
    line = bench.open_line()
    runs = [FakeRun("under way"), FakeRun("gathered")]
    for run in runs:
        bench.hand_over(run)
    bench.committer.abandon()
    assert [run.results for run in runs] == [[Fenced(None)], [Fenced(None)]]
    assert bench.written == [["first"]]
    assert line.closed.wait(PATIENCE)

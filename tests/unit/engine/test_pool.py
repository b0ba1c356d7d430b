"""The threads of sync workflows: as many as wait at once, and no more than there is work for."""

import threading
from collections.abc import Iterator
from functools import partial

import pytest

from dbos_events.engine.pool import RESTING, Pool
from dbos_events.engine.waking import ThreadWaker

SIZE = 8
PATIENCE = 10.0


@pytest.fixture
def pool() -> Iterator[Pool]:
    pool = Pool(SIZE)
    yield pool
    pool.stop()
    pool.join(PATIENCE)


def test_work_that_waits_spreads_over_all_threads(pool: Pool) -> None:
    together = threading.Barrier(SIZE + 1)
    for _ in range(3):  # with new threads, then with those that are there
        pool.submit([partial(together.wait, PATIENCE)] * SIZE)
        together.wait(PATIENCE)


def test_work_that_comes_one_by_one_finds_a_thread_while_others_wait(pool: Pool) -> None:
    together = threading.Barrier(SIZE + 1)
    for _ in range(SIZE):
        pool.submit([partial(together.wait, PATIENCE)])
    together.wait(PATIENCE)


def test_all_work_is_done_once_whoever_hands_it_over(pool: Pool) -> None:
    done: list[int] = []
    finished = threading.Semaphore(0)

    def work(number: int) -> None:
        done.append(number)
        finished.release()

    def hand_over(first: int) -> None:
        for number in range(first, first + 100):
            pool.submit([partial(work, number), partial(work, -1 - number)])

    threads = [threading.Thread(target=hand_over, args=(first,)) for first in range(0, 400, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _ in range(800):
        assert finished.acquire(timeout=PATIENCE), f"only {len(done)} of 800 were done"
    assert sorted(done) == list(range(-400, 400))


def test_work_that_never_waits_stays_with_the_thread_that_has_it(pool: Pool) -> None:
    """Each further thread would fight for Python's lock with the first one."""
    started = threading.Event()
    release = threading.Event()
    seen: set[int] = set()
    finished = threading.Semaphore(0)

    def holds_all() -> None:
        started.set()
        release.wait(PATIENCE)

    def quick() -> None:
        seen.add(threading.get_ident())
        finished.release()

    pool.submit([holds_all] * SIZE)  # all threads are there
    assert started.wait(PATIENCE)
    release.set()
    pool.submit([quick] * 500)
    for _ in range(500):
        assert finished.acquire(timeout=PATIENCE)
    assert len(seen) < SIZE


class Rester:
    """Work that rests in a durable wait, then runs on until it is let go."""

    def __init__(self, pool: Pool, *, yields: bool = True) -> None:
        self._pool = pool
        self._yields = yields
        self.waker = ThreadWaker()
        self.rests = threading.Event()
        self.runs_on = threading.Event()
        self.ends = threading.Event()
        self.was_wanted = False

    def __call__(self) -> None:
        with self._pool.resting(self.waker, yields=self._yields):
            self.rests.set()
            self.waker.wait(PATIENCE)
        self.was_wanted = self._pool.starved
        self.runs_on.set()
        self.ends.wait(PATIENCE)


def resting(pool: Pool, count: int, *, yields: bool = True) -> list[Rester]:
    """So many that rest in the pool."""
    resters = [Rester(pool, yields=yields) for _ in range(count)]
    pool.submit(resters)
    for one in resters:
        assert one.rests.wait(PATIENCE)
    return resters


def let_go(resters: list[Rester]) -> None:
    for one in resters:
        one.ends.set()
        one.waker.wake()
        assert one.runs_on.wait(PATIENCE)


def test_what_rests_keeps_nothing_from_running(pool: Pool) -> None:
    resters = resting(pool, 3 * SIZE)
    together = threading.Barrier(SIZE + 1)
    pool.submit([partial(together.wait, PATIENCE)] * SIZE)
    together.wait(PATIENCE)
    let_go(resters)


def test_no_more_run_than_places_when_many_come_back_at_once(pool: Pool) -> None:
    lock = threading.Lock()
    running, most, done = 0, 0, threading.Semaphore(0)

    def runs() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        done.acquire(timeout=0.001)  # others get Python's lock
        with lock:
            running -= 1

    class Counted(Rester):
        def __call__(self) -> None:
            for _ in range(3):
                runs()
                with pool.resting(self.waker, yields=False):
                    self.rests.set()
                    self.waker.wait(PATIENCE)
                self.waker.wake()
            runs()
            self.runs_on.set()

    resters: list[Rester] = [Counted(pool) for _ in range(5 * SIZE)]
    pool.submit(resters)
    for one in resters:
        one.waker.wake()
        pool.submit([runs])
    for one in resters:
        assert one.runs_on.wait(PATIENCE)
    assert most == SIZE


def all_places_held(pool: Pool) -> threading.Event:
    """As many works as may run hold their places until the event is set."""
    go_on, began = threading.Event(), threading.Semaphore(0)

    def holds_its_place() -> None:
        began.release()
        go_on.wait(PATIENCE)

    pool.submit([holds_its_place] * SIZE)
    for _ in range(SIZE):
        assert began.acquire(timeout=PATIENCE)
    return go_on


def test_what_comes_back_runs_before_new_work_and_after_what_runs(pool: Pool) -> None:
    (rester,) = resting(pool, 1)
    go_on = all_places_held(pool)
    order: list[str] = []
    rester.waker.wake()
    assert not rester.runs_on.wait(0.05)
    new = threading.Event()
    pool.submit([lambda: (order.append("new"), new.set())])
    assert not new.wait(0.05)
    rester.ends.set()
    go_on.set()
    assert rester.runs_on.wait(PATIENCE)
    assert new.wait(PATIENCE)


def test_as_many_as_come_back_before_new_work_take_all_places(pool: Pool) -> None:
    resters = resting(pool, 2 * SIZE)
    for one in resters:
        one.waker.wake()
    for one in resters[: 2 * SIZE]:
        one.ends.set()
    for one in resters:
        assert one.runs_on.wait(PATIENCE)
    ran = threading.Event()
    pool.submit([ran.set])
    assert ran.wait(PATIENCE)


class Waiting:
    """A durable wait as the engine has it: it looks when it is woken, and gives its thread up where that is wanted."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.waker = ThreadWaker()
        self.found = threading.Event()
        self.rests = threading.Event()
        self.left = threading.Event()

    def __call__(self) -> None:
        while not self.found.is_set():
            self.waker = ThreadWaker()
            if self._pool.starved:
                self.left.set()
                return
            with self._pool.resting(self.waker, yields=True):
                self.rests.set()
                self.waker.wait(PATIENCE)

    def end(self) -> None:
        self.found.set()
        self.waker.wake()


def test_where_no_thread_may_be_started_one_that_rests_gives_its_own_up(pool: Pool) -> None:
    held = resting(pool, 1, yields=False)
    waiting = [Waiting(pool) for _ in range(SIZE * (1 + RESTING) - 1)]
    pool.submit(waiting)
    for one in waiting:
        assert one.rests.wait(PATIENCE)
    ran = threading.Event()
    pool.submit([ran.set])
    assert ran.wait(PATIENCE)
    assert sum(one.left.is_set() for one in waiting) == 1
    assert not held[0].runs_on.is_set()
    for one in waiting:
        one.end()
    let_go(held)


def test_where_the_system_refuses_a_thread_one_that_rests_gives_its_own_up(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = [Waiting(pool), Waiting(pool)]
    pool.submit(waiting)
    for one in waiting:
        assert one.rests.wait(PATIENCE)

    def cannot(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    began, go_on = threading.Semaphore(0), threading.Event()

    def holds_its_place() -> None:
        began.release()
        go_on.wait(PATIENCE)

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", cannot)
        pool.submit([holds_its_place] * 2)
        for _ in range(2):
            assert began.acquire(timeout=PATIENCE)
        go_on.set()
    assert all(one.left.is_set() for one in waiting)
    for one in waiting:
        one.end()


def test_work_waits_while_as_many_run_as_may_and_none_is_sent_away_for_it(pool: Pool) -> None:
    (rester,) = resting(pool, 1)
    together = threading.Barrier(SIZE + 1)
    ran = threading.Event()
    pool.submit([*[partial(together.wait, PATIENCE)] * SIZE, ran.set])
    assert not ran.wait(0.05)
    assert not pool.starved
    assert not rester.runs_on.is_set()
    together.wait(PATIENCE)
    assert ran.wait(PATIENCE)
    let_go([rester])


def test_who_rests_with_a_lock_that_all_others_wait_for_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    pool = Pool(SIZE, stuck=0.05)
    lock = threading.Lock()
    counting = threading.Lock()
    running, most, finished = 0, 0, threading.Semaphore(0)

    def rests_with_the_lock() -> None:
        nonlocal running, most
        with counting:
            running += 1
            most = max(most, running)
        with lock, pool.resting(waker := ThreadWaker(), yields=False):
            waker.wait(0.01)
        with counting:
            running -= 1
        finished.release()

    pool.submit([rests_with_the_lock] * 4 * SIZE)
    for _ in range(4 * SIZE):
        assert finished.acquire(timeout=PATIENCE)
    assert most <= SIZE + 1
    assert "let go of it before DBOS.sleep" in caplog.text
    pool.look()
    together = threading.Barrier(SIZE + 1)
    ran = threading.Event()
    pool.submit([*[partial(together.wait, PATIENCE)] * SIZE, ran.set])
    assert not ran.wait(0.05), "the bound is what it was"
    together.wait(PATIENCE)
    assert ran.wait(PATIENCE)
    pool.stop()
    pool.join(PATIENCE)


def test_the_stop_keeps_nobody_from_coming_back(pool: Pool) -> None:
    (rester,) = resting(pool, 1)
    go_on = all_places_held(pool)
    rester.waker.wake()
    assert not rester.runs_on.wait(0.05)
    rester.ends.set()
    pool.stop()
    assert rester.runs_on.wait(PATIENCE)
    go_on.set()


def test_a_work_that_fails_costs_no_thread(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> None:
        raise SystemExit(3)

    together = threading.Barrier(SIZE + 1)
    pool.submit([fails] * SIZE)
    pool.submit([partial(together.wait, PATIENCE)] * SIZE)
    together.wait(PATIENCE)
    assert "unexpected error" in caplog.text


def test_where_the_system_has_no_thread_to_give_those_that_are_here_go_on(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    go_on = threading.Event()
    started = threading.Event()

    def holds_its_thread() -> None:
        started.set()
        go_on.wait(PATIENCE)

    pool.submit([holds_its_thread])
    assert started.wait(PATIENCE)

    def cannot(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", cannot)
    finished = threading.Semaphore(0)
    pool.submit([finished.release] * 20)
    go_on.set()
    for _ in range(20):
        assert finished.acquire(timeout=PATIENCE)
    assert "No further thread" in caplog.text


def test_after_the_stop_nothing_starts(pool: Pool) -> None:
    pool.stop()
    ran = threading.Event()
    pool.submit([ran.set])
    pool.join(PATIENCE)
    assert not ran.is_set()

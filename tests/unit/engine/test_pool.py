"""The threads of sync workflows: as many as wait at once, and no more than there is work for."""

import threading
from collections.abc import Iterator
from functools import partial

import pytest

from dbos_events.engine.pool import STARVED, Pool
from dbos_events.engine.waking import Hub, ThreadWaker

SIZE = 8
PATIENCE = 10.0


@pytest.fixture
def hub() -> Hub:
    return Hub()


@pytest.fixture
def pool(hub: Hub) -> Iterator[Pool]:
    pool = Pool(SIZE, hub)
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


def test_work_that_waits_for_a_thread_is_told_of(pool: Pool, hub: Hub) -> None:
    waker = ThreadWaker()
    hub.subscribe(STARVED, waker)
    together = threading.Barrier(SIZE + 1)
    ran = threading.Event()
    pool.submit([*[partial(together.wait, PATIENCE)] * SIZE, ran.set])
    assert waker.wait(PATIENCE)
    assert pool.starved
    together.wait(PATIENCE)
    assert ran.wait(PATIENCE)


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

"""Threads that do for a loop what would block it."""

import threading

import pytest

from dbos_events.engine.readers import Readers


def test_a_thread_that_is_at_work_when_the_readers_are_stopped_ends_after_it() -> None:
    readers = Readers(1, "test-reader")
    threads: list[threading.Thread] = []

    def stops() -> None:
        threads.append(threading.current_thread())
        readers.shutdown()

    readers.submit(stops).result(10)

    threads[0].join(10)
    assert not threads[0].is_alive()


def test_all_threads_end_when_the_readers_are_stopped_also_twice() -> None:
    readers = Readers(3, "test-reader")
    together = threading.Barrier(3)
    threads: list[threading.Thread] = []

    def work() -> None:
        together.wait(10)
        threads.append(threading.current_thread())

    for future in [readers.submit(work) for _ in range(3)]:
        future.result(10)
    readers.shutdown(cancel_futures=True)
    readers.shutdown(cancel_futures=True)

    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    with pytest.raises(RuntimeError, match="stopped"):
        readers.submit(work)


def test_what_was_submitted_before_the_stop_is_done_unless_it_is_cancelled() -> None:
    readers = Readers(1, "test-reader")
    go_on = threading.Event()
    first, second, third = (
        readers.submit(go_on.wait, 10),
        readers.submit(lambda: 2),
        readers.submit(lambda: 3),
    )
    assert third.cancel()
    readers.shutdown()
    go_on.set()
    assert (first.result(10), second.result(10)) == (True, 2)


def test_work_that_hangs_holds_up_no_other_while_there_may_be_more_threads() -> None:
    go_on = threading.Event()
    for _ in range(50):
        readers = Readers(2, "test-reader")
        hanging = readers.submit(go_on.wait, 30)
        assert readers.submit(lambda: "beside it").result(10) == "beside it"
        readers.shutdown()
        del hanging
    go_on.set()


def test_work_for_which_there_is_no_thread_is_refused_and_never_done(monkeypatch: pytest.MonkeyPatch) -> None:
    readers = Readers(2, "test-reader")
    done: list[int] = []

    def refuses(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as there_are_none:
        there_are_none.setattr(threading.Thread, "start", refuses)
        with pytest.raises(RuntimeError, match="can't start"):
            readers.submit(done.append, 1)

    readers.submit(done.append, 2).result(10)
    readers.shutdown()
    assert done == [2]


def test_a_thread_whose_work_comes_as_it_goes_to_rest_does_not_count_as_idle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    goes_to_rest, rest, second_looks, second_may_look, second_rests = (threading.Event() for _ in range(5))
    go_on = threading.Event()
    resting, looking = Readers._rest, Readers._next

    def held_rest(readers: Readers) -> object:
        if threading.current_thread().name.endswith("-1") and not goes_to_rest.is_set():
            goes_to_rest.set()
            rest.wait(10)
        return resting(readers)

    def held_look(readers: Readers, *, wait: bool) -> object:
        if threading.current_thread().name.endswith("-2") and not second_looks.is_set():
            second_looks.set()
            second_may_look.wait(10)
        if wait and second_may_look.is_set():
            second_rests.set()
        return looking(readers, wait=wait)

    monkeypatch.setattr(Readers, "_rest", held_rest)
    monkeypatch.setattr(Readers, "_next", held_look)
    readers = Readers(3, "test-reader")
    readers.submit(lambda: None).result(10)
    assert goes_to_rest.wait(10)
    begun = threading.Event()
    readers.submit(lambda: (begun.set(), go_on.wait(30)))  # for it, a second thread is started
    assert second_looks.wait(10)
    rest.set()
    assert begun.wait(10), "the first thread does it"
    second_may_look.set()
    assert second_rests.wait(10)
    readers.submit(go_on.wait, 30)
    try:
        assert readers.submit(lambda: "beside them").result(5) == "beside them"
    finally:
        go_on.set()
        readers.shutdown()

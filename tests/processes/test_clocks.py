"""One clock decides, the database's: with any clock of the host, sleeps last what they should, and nothing is replayed."""

import time
from collections import Counter
from typing import Any

import pytest

from dbos_events import DBOS, App, SetWorkflowID
from dbos_events.clock import DatabaseClock, SystemClock, elapsed, elapsed_ns
from dbos_events.engine import core as core_module
from dbos_events.runtime.timers import TimerService

SLEEP = 1.5
COUNT = 20
MILLISECOND = 1_000_000


class HostClock(SystemClock):
    """A host whose clock is off, and may be set while the process runs."""

    def __init__(self, off_seconds: float = 0.0) -> None:
        self.off_seconds = off_seconds

    def now_ms(self) -> int:
        return super().now_ms() + round(self.off_seconds * 1000)


def sleepers(
    url: str, clock: HostClock, **settings: Any
) -> tuple[App, Any, Counter[str], dict[str, list[float]]]:
    """An App whose workflow sleeps; how often it was begun, and when its sleep was called and was over."""
    app = App(
        {"name": "sleepers", "system_database_url": url, "park_after_seconds": 0.2, **settings}, clock=clock
    )
    runs: Counter[str] = Counter()
    slept: dict[str, list[float]] = {}

    @app.workflow()
    def sleeper() -> None:
        workflow_id = DBOS.workflow_id or ""
        runs[workflow_id] += 1
        slept.setdefault(workflow_id, [time.monotonic()])
        app.sleep(SLEEP)
        slept[workflow_id].append(time.monotonic())

    return app, sleeper, runs, slept


def begin_all(app: App, sleeper: Any) -> list[Any]:
    handles = []
    for number in range(COUNT):
        with SetWorkflowID(f"w{number}"):
            handles.append(app.start_workflow(sleeper))
    return handles


@pytest.mark.parametrize("off_seconds", [-60.0, 60.0, -86_400.0], ids=["behind", "ahead", "a day behind"])
def test_a_host_whose_clock_is_off_replays_nothing_in_vain_and_sleeps_as_long_as_asked(
    database_url: str, off_seconds: float
) -> None:
    app, sleeper, runs, slept = sleepers(database_url, HostClock(off_seconds))
    with app:
        handles = begin_all(app, sleeper)
        deadline = time.monotonic() + 20
        while len([one for one in slept.values() if len(one) > 1]) < COUNT:
            assert time.monotonic() < deadline, f"after {runs.total()} runs: {runs}"
            time.sleep(0.05)
        for handle in handles:
            handle.get_result()
    assert runs.total() <= 2 * COUNT, f"each is begun, and woken once: {runs}"
    lasted = [end - begin for begin, end in slept.values()]
    assert min(lasted) >= SLEEP - 0.05
    assert max(lasted) < SLEEP + 10


@pytest.mark.parametrize("jump", [-3600.0, 3600.0], ids=["back", "ahead"])
def test_a_host_whose_clock_is_set_while_it_runs_changes_no_sleep(database_url: str, jump: float) -> None:
    clock = HostClock()
    app, sleeper, runs, slept = sleepers(database_url, clock)
    with app:
        handles = begin_all(app, sleeper)
        deadline = time.monotonic() + 20
        while len(runs) < COUNT:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        clock.off_seconds = jump
        while len([one for one in slept.values() if len(one) > 1]) < COUNT:
            assert time.monotonic() < deadline, f"after {runs.total()} runs: {runs}"
            time.sleep(0.05)
        for handle in handles:
            handle.get_result()
    assert runs.total() <= 2 * COUNT, runs
    assert min(end - begin for begin, end in slept.values()) >= SLEEP - 0.05


@pytest.mark.parametrize("off_seconds", [-60.0, 60.0], ids=["behind", "ahead"])
def test_between_two_attempts_of_a_step_passes_the_time_that_was_asked_for(
    database_url: str, off_seconds: float
) -> None:
    clock = HostClock()
    app = App({"name": "steps", "system_database_url": database_url}, clock=clock)
    attempts: list[float] = []

    @app.step(retries_allowed=True, interval_seconds=0.5, max_attempts=2)
    def fails_once() -> int:
        attempts.append(time.monotonic())
        if len(attempts) == 1:
            clock.off_seconds = off_seconds  # set while the pause begins
            raise ValueError
        return 7

    @app.workflow()
    def job() -> int:
        return fails_once()

    with app:
        assert app.start_workflow(job).get_result() == 7
    assert 0.5 <= attempts[1] - attempts[0] < 10


def test_what_this_process_writes_is_in_the_databases_time(database_url: str) -> None:
    app, sleeper, _, _ = sleepers(database_url, HostClock(-60.0))

    @app.step()
    def now() -> int:
        return app.launched.storage.now_ms()

    @app.workflow()
    def job() -> int:
        return now()

    with app:
        with SetWorkflowID("w"):
            said = app.start_workflow(job).get_result()
        [entry] = app.launched.storage.workflows.list_steps("w")
        assert entry.started_at is not None
        assert entry.completed_at is not None
        assert entry.started_at - 1000 <= said <= entry.completed_at + 1000
    assert sleeper


# ------------------------------------------------------------------ what is known of the database's clock


def known(clock: DatabaseClock, elapsed_at: int) -> int:
    """By how many milliseconds the clock is ahead of `elapsed_at`, given that nothing passes meanwhile."""
    return clock.now_ms() - elapsed_at // MILLISECOND


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The time that passes here, in nanoseconds; moved by the test."""
    at = [1_000_000 * MILLISECOND]
    monkeypatch.setattr("dbos_events.clock.elapsed_ns", lambda: at[0])
    return at


def test_until_the_database_has_said_its_time_the_hosts_counts() -> None:
    assert abs(DatabaseClock(HostClock(60)).now_ms() - HostClock(60).now_ms()) < 1000


def test_who_is_woken_by_the_database_never_finds_that_it_is_too_early(still: list[int]) -> None:
    clock = DatabaseClock(SystemClock())
    asked = still[0]
    still[0] += 40 * MILLISECOND  # the answer took that long; the database may have read its clock at once
    clock.learn(5_000, asked)
    assert clock.now_ms() >= 5_040


def test_a_slow_answer_shifts_nothing_and_a_quick_one_narrows_it_down(still: list[int]) -> None:
    clock = DatabaseClock(SystemClock())
    clock.learn(5_000, still[0])
    before = clock.now_ms()
    asked = still[0]
    still[0] += 9_000 * MILLISECOND  # the process was stopped while it waited
    clock.learn(5_100, asked)
    assert clock.now_ms() == before + 9_000


@pytest.mark.parametrize("jump", [-60_000, 60_000])
def test_a_jump_of_the_databases_clock_is_followed_at_its_next_answer(still: list[int], jump: int) -> None:
    clock = DatabaseClock(SystemClock())
    clock.learn(5_000_000, still[0])
    clock.learn(5_000_000 + jump, still[0])
    assert abs(clock.now_ms() - (5_000_000 + jump)) <= 1


def test_the_timers_learn_the_databases_time_before_they_take_what_is_due(database_url: str) -> None:
    with App({"name": "timers", "system_database_url": database_url}) as app:
        app.launched.timers.stop()
        clock = app.core.clock
        assert isinstance(clock, DatabaseClock)
        clock._ahead = (clock._ahead or 0) - 60_000 * MILLISECOND  # the database's clock was set meanwhile
        TimerService(app.core, app.launched.taken).tick()
        assert abs(clock.now_ms() - app.launched.storage.now_ms()) < 1000


# ------------------------------------------------------------------ the lease


def test_the_time_of_leases_goes_on_while_the_machine_is_suspended() -> None:
    if not hasattr(time, "CLOCK_BOOTTIME"):
        pytest.skip("only Linux has that clock")
    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    assert before <= elapsed_ns() <= time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def test_after_a_suspension_longer_than_the_lease_nothing_starts_until_it_is_renewed(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with App({"name": "suspended", "system_database_url": database_url, "lease_seconds": 300.0}) as app:
        assert app.core.lease_end is not None, "the lease counts from the launch on"
        assert app.core.lease_end <= elapsed() + 300.0, "from before it was asked for"
        assert app.core.holds_lease
        monkeypatch.setattr(core_module, "elapsed", lambda: elapsed() + 301.0)
        assert not app.core.holds_lease

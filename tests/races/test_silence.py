"""Rule 1: who is dead and who is only silent, when clocks jump, machines sleep and servers go away.

Two clocks count: the database's, which says whether a lease is over, and the watcher's own, which says for how long
a heartbeat has not moved. The tests move each.
"""

import itertools
from types import SimpleNamespace
from typing import Any

import pytest

from dbos_events.errors import StorageUnavailable
from dbos_events.runtime import recovery
from dbos_events.runtime.recovery import RecoveryService
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.subjects.executors import NewExecutor
from dbos_events.testing import ManualClock
from tests.storage.building import APP, begin, read, workflow
from tests.storage.conftest import Open

LEASE = 10.0
HOST = ("boot", "ns", 1, "now")


class OwnClock:
    """The watcher's monotonic clock."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def monotonic(self) -> float:
        return self.seconds


class Watcher:
    """A process that looks for dead ones of its application."""

    def __init__(self, storage: SqlStorage, label: str = "w", *, explicit: bool = False) -> None:
        self.started: list[str] = []
        self.executor = join(storage, label, explicit=explicit)
        entry = SimpleNamespace(name="work", max_recovery_attempts=None)
        core: Any = SimpleNamespace(
            storage=storage,
            executor=self.executor,
            application=APP,
            version="v1",
            clock=storage.database.clock,
            waits_for_version=False,
            registry=SimpleNamespace(workflows={"work": entry}, names=lambda: ["work"]),
            hub=SimpleNamespace(signal=lambda _channel: None),
            runner=SimpleNamespace(active={}),
        )
        taken: Any = SimpleNamespace(start=self._start, taking=_nothing_lost)
        self.service = RecoveryService(core, taken, LEASE, label if explicit else None)

    def look(self) -> None:
        self.service.tick()

    def watch(self, seconds: float, *clocks: ManualClock | OwnClock) -> None:
        """Look each second while time passes on these clocks."""
        for _ in range(round(seconds)):
            pass_time(1, *clocks)
            self.look()

    def _start(self, rows: Any) -> None:
        self.started += [row.id for row in rows]


class _nothing_lost:  # noqa: N801 - used as a function
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


_hosts = itertools.count()


def join(storage: SqlStorage, label: str, *, explicit: bool = False) -> int:
    """A process of another host: nobody here can say whether it exists."""
    host = f"boot-{next(_hosts)}"
    new = NewExecutor(APP, label, explicit, "v1", host, "ns", 1, "now", round(LEASE * 1000))
    return storage.executors.register(new)


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> OwnClock:
    clock = OwnClock()
    monkeypatch.setattr(recovery, "time", clock)
    return clock


@pytest.fixture
def storage(migrated_sqlite: str, opened: Open) -> SqlStorage:
    return opened(migrated_sqlite)


def beat(storage: SqlStorage, executor: int) -> None:
    assert storage.executors.renew(executor, round(LEASE * 1000))


def alive(storage: SqlStorage, executor: int) -> bool:
    [row] = read(storage, "SELECT alive FROM {schema}.executors WHERE id = :id", id=executor)
    return bool(row.alive)


def pass_time(seconds: float, *clocks: ManualClock | OwnClock) -> None:
    for clock in clocks:
        if isinstance(clock, ManualClock):
            clock.move_to(clock.now_ms() + round(seconds * 1000))
        else:
            clock.seconds += seconds


def test_rule_1_who_is_silent_on_both_clocks_is_dead_and_its_work_is_taken(
    storage: SqlStorage, clock: ManualClock, own: OwnClock
) -> None:
    watcher, silent = Watcher(storage), join(storage, "s")
    begin(storage, silent, "w")
    watcher.look()
    watcher.watch(LEASE - 1, clock, own)
    assert alive(storage, silent)
    watcher.watch(2, clock, own)
    assert not alive(storage, silent)
    assert watcher.started == ["w"]
    assert workflow(storage, "w").owner == watcher.executor


def test_rule_1_a_jump_of_the_databases_clock_kills_nobody(
    storage: SqlStorage, clock: ManualClock, own: OwnClock
) -> None:
    """Also that of a standby that was promoted, whose clock is ahead."""
    watcher, other = Watcher(storage), join(storage, "o")
    watcher.look()
    pass_time(3600, clock)
    watcher.look()
    watcher.watch(LEASE - 1, own)
    assert alive(storage, other)
    beat(storage, other)
    watcher.watch(LEASE - 1, own)
    assert alive(storage, other)


def test_rule_1_a_database_whose_clock_stands_still_or_goes_back_kills_nobody(
    storage: SqlStorage, own: OwnClock
) -> None:
    watcher, other = Watcher(storage), join(storage, "o")
    watcher.look()
    watcher.watch(10 * LEASE, own)
    assert alive(storage, other), "its lease is not over by the database's clock"


def test_rule_1_a_laptop_that_was_suspended_kills_nobody_when_it_wakes(
    storage: SqlStorage, clock: ManualClock, own: OwnClock
) -> None:
    """Time has passed everywhere, and the other process has beaten all the while."""
    watcher, other = Watcher(storage), join(storage, "o")
    watcher.look()
    for _ in range(20):
        pass_time(LEASE / 2, clock, own)
        beat(storage, other)
    pass_time(LEASE + 1, clock)  # its last heartbeat is a while ago just now
    watcher.look()
    assert alive(storage, other), "a heartbeat that moved is counted from now on"


def test_rule_1_after_an_outage_the_first_that_is_back_kills_nobody(
    storage: SqlStorage, clock: ManualClock, own: OwnClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody could renew a lease in ten minutes; one who comes back at last is not dead by then."""
    watcher, other = Watcher(storage), join(storage, "o")
    beat(storage, other)
    watcher.look()
    with monkeypatch.context() as outage:
        outage.setattr(storage.executors, "read", _away)
        for _ in range(10):
            pass_time(60, clock, own)
            with pytest.raises(StorageUnavailable):
                watcher.look()
    watcher.look()
    watcher.watch(LEASE - 1, clock, own)
    assert alive(storage, other), "it has a whole lease to come back"
    watcher.watch(2, clock, own)
    assert not alive(storage, other), "and has not"


def _away(*_: object) -> Any:
    raise StorageUnavailable("away")


def test_rule_1_a_heartbeat_that_comes_between_look_and_declaration_saves_its_process(
    storage: SqlStorage, clock: ManualClock, own: OwnClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher, other = Watcher(storage), join(storage, "o")
    watcher.look()
    declare = storage.executors.declare_dead

    def beaten_before(*arguments: Any) -> bool:
        beat(storage, other)
        return declare(*arguments)

    monkeypatch.setattr(storage.executors, "declare_dead", beaten_before)
    watcher.watch(LEASE + 1, clock, own)
    assert alive(storage, other)


def test_rule_1_two_processes_that_found_each_other_silent_are_not_both_ended_twice(
    storage: SqlStorage, clock: ManualClock, own: OwnClock
) -> None:
    """Both were away. The first that looks may end the other; the other finds itself dead and takes nothing."""
    first, second = Watcher(storage, "a"), Watcher(storage, "b")
    begin(storage, first.executor, "w")
    first.look()
    second.look()
    first.watch(LEASE + 1, clock, own)
    assert (alive(storage, first.executor), alive(storage, second.executor)) == (True, False)
    assert not storage.executors.renew(second.executor, 1)
    assert second.started == []


def test_rule_1_a_successor_waits_for_two_heartbeats_that_do_not_come(
    storage: SqlStorage, clock: ManualClock, own: OwnClock
) -> None:
    before = join(storage, "pod-0", explicit=True)
    begin(storage, before, "w")
    successor = Watcher(storage, "pod-0", explicit=True)
    successor.look()
    successor.watch(LEASE / 2 - 1, own)
    assert alive(storage, before)
    successor.watch(1, own)
    assert not alive(storage, before), "its lease is not over, and need not be"
    assert successor.started == ["w"]


def test_rule_1_a_twin_that_still_beats_is_named_loudly_and_keeps_its_work(
    storage: SqlStorage, clock: ManualClock, own: OwnClock, caplog: pytest.LogCaptureFixture
) -> None:
    twin = join(storage, "pod-0", explicit=True)
    begin(storage, twin, "w")
    successor = Watcher(storage, "pod-0", explicit=True)
    for _ in range(8):
        successor.look()
        pass_time(LEASE / 4, clock, own)
        beat(storage, twin)
    assert alive(storage, twin)
    assert successor.started == []
    assert "Two live processes have the executor_id 'pod-0'" in caplog.text


def test_rule_1_only_the_later_of_two_twins_succeeds(
    storage: SqlStorage, clock: ManualClock, own: OwnClock
) -> None:
    earlier = Watcher(storage, "pod-0", explicit=True)
    later = join(storage, "pod-0", explicit=True)
    earlier.look()
    earlier.watch(LEASE - 1, clock, own)
    assert alive(storage, later), "an earlier start is nobody's successor: it waits for the lease"

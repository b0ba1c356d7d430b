"""Lanes under whatever happens, in an order by chance: the order holds, and nothing is left behind."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from dbos_events.engine.run import Run
from dbos_events.model.event import ConsumerOptions, Ordering
from dbos_events.runtime.intake import keeper, lanes
from dbos_events.storage.opening import open_storage
from dbos_events.storage.subjects.taking import Taker
from dbos_events.testing import ManualClock
from tests.storage.building import APP, change, kill, read
from tests.storage.conftest import SCHEMA
from tests.storage.laneprocesses import TOPIC, Process

MEMORY = Path("/dev/shm")  # noqa: S108 - the same database, without waiting for a disk
PARTITIONS = 2
MAX_IN_FLIGHT = 4
KEYS = st.sampled_from([b"a", b"A", b"b/1", None])
CALLS = st.sampled_from(["intake.take_in", "lanes.take", "lanes.release_unstarted"])
ENDS = st.sampled_from(["finish", "finish", "fail", "park"])
WHICH = st.integers(0, 99)

Meanwhile = tuple[str, int]
MEANWHILE = st.lists(
    st.tuples(st.sampled_from(["tick", "finish", "fail", "park", "discard", "redrive", "wake"]), WHICH),
    max_size=3,
)


class LaneMachine(RuleBasedStateMachine):
    """Two processes share a topic. What begins to run is checked at once; what must run, in the end."""

    ordering: Ordering
    template: Path

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
        file = shutil.copy(self.template, Path(self.folder.name, "lanes.sqlite"))
        self.clock = ManualClock()
        self.storage = open_storage(f"sqlite:///{file}", schema=SCHEMA, clock=self.clock)
        self.log: dict[int, list[bytes | None]] = {partition: [] for partition in range(PARTITIONS)}
        self.closed: set[tuple[int, int]] = set()
        self.processes = [self.new_process() for _ in range(2)]
        self.owner: dict[int, Process] = {}
        for partition, process in enumerate(self.processes):
            process.assign(partition)
            self.owner[partition] = process

    def teardown(self) -> None:
        if hasattr(self, "owner"):
            try:
                self.come_to_rest()
            finally:
                self.storage.close()
                self.folder.cleanup()

    def new_process(self) -> Process:
        options = ConsumerOptions(
            name="orders",
            topics=(TOPIC,),
            config={},
            ordering=self.ordering,
            queue_name=None,
            batch_size=10,
            max_in_flight=MAX_IN_FLIGHT,
        )
        return Process(self.storage, options, self.started)

    # -- what must hold -----------------------------------------------------------------------

    def started(self, run: Run) -> None:
        """An event begins to run: nothing else runs in its lane, and all before it has freed the lane."""
        [row] = self.rows("id = :id", id=run.id)
        if row.lane is None:
            return
        assert (row.partition, row.position) not in self.closed, f"{run.id} has ended, and begins again"
        running = [other.id for process in self.processes for other in process.running]
        others = [other.id for other in self.rows("lane = :lane", lane=row.lane) if other.id in running]
        assert not others, f"{run.id} begins beside {others}"
        if (
            row.status == "PENDING" and row.take == run.take
        ):  # else it is cancelled or taken, and writes nothing
            earlier = self.rows(
                "lane = :lane AND lane_open AND lane_sequence < :sequence",
                lane=row.lane,
                sequence=row.lane_sequence,
            )
            assert not earlier, f"{run.id} begins behind {earlier}"
        for process in self.processes:
            if self.ordering == "key":
                assert process.intake.places.running <= 2 * MAX_IN_FLIGHT
                assert (MAX_IN_FLIGHT - process.intake.places.cache_room) <= 2 * MAX_IN_FLIGHT

    def rows(self, condition: str, **parameters: object) -> list[Any]:
        query = f"SELECT * FROM {{schema}}.workflows WHERE {condition} ORDER BY lane_sequence"
        return list(read(self.storage, query, **parameters))

    # -- reading ------------------------------------------------------------------------------

    @rule(partition=st.integers(0, PARTITIONS - 1), keys=st.lists(KEYS, min_size=1, max_size=6))
    def produce(self, partition: int, keys: list[bytes | None]) -> None:
        self.log[partition] += keys

    @rule(
        partition=st.integers(0, PARTITIONS - 1),
        keys=st.lists(KEYS, max_size=4),
        before=MEANWHILE,
        after=MEANWHILE,
        loses=st.booleans(),
    )
    def intake(
        self,
        partition: int,
        keys: list[bytes | None],
        before: list[Meanwhile],
        after: list[Meanwhile],
        *,
        loses: bool,
    ) -> None:
        self.log[partition] += keys
        process = self.owner[partition]
        if partition not in process.positions:  # found out that another had it
            process.assign(partition)
        process.storage.before["intake.take_in"] = lambda: self.meanwhile(process, before)
        process.storage.after["intake.take_in"] = lambda: self.meanwhile(process, after)
        if loses:
            process.storage.lost.add("intake.take_in")
        process.take_in(partition, self.log[partition], 10)
        process.storage.before.clear()
        process.storage.after.clear()
        process.storage.lost.clear()

    @rule(number=WHICH, before=MEANWHILE, after=MEANWHILE, loses=st.booleans(), takes=st.booleans())
    def tick(
        self, number: int, before: list[Meanwhile], after: list[Meanwhile], *, loses: bool, takes: bool
    ) -> None:
        process = self.processes[number % len(self.processes)]

        def takes_in_too() -> None:
            self.meanwhile(process, after)
            for partition in [*process.positions] if takes else []:
                process.take_in(partition, self.log[partition], 3)

        process.storage.before["lanes.take"] = lambda: self.meanwhile(process, before)
        process.storage.after["lanes.take"] = takes_in_too
        if loses:
            process.storage.lost.add("lanes.take")
        process.tick()
        process.storage.before.clear()
        process.storage.after.clear()
        process.storage.lost.clear()

    def meanwhile(self, process: Process, things: list[Meanwhile]) -> None:
        """What other threads and processes do while a call is under way; not the one that makes the call."""
        for thing, which in things:
            if thing == "tick":
                for other in self.processes:
                    if other is not process:
                        other.tick()
            elif thing in ("finish", "fail", "park"):
                self.ends(which, thing)
            elif thing in ("discard", "redrive", "wake"):
                getattr(self, thing)(which)

    # -- ends ---------------------------------------------------------------------------------

    @rule(which=WHICH, how=ENDS)
    def ends(self, which: int, how: str) -> None:
        running = [(process, run) for process in self.processes for run in process.running]
        if not running:
            return
        process, run = running[which % len(running)]
        [row] = self.rows("id = :id", id=run.id)
        if how == "park":
            process.park(run, self.clock.now_ms() + 1000)
        elif how == "fail":
            process.fail(run)
        else:
            process.finish(run)
            [after] = self.rows("id = :id", id=run.id)
            if after.status == "SUCCESS":
                self.closed.add((row.partition, row.position))

    @rule(which=WHICH)
    def wake(self, which: int) -> None:
        """Time passes, and the timers of a process see to what is due."""
        self.clock.move_to(self.clock.now_ms() + 2000)
        process = self.processes[which % len(self.processes)]
        process.start(self.storage.taking.wake_due(Taker(process.core.executor, APP, "v1", ["handle"]), 99))

    @rule(which=WHICH)
    def discard(self, which: int) -> None:
        row = self.put_aside(which)
        if row is not None:
            change(self.storage, "UPDATE {schema}.workflows SET lane_open = NULL WHERE id = :id", id=row.id)
            change(
                self.storage,
                "UPDATE {schema}.workflows SET held = false WHERE status = 'PENDING' AND owner IS NULL AND id = "
                "(SELECT id FROM {schema}.workflows WHERE lane = :lane AND lane_open ORDER BY lane_sequence LIMIT 1)",
                lane=row.lane,
            )
            self.closed.add((row.partition, row.position))

    @rule(which=WHICH)
    def redrive(self, which: int) -> None:
        row = self.put_aside(which)
        if row is not None:
            change(
                self.storage,
                "UPDATE {schema}.workflows SET status = 'PENDING', owner = NULL, take = take + 1, held = false "
                "WHERE id = :id",
                id=row.id,
            )

    @rule(which=WHICH)
    def cancel_and_resume(self, which: int) -> None:
        """Of any event, also one that waits in memory."""
        rows = self.rows("lane_open AND status = 'PENDING'")
        if rows:
            row = rows[which % len(rows)]
            self.storage.workflows.cancel([row.id])
            self.storage.workflows.resume([row.id])
            for process in self.processes:
                for run in process.running:
                    if run.id == row.id:
                        process.finish(run)  # fenced

    def put_aside(self, which: int) -> Any:
        rows = self.rows("lane_open AND status = 'ERROR'")
        return rows[which % len(rows)] if rows else None

    # -- processes ----------------------------------------------------------------------------

    @rule(partition=st.integers(0, PARTITIONS - 1), graceful=st.booleans())
    def move(self, partition: int, *, graceful: bool) -> None:
        """The group gives the partition to the other process; the old one may learn of it late."""
        old = self.owner[partition]
        new = next((process for process in self.processes if process is not old), old)
        if graceful:
            old.revoke(partition)
        new.assign(partition)
        self.owner[partition] = new
        if not graceful and new is not old:
            old.tick()
            old.revoke(partition)

    @rule(number=WHICH)
    def die(self, number: int) -> None:
        """One process is killed; another one comes and reads what it read."""
        dead = self.processes.pop(number % len(self.processes))
        kill(self.storage, dead.core.executor)
        fresh = self.new_process()
        self.processes.append(fresh)
        for partition, process in self.owner.items():
            if process is dead:
                fresh.assign(partition)
                self.owner[partition] = fresh

    @rule(number=WHICH)
    def be_fenced(self, number: int) -> None:
        process = self.processes[number % len(self.processes)]
        kill(self.storage, process.core.executor)
        process.become_another()

    @rule(number=WHICH)
    def sweep_the_dead(self, number: int) -> None:
        process = self.processes[number % len(self.processes)]
        self.storage.lanes.free_of_dead(APP)
        process.start(
            self.storage.taking.adopt(
                Taker(process.core.executor, APP, "v1", ["handle"]), {"handle": None}, 99
            )
        )

    # -- the end ------------------------------------------------------------------------------

    def come_to_rest(self) -> None:
        """With nothing in its way, each event runs that is not behind one that was put aside."""
        for _ in range(400):
            self.sweep_the_dead(0)
            self.wake(0)
            for partition, process in self.owner.items():
                if partition not in process.positions:
                    process.assign(partition)
                process.take_in(partition, self.log[partition], 10)
            for process in self.processes:
                process.tick()
            for _ in range(len([run for process in self.processes for run in process.running])):
                self.ends(0, "finish")
            if self.at_rest():
                break
        self.assert_at_rest()

    def at_rest(self) -> bool:
        everything_read = all(
            self.owner[partition].positions.get(partition) == len(keys) or self.blocked(partition)
            for partition, keys in self.log.items()
        )
        return everything_read and not self.able_to_run() and not self.in_use() and not self.in_memory()

    def in_use(self) -> list[tuple[int, int]]:
        counts = [
            (process.intake.places.running, (MAX_IN_FLIGHT - process.intake.places.cache_room))
            for process in self.processes
        ]
        return [count for count in counts if count != (0, 0)]

    def in_memory(self) -> list[str]:
        """Lanes that processes keep in mind, but for those that are never forgotten."""
        groups = [group for process in self.processes for group in process.lanes._all_groups()]
        return [name for group in groups if group.pinned is None for name in group._lanes]

    def able_to_run(self) -> list[str]:
        """Heads of lanes that are not put aside."""
        heads: dict[str, Any] = {}
        for row in self.rows("lane_open OR (lane IS NULL AND status = 'PENDING')"):
            heads.setdefault(row.id if row.lane is None else row.lane, row)
        return [row.id for row in heads.values() if row.status == "PENDING"]

    def blocked(self, partition: int) -> bool:
        """Whether the backlog stays with the broker, as that of a lane which is held does."""
        if self.ordering == "key":
            return False
        lane = str(partition) if self.ordering == "partition" else "topic"
        return bool(self.rows("lane = :lane AND lane_open", lane=lane))

    def assert_at_rest(self) -> None:
        assert self.able_to_run() == [], "these could run"
        assert self.in_use() == [], "places are taken although nothing runs"
        for partition, keys in self.log.items():
            assert self.blocked(partition) or self.owner[partition].positions.get(partition) == len(keys)
        assert self.in_memory() == [], "nothing can run in these lanes"


def lane_machine(ordering: Ordering, template: Path) -> Any:
    return type("Machine", (LaneMachine,), {"ordering": ordering, "template": template})


@pytest.mark.parametrize("ordering", ["key", "partition", "topic"])
def test_rule_10_lanes_keep_their_order_and_leave_nothing_behind(
    ordering: Ordering, dbos_template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name, value in ((lanes, "CACHE", 2), (keeper, "PAGE", 2), (keeper, "LANES_AT_ONCE", 2)):
        monkeypatch.setattr(module, name, value)
    run_state_machine_as_test(
        lane_machine(ordering, dbos_template),
        settings=settings(
            max_examples=15,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )

"""The intake under whatever Kafka, the group and the database do to it: each record of each life is taken in once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar

import hypothesis.strategies as st
import pytest
from confluent_kafka import KafkaException, TopicPartition
from hypothesis.stateful import invariant

from dbos_events.engine.run import Run
from dbos_events.errors import DBOSException, ExecutorFenced
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.testing import ManualClock
from dbos_events_kafka import confirming, positions, source, state, taker, topics, watch
from dbos_events_kafka.settings import ConsumerSettings
from tests.models.acting import ActingMachine, act
from tests.models.intake import Found, IntakeModel, Life
from tests.models.kafka import PARTITIONS, TOPIC, Asking, Client, Cluster, options
from tests.models.profiles import LONG, run
from tests.models.rows import empty
from tests.storage.building import kill, read
from tests.storage.conftest import Open
from tests.storage.laneprocesses import Process

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900 + 120 * LONG)]

PARTITION = st.integers(0, PARTITIONS - 1)
WHICH = st.integers(0, 99)
RECORDS = st.lists(st.sampled_from([True, True, True, False]), min_size=1, max_size=5)
CALLS = st.sampled_from(
    [
        "intake.take_in",
        "intake.take_in",
        "positions.assign",
        "positions.skip",
        "lives.identify",
        "positions.create",
    ]
)
HAPPENS = st.sampled_from(["nothing", "nothing", "lost", "moves before", "moves after"])
THEN = st.lists(st.tuples(WHICH, st.integers(1, 4), st.booleans()), max_size=4)
SETTINGS = ConsumerSettings({"partition.assignment.strategy": "cooperative-sticky"}, "group", "earliest")


class Time:
    """What the connector's modules have in place of `time`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Gate:
    """In place of the event that the poll thread waits for: the intake thread gets to its jobs meanwhile, or not."""

    meanwhile: ClassVar[Callable[[], object]]

    def set(self) -> None:
        pass

    def wait(self, _seconds: float) -> None:
        Gate.meanwhile()


class Member:
    """One process: the real source and intake, a client and a cluster in memory, threads moved by hand."""

    def __init__(self, cluster: Cluster, storage: SqlStorage, started: Callable[[Run], object]) -> None:
        self.cluster = cluster
        self.process = Process(storage, options(), started, reads=False)
        setattr(taker, "Topics", lambda intake, settings: Asking(cluster, intake, settings))  # noqa: B010
        self.source = source.KafkaSource(self.process.intake, SETTINGS)
        self.taker = self.source._taker
        self.asking: Any = self.taker._topics
        self.taker.open()
        self.late: set[int] = set()
        self.connect()

    def connect(self) -> None:
        self.client = self.asking.reader = Client(self.cluster)
        self.source._consumer = self.client  # type: ignore[assignment]
        self.source._outdated = self.source._failed = False
        self.source._subscribe()

    def poll(self, count: int) -> None:
        """A turn of the poll thread, with up to `count` more records of each partition in the client."""
        self.client.fetch(count)
        with contextlib.suppress(KafkaException):
            self.source._turn()

    def take(self) -> None:
        """A turn of the intake thread, as its loop does it."""
        try:
            self.taker._turn()
        except ExecutorFenced:
            self.process.become_another()
        except KafkaException as error:
            self.source._state.error(error.args[0])
        except DBOSException as error:
            self.source._state.trouble(str(error))

    def assigned(self, partition: int) -> None:
        self.learn()
        self.cluster.owner[partition] = self.client
        self.client.callbacks["on_assign"](self.client, [TopicPartition(TOPIC, partition)])

    def revoked(self, partition: int, *, slow: bool) -> None:
        Gate.meanwhile = (lambda: None) if slow else self.taker._run_jobs
        self._leave("on_revoke", partition)

    def learn(self) -> None:
        """The group tells a zombie what it has lost."""
        for partition in sorted(self.late):
            self._leave("on_lost", partition)
        self.late.clear()

    def _leave(self, callback: str, partition: int) -> None:
        place = [TopicPartition(TOPIC, partition)]
        self.client.callbacks[callback](self.client, place)
        self.client.incremental_unassign(place)


class IntakeMachine(ActingMachine):
    """Two members of a group read one topic. Every rule is something that happens to one of them."""

    storage: ClassVar[SqlStorage]
    time: ClassVar[Time]

    def __init__(self) -> None:
        super().__init__()
        empty(self.storage)
        self.cluster, self.model = Cluster(), IntakeModel()
        self.started: set[str] = set()
        self.members = [self.member() for _ in range(2)]
        self.owners: dict[int, Member] = {}
        for partition, member in enumerate(self.members):
            self.produce(partition, [True, True], [])
            self.give(partition, member)
            self.work(partition, 3, answers=True)

    def member(self) -> Member:
        return Member(self.cluster, self.storage, self.begins)

    def begins(self, run_: Run) -> None:
        assert run_.id not in self.started, f"{run_.id} begins twice"
        self.started.add(run_.id)

    def give(self, partition: int, member: Member) -> None:
        self.owners[partition] = member
        member.assigned(partition)

    def some(self, which: int) -> Member:
        return self.members[which % len(self.members)]

    def go_on(self, then: list[tuple[int, int, bool]]) -> None:
        """What happened is followed by some turns of the members, one after the other."""
        for which, count, answers in then:
            self.work(which, count, answers=answers)

    # -- the topic ----------------------------------------------------------------------------

    @act(4, partition=PARTITION, records=RECORDS, then=THEN)
    def produce(self, partition: int, records: list[bool], then: list[tuple[int, int, bool]]) -> None:
        self.cluster.produce(partition, records)
        self.go_on(then)

    @act(2, partition=PARTITION, count=st.integers(1, 5), then=THEN)
    def retention(self, partition: int, count: int, then: list[tuple[int, int, bool]]) -> None:
        log = self.cluster.life.logs[partition]
        log.low = min(log.end, log.low + count)
        self.go_on(then)

    @act(2, records=RECORDS, then=THEN)
    def make_again(self, records: list[bool], then: list[tuple[int, int, bool]]) -> None:
        self.cluster.make_topic()
        for partition in range(PARTITIONS):
            self.cluster.produce(partition, records)
        self.go_on(then)

    @act(2, partition=PARTITION, count=st.integers(1, 4), records=RECORDS, then=THEN)
    def truncate(
        self, partition: int, count: int, records: list[bool], then: list[tuple[int, int, bool]]
    ) -> None:
        self.cluster.cut(partition, count)
        self.cluster.produce(partition, records)
        self.go_on(then)

    # -- the group ----------------------------------------------------------------------------

    @act(3, partition=PARTITION, slow=st.booleans(), then=THEN)
    def revoke(self, partition: int, then: list[tuple[int, int, bool]], *, slow: bool) -> None:
        """The partition goes to the other member, who waits for the one before."""
        old = self.owners[partition]
        if partition in old.client.parts:
            old.revoked(partition, slow=slow)
        self.give(partition, self.other(old))
        self.go_on(then)

    @act(3, partition=PARTITION, then=THEN)
    def lose(self, partition: int, then: list[tuple[int, int, bool]]) -> None:
        """The group did not hear of the member for too long; it learns of it when it does."""
        old = self.owners[partition]
        old.late.add(partition)
        self.give(partition, self.other(old))
        self.go_on(then)

    @act(2, which=WHICH)
    def learn(self, which: int) -> None:
        self.some(which).learn()

    def other(self, member: Member) -> Member:
        return self.members[1 - self.members.index(member)]

    # -- the processes ------------------------------------------------------------------------

    @act(4, which=WHICH, count=st.integers(1, 4))
    def poll(self, which: int, count: int) -> None:
        self.some(which).poll(count)
        self.renew(self.some(which))

    @act(6, which=WHICH, call=CALLS, happens=HAPPENS, partition=PARTITION)
    def take(self, which: int, call: str, happens: str, partition: int) -> None:
        """A turn of the intake thread; meanwhile a partition moves, or the answer to a commit is lost."""
        member = self.some(which)
        storage = member.process.storage
        if happens == "lost":
            storage.lost.add(call)
        elif happens != "nothing" and self.owners[partition] is member:
            hooks = storage.before if happens == "moves before" else storage.after
            hooks[call] = lambda: self.lose(partition, [(self.members.index(self.other(member)), 2, True)])
        member.take()
        storage.lost.clear()
        storage.before.clear()
        storage.after.clear()

    @act(2, which=WHICH, stale=st.sampled_from([False, False, False, True]))
    def answer(self, which: int, *, stale: bool) -> None:
        self.some(which).asking.answer(stale=stale)

    @act(6, which=WHICH, count=st.integers(1, 4), answers=st.booleans())
    def work(self, which: int, count: int, *, answers: bool) -> None:
        """Time passes, and both threads do what is to be done."""
        member = self.some(which)
        self.time.now += 1.5
        member.take()
        self.poll(which, count)
        self.poll(which, count)
        member.take()
        if answers:
            member.asking.answer(stale=False)
        member.take()

    def renew(self, member: Member) -> None:
        """Its client has gone silent, and another one joins."""
        if not member.source._outdated:
            return
        held = [partition for partition, owner in self.owners.items() if owner is member]
        member.late.clear()
        for partition in list(member.client.parts):
            member.revoked(partition, slow=False)
        member.connect()
        for partition in held:
            self.give(partition, member)

    @act(1, which=WHICH, then=THEN)
    def be_fenced(self, which: int, then: list[tuple[int, int, bool]]) -> None:
        kill(self.storage, self.some(which).process.core.executor)
        self.go_on(then)

    @act(1, which=WHICH, then=THEN)
    def restart(self, which: int, then: list[tuple[int, int, bool]]) -> None:
        """Killed; another process reads what it has read."""
        dead = self.some(which)
        kill(self.storage, dead.process.core.executor)
        self.members[self.members.index(dead)] = fresh = self.member()
        for partition, owner in self.owners.items():
            if owner is dead:
                self.give(partition, fresh)
        self.go_on(then)

    # -- what must hold -----------------------------------------------------------------------

    def found(self, life: Life, partition: int) -> Found | None:
        place = {"topic_id": life.topic_id, "partition": partition}
        where = "WHERE i.topic_id = :topic_id AND m.partition = :partition"
        marks = read(
            self.storage,
            "SELECT m.next_offset, m.halted FROM {schema}.watermarks AS m JOIN {schema}.incarnations AS i "
            f"ON i.id = m.incarnation {where}",
            **place,
        )
        if not marks:
            return None
        events = read(
            self.storage,
            "SELECT m.position, e.value FROM {schema}.workflows AS m JOIN {schema}.incarnations AS i "
            f"ON i.id = m.incarnation JOIN {{schema}}.events AS e ON e.workflow_id = m.id {where}",
            **place,
        )
        gaps = read(
            self.storage,
            "SELECT m.first_offset, m.next_offset, m.reason FROM {schema}.gaps AS m JOIN {schema}.incarnations AS i "
            f"ON i.id = m.incarnation {where}",
            **place,
        )
        values = {row[0]: bytes(row[1]) for row in events}
        return Found(marks[0][0], values, [tuple(row) for row in gaps], marks[0][1] is not None)

    @invariant()
    def everything_once(self) -> None:
        numbers = {
            f"dbos-events/{row[0]}": row[1]
            for row in read(self.storage, "SELECT id, topic_id FROM {schema}.incarnations")
        }
        for life in self.cluster.lives:
            for partition in range(PARTITIONS):
                found = self.found(life, partition)
                if found is not None:
                    self.model.check(life, partition, found)
                told = self.cluster.committed.get(partition)
                if told is not None and numbers[told.metadata] == life.topic_id:
                    self.model.check_committed(life, partition, told.offset)

    def teardown(self) -> None:
        if not hasattr(self, "owners") or len(self.owners) < PARTITIONS:
            return
        for _ in range(40):
            for which, member in enumerate(self.members):
                member.learn()
                self.work(which, 5, answers=True)
            if self.at_rest():
                break
        self.everything_once()
        for partition in range(PARTITIONS):
            found = self.found(self.cluster.life, partition)
            assert found is not None, "the topic as it is now is not read at all"
            self.model.check_end(self.cluster.life, partition, found)
        self.assert_runs()

    def at_rest(self) -> bool:
        try:
            for partition in range(PARTITIONS):
                found = self.found(self.cluster.life, partition)
                assert found is not None
                self.model.check_end(self.cluster.life, partition, found)
        except AssertionError:
            return False
        return True

    def assert_runs(self) -> None:
        """What a live process owns, it has begun to run: else nobody ever would."""
        alive = [member.process.core.executor for member in self.members]
        rows = read(self.storage, "SELECT id, owner FROM {schema}.workflows")
        idle = [row.id for row in rows if row.owner in alive and row.id not in self.started]
        assert not idle, f"nobody runs {idle}"


def turned_by_hand(patch: pytest.MonkeyPatch) -> Time:
    """Have the connector's threads and its time moved by a machine."""
    passing = Time()
    for module in (confirming, positions, source, state, taker, topics, watch):
        patch.setattr(module, "time", passing)
    patch.setattr(taker, "Topics", topics.Topics)  # put back at the end
    patch.setattr(taker, "threading", SimpleNamespace(Event=Gate, Thread=threading.Thread))
    patch.setattr(taker.Taker, "_idle", lambda _taker: None)
    return passing


def machine(storage: SqlStorage, passing: Time) -> Any:
    return type("Machine", (IntakeMachine,), {"storage": storage, "time": passing})


def test_rules_7_and_8_each_record_of_each_life_is_taken_in_once(
    migrated_sqlite: str, opened: Open, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(machine(opened(migrated_sqlite), turned_by_hand(monkeypatch)), examples=20, steps=80)


def test_a_broker_that_lags_answers_for_what_was_read_of_the_life_before(
    migrated_sqlite: str, opened: Open, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine asks for no more than is promised: about a record of a new life its brokers do not name the old one."""
    moved = machine(opened(migrated_sqlite), turned_by_hand(monkeypatch))()
    moved.produce(0, [True], [(0, 1, False)])
    moved.make_again([True] * 4, [])
    moved.answer(0, stale=True)  # the record was read of the old life, and is of it
    moved.work(0, 1, answers=False)
    assert moved.found(moved.cluster.lives[0], 0).watermark == 3
    moved.answer(0, stale=True)  # this one was read of the new life
    moved.teardown()
    assert moved.found(moved.cluster.lives[0], 0).watermark == 3

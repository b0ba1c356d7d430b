"""Rule 7: watermarks move by compare-and-set under an epoch, together with the events they count."""

from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbos_events.errors import RegistrationError
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.subjects.intakerows import IntakeResult
from tests.storage.building import APP, end, kill, quarantine, read, register, workflow, write
from tests.storage.racing import at_once
from tests.storage.topics import Topic, event, topic

DONE = IntakeResult()


def stored(storage: SqlStorage) -> list[str]:
    """Ids of workflows that have their event; neither is ever without the other."""
    workflows = [
        row.id for row in read(storage, "SELECT id FROM {schema}.workflows ORDER BY partition, position")
    ]
    events = [row.workflow_id for row in read(storage, "SELECT workflow_id FROM {schema}.events")]
    assert sorted(workflows) == sorted(events)
    return workflows


def gaps(storage: SqlStorage) -> list[tuple[int, int, int]]:
    rows = read(storage, "SELECT partition, first_offset, next_offset FROM {schema}.gaps ORDER BY id")
    return [(row.partition, row.first_offset, row.next_offset) for row in rows]


# ------------------------------------------------------------------ consumers and positions


def test_a_consumer_keeps_its_number(storage: SqlStorage) -> None:
    first = storage.consumers.save(APP, "orders", "handle", "group", ["a"], "{}")
    assert storage.consumers.save(APP, "orders", "renamed", "group", ["a", "b"], "{}") == first
    assert storage.consumers.save(APP, "other", "handle", "group-2", ["a"], "{}") != first


def test_rule_9_a_known_consumer_whose_group_changed_is_refused(storage: SqlStorage) -> None:
    storage.consumers.save(APP, "orders", "handle", "group", ["a"], "{}")
    with pytest.raises(RegistrationError, match="'group'"):
        storage.consumers.save(APP, "orders", "handle", "another", ["a"], "{}")


def test_rule_9_a_second_consumer_of_a_topic_in_the_same_group_is_refused(storage: SqlStorage) -> None:
    storage.consumers.save(APP, "orders", "handle", "group", ["a", "b"], "{}")
    with pytest.raises(RegistrationError, match="'b'"):
        storage.consumers.save(APP, "audit", "handle", "group", ["b", "c"], "{}")
    storage.consumers.save(APP, "audit", "handle", "group", ["c"], "{}")
    storage.consumers.save("another", "audit", "handle", "group", ["a"], "{}")


def test_rule_8_each_life_of_a_topic_has_its_own_number(storage: SqlStorage) -> None:
    first = storage.lives.save("cluster", "orders", "id-1")
    assert storage.lives.save("cluster", "orders", "id-1") == first
    others = {
        storage.lives.save("cluster", "orders", "id-2"),
        storage.lives.save("cluster", "audit", "id-1"),
        storage.lives.save("cluster-2", "orders", "id-1"),
    }
    assert len(others | {first}) == 4


def test_one_life_of_a_topic_learnt_twice_at_once_has_one_number(
    storage: SqlStorage, other_storage: SqlStorage
) -> None:
    [one, two] = at_once(*(lambda s=s: s.lives.save("c", "orders", "id") for s in (storage, other_storage)))
    assert one == two


def test_rule_7_a_first_position_that_is_there_stays(storage: SqlStorage) -> None:
    orders = topic(storage)
    storage.positions.create(orders.consumer, orders.incarnation, {0: (99, "latest"), 1: (5, "group")})
    executor = register(storage)
    positions = storage.positions.assign(executor, orders.consumer, orders.incarnation, [1, 0])
    assert [(p.partition, p.next_offset, p.reason) for p in positions] == [
        (0, 0, "earliest"),
        (1, 5, "group"),
    ]
    assert storage.positions.known_partitions(orders.consumer, orders.incarnation) == {0, 1}
    assert storage.positions.known_partitions(orders.consumer, 404) == frozenset()


def test_rule_7_each_assignment_raises_the_epoch_and_becomes_the_holder(storage: SqlStorage) -> None:
    orders = topic(storage, partitions=2)
    first, second = register(storage, "first"), register(storage, "second")
    assert [orders.epoch(first), orders.epoch(second), orders.epoch(first)] == [1, 2, 3]
    holders = {state.partition: (state.holder, state.holder_alive) for state in storage.positions.read(APP)}
    assert holders == {0: ("first", True), 1: (None, False)}
    kill(storage, first)
    assert storage.positions.read(APP)[0].holder_alive is False


def test_a_partition_without_a_watermark_is_not_assigned(storage: SqlStorage) -> None:
    orders = topic(storage)
    assert storage.positions.assign(register(storage), orders.consumer, orders.incarnation, [7]) == []


# ------------------------------------------------------------------ intake


def test_rule_7_events_and_watermark_move_together(storage: SqlStorage) -> None:
    orders = topic(storage, partitions=3)
    executor = register(storage)
    epochs = [orders.epoch(executor, partition) for partition in (0, 1)]
    assert orders.intake(executor, {0: (epochs[0], 0, 2), 1: (epochs[1], 0, 1)}) == DONE
    assert stored(storage) == ["e-0-0", "e-0-1", "e-1-0"]
    assert [orders.watermark(partition) for partition in range(3)] == [2, 1, 0]
    row = workflow(storage, "e-0-1")
    assert (row.name, row.application, row.status, row.owner) == ("handle", APP, "PENDING", executor)
    assert (row.take, row.partition, row.position, row.lane) == (1, 0, 1, None)


def test_an_event_is_stored_as_it_was_received(storage: SqlStorage) -> None:
    orders = topic(storage)
    executor = register(storage)
    orders.intake(
        executor, {0: (orders.epoch(executor), 0, 1)}, events=[event(0, 0, key=b"\x00k", value=b"\xff\x00")]
    )
    got = storage.intake.read_events(["e-0-0", "none"])["e-0-0"]
    assert (got.topic, got.partition, got.offset, got.leader_epoch) == ("orders", 0, 0, 7)
    assert (got.key, got.value, got.headers, got.latency) == (b"\x00k", b"\xff\x00", None, None)
    assert (got.timestamp_type, got.timestamp) == (1, 1_700_000_000_000)


def test_events_of_a_queue_wait_on_it(storage: SqlStorage) -> None:
    orders = topic(storage, queue="q")
    executor = register(storage)
    orders.intake(executor, {0: (orders.epoch(executor), 0, 1)})
    row = workflow(storage, "e-0-0")
    assert (row.status, row.queue, row.owner, row.take) == ("ENQUEUED", "q", None, 0)


def test_rule_7_an_older_assignment_changes_nothing(storage: SqlStorage) -> None:
    orders = topic(storage)
    zombie, executor = register(storage), register(storage)
    old = orders.epoch(zombie)
    new = orders.epoch(executor)
    assert orders.intake(zombie, {0: (old, 0, 5)}, gaps=[(0, 1, 2)]) == IntakeResult(stale=frozenset({0}))
    assert (orders.watermark(), stored(storage), gaps(storage)) == (0, [], [])
    assert orders.intake(executor, {0: (new, 0, 2)}) == DONE


def test_rule_7_an_older_assignment_at_the_same_target_is_no_lost_answer(storage: SqlStorage) -> None:
    orders = topic(storage)
    zombie, executor = register(storage), register(storage)
    old = orders.epoch(zombie)
    orders.intake(executor, {0: (orders.epoch(executor), 0, 2)})
    assert orders.intake(zombie, {0: (old, 0, 2)}).stale == {0}


@pytest.mark.parametrize("expected", [1, 3, 5])
def test_rule_7_an_intake_that_expects_another_offset_changes_nothing(
    storage: SqlStorage, expected: int
) -> None:
    orders = topic(storage)
    executor = register(storage)
    epoch = orders.epoch(executor)
    orders.intake(executor, {0: (epoch, 0, 4)})
    assert orders.intake(executor, {0: (epoch, expected, expected + 5)}).stale == {0}
    assert orders.watermark() == 4
    assert len(stored(storage)) == 4


def test_rule_7_a_stale_partition_does_not_hold_the_others_back(storage: SqlStorage) -> None:
    orders = topic(storage, partitions=2)
    executor, other = register(storage), register(storage)
    mine, lost = orders.epoch(executor, 0), orders.epoch(executor, 1)
    orders.epoch(other, 1)
    result = orders.intake(executor, {0: (mine, 0, 2), 1: (lost, 0, 2)}, gaps=[(1, 0, 1)])
    assert result == IntakeResult(stale=frozenset({1}))
    assert (stored(storage), orders.watermark(1), gaps(storage)) == (["e-0-0", "e-0-1"], 0, [])


def test_rule_7_a_partition_that_is_unknown_is_stale(storage: SqlStorage) -> None:
    orders = topic(storage)
    assert orders.intake(register(storage), {9: (1, 0, 1)}).stale == {9}


def test_rule_7_an_intake_whose_answer_was_lost_is_done_when_it_is_repeated(storage: SqlStorage) -> None:
    orders = topic(storage)
    executor = register(storage)
    batch = orders.batch(
        executor, {0: (orders.epoch(executor), 0, 3)}, events=[event(0, 2)], gaps=[(0, 0, 2)]
    )
    assert storage.intake.take_in(batch) == DONE
    assert storage.intake.take_in(batch) == IntakeResult(repeated=frozenset({0}))
    assert (orders.watermark(), stored(storage), gaps(storage)) == (3, ["e-0-2"], [(0, 0, 2)])


def test_rule_7_jumps_are_recorded(storage: SqlStorage) -> None:
    orders = topic(storage)
    executor = register(storage)
    epoch = orders.epoch(executor)
    orders.intake(
        executor, {0: (epoch, 0, 8)}, events=[event(0, 3), event(0, 7)], gaps=[(0, 0, 3), (0, 4, 7)]
    )
    assert (stored(storage), gaps(storage)) == (["e-0-3", "e-0-7"], [(0, 0, 3), (0, 4, 7)])


def test_rule_7_the_leader_epoch_of_the_last_record_is_kept(storage: SqlStorage) -> None:
    orders = topic(storage)
    executor = register(storage)
    orders.intake(executor, {0: (orders.epoch(executor), 0, 1)})
    [position] = storage.positions.assign(executor, orders.consumer, orders.incarnation, [0])
    assert (position.leader_epoch, position.next_offset, position.reason) == (7, 1, "taken in")


def rewind(storage: SqlStorage, orders: Topic, executor: int, offset: int = 0) -> int:
    """As a restored Kafka position would have it: read again what is known; gives the epoch."""
    schema = storage.database.schema or "main"
    sql = f"UPDATE {schema}.watermarks SET next_offset = {offset}"
    storage.database.transact(lambda tx: tx.connection.exec_driver_sql(sql))
    return orders.epoch(executor)


def test_rule_7_events_that_are_there_already_are_duplicates_and_not_run_again(storage: SqlStorage) -> None:
    orders = topic(storage)
    first, second = register(storage), register(storage)
    orders.intake(first, {0: (orders.epoch(first), 0, 2)})
    result = orders.intake(second, {0: (rewind(storage, orders, second), 0, 3)})
    assert result == IntakeResult(duplicates=frozenset({"e-0-0", "e-0-1"}))
    assert [workflow(storage, f"e-0-{offset}").owner for offset in range(3)] == [first, first, second]
    assert orders.watermark() == 3


def test_rule_7_the_same_id_with_another_content_stops_the_partition_before_it(storage: SqlStorage) -> None:
    orders = topic(storage, partitions=2)
    executor = register(storage)
    orders.intake(executor, {0: (orders.epoch(executor), 0, 3)}, events=[event(0, 2, fingerprint=1)])
    epoch, other = rewind(storage, orders, executor), orders.epoch(executor, 1)
    changed = [event(0, 0), event(0, 1), event(0, 2, fingerprint=2, value=b"else"), event(0, 3), event(1, 0)]
    result = orders.intake(executor, {0: (epoch, 0, 4), 1: (other, 0, 1)}, events=changed)
    assert result.conflicts == {"e-0-2"}
    assert stored(storage) == ["e-0-0", "e-0-1", "e-0-2", "e-1-0"]
    assert (orders.watermark(0), orders.watermark(1)) == (2, 1)
    assert storage.intake.read_events(["e-0-2"])["e-0-2"].value == b"v"


def test_rule_10_events_of_a_lane_open_it(storage: SqlStorage) -> None:
    orders = topic(storage, lane=True)
    executor = register(storage)
    orders.intake(executor, {0: (orders.epoch(executor), 0, 3)})
    assert [(entry.lane_sequence, entry.owner, entry.status) for entry in orders.entries()] == [
        (position, executor, "PENDING") for position in range(3)
    ]


# ------------------------------------------------------------------ two at once


def test_rule_7_of_two_intakes_at_once_one_moves_the_watermark(
    storage: SqlStorage, other_storage: SqlStorage
) -> None:
    orders = topic(storage)
    theirs = Topic(other_storage, orders.consumer, orders.incarnation)
    executor = register(storage)
    epoch = orders.epoch(executor)
    for start in range(0, 40, 4):
        results = at_once(
            lambda start=start: orders.intake(executor, {0: (epoch, start, start + 4)}),
            lambda start=start: theirs.intake(executor, {0: (epoch, start, start + 3)}),
        )
        assert sorted(len(result.stale) for result in results) == [0, 1]
        target = start + (4 if not results[0].stale else 3)
        assert orders.watermark() == len(stored(storage)) == target
        if target == start + 3:
            assert orders.intake(executor, {0: (epoch, target, start + 4)}) == DONE


def test_rule_7_assignments_and_intakes_of_many_partitions_at_once_do_not_deadlock(
    storage: SqlStorage, other_storage: SqlStorage
) -> None:
    orders = topic(storage, partitions=6)
    theirs = Topic(other_storage, orders.consumer, orders.incarnation)
    first, second = register(storage), register(storage)

    def compete(mine: Topic, executor: int, partitions: list[int]) -> int:
        moved = 0
        for _ in range(15):
            positions = mine.storage.positions.assign(executor, mine.consumer, mine.incarnation, partitions)
            moves = {p.partition: (p.epoch, p.next_offset, p.next_offset + 1) for p in positions}
            moved += len(moves) - len(mine.intake(executor, moves).stale)
        return moved

    forwards = list(range(6))
    moved = at_once(lambda: compete(orders, first, forwards), lambda: compete(theirs, second, forwards[::-1]))
    assert sum(orders.watermark(partition) for partition in forwards) == sum(moved) == len(stored(storage))


# ------------------------------------------------------------------ any interleaving


@dataclass
class Member:
    """A process with its own idea of where it stands."""

    executor: int
    epoch: int = 0
    position: int = 0
    sent: tuple[int, int, int] | None = None

    def next_move(self, action: str, count: int) -> tuple[tuple[int, int, int], range]:
        """What it sends, and the offsets of its records: the next, the next behind a gap, or its last again."""
        if action == "repeat" and self.sent is not None:
            return self.sent, range(self.sent[1], self.sent[2])
        first = self.position + (2 if action == "gap" else 0)
        return (self.epoch, self.position, first + count), range(first, first + count)


@dataclass
class Model:
    """What the database should hold."""

    epoch: int = 0
    watermark: int = 0
    taken: set[int] = field(default_factory=set)

    def takes(self, move: tuple[int, int, int], offsets: range) -> bool:
        """Move as the rule says; whether the sender may go on."""
        epoch, expected, target = move
        if epoch != self.epoch:
            return False
        if self.watermark == expected:
            assert not self.taken & set(offsets)
            self.taken |= set(offsets)
            self.watermark = target
        return self.watermark == target


STEPS = st.lists(
    st.tuples(st.sampled_from(["assign", "intake", "repeat", "gap"]), st.integers(0, 1), st.integers(1, 4)),
    max_size=25,
)
SERIAL = "SELECT count(*) AS n FROM {schema}.incarnations"


@given(steps=STEPS)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rule_7_whatever_two_members_do_each_offset_is_taken_in_once(
    storage: SqlStorage, steps: list[tuple[str, int, int]]
) -> None:
    incarnation = storage.lives.save("cluster", "orders", str(read(storage, SERIAL)[0].n))
    orders = Topic(
        storage, storage.consumers.save(APP, "orders", "handle", "group", ["orders"], "{}"), incarnation
    )
    storage.positions.create(orders.consumer, incarnation, {0: (0, "earliest")})
    members = [Member(register(storage)), Member(register(storage))]
    model = Model()
    for action, who, count in steps:
        member = members[who]
        if action == "assign":
            [position] = storage.positions.assign(member.executor, orders.consumer, incarnation, [0])
            model.epoch += 1
            assert (position.epoch, position.next_offset) == (model.epoch, model.watermark)
            member.epoch, member.position, member.sent = model.epoch, model.watermark, None
        elif member.epoch:
            move, offsets = member.next_move(action, count)
            events = [event(0, offset)._replace(workflow_id=f"{incarnation}-{offset}") for offset in offsets]
            result = orders.intake(member.executor, {0: move}, events=events)
            assert (not result.stale, result.duplicates) == (model.takes(move, offsets), frozenset())
            if not result.stale:
                member.position = move[2]
                member.sent = move if action == "intake" else None
    rows = read(storage, "SELECT position FROM {schema}.workflows WHERE incarnation = :n", n=incarnation)
    assert {row.position for row in rows} == model.taken
    [row] = read(storage, "SELECT next_offset FROM {schema}.watermarks WHERE incarnation = :n", n=incarnation)
    assert row.next_offset == model.watermark


# ------------------------------------------------------------------ what is shown


def test_what_the_holder_reports_is_shown_and_a_strangers_report_is_not(storage: SqlStorage) -> None:
    orders = topic(storage)
    holder, stranger = register(storage), register(storage)
    orders.epoch(holder)
    storage.positions.report(holder, orders.consumer, [(orders.incarnation, 0, 50, "paused", "quota")])
    storage.positions.report(holder, orders.consumer, [(orders.incarnation, 0, None, "running", None)])
    storage.positions.report(stranger, orders.consumer, [(orders.incarnation, 0, 99, "lost", "zombie")])
    [state] = storage.positions.read(APP)
    assert (state.end_offset, state.state, state.detail) == (50, "running", None)


def test_of_a_lane_only_the_head_is_in_flight_and_the_rest_is_held(storage: SqlStorage) -> None:
    orders = topic(storage, lane=True)
    executor = register(storage)
    orders.intake(executor, {0: (orders.epoch(executor), 0, 6)})
    write(storage, executor, end("e-0-0"))
    storage.lanes.release_unstarted(executor, ["e-0-4", "e-0-5"])
    [state] = storage.positions.read(None)
    assert (state.application, state.consumer, state.group, state.topic) == (APP, "orders", "group", "orders")
    assert (state.next_offset, state.in_flight, state.held, state.quarantined) == (6, 1, 4, 0)
    write(storage, executor, quarantine("e-0-1", orders.consumer))
    [state] = storage.positions.read(APP)
    assert (state.in_flight, state.held, state.quarantined) == (0, 4, 1)
    assert storage.positions.read("another") == []


def test_without_lanes_all_that_has_an_owner_is_in_flight(storage: SqlStorage) -> None:
    orders = topic(storage)
    executor = register(storage)
    orders.intake(executor, {0: (orders.epoch(executor), 0, 3)})
    write(storage, executor, end("e-0-0"))
    [state] = storage.positions.read(APP)
    assert (state.in_flight, state.held) == (2, 0)

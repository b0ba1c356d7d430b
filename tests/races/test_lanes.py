"""Rule 10: events of one lane, whoever takes, finishes, releases, decides or reads on meanwhile."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest

from dbos_events.errors import ExecutorFenced
from dbos_events.model.quarantine import Redrive
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.subjects.lanes import LanePlace
from dbos_events.storage.subjects.quarantine import OperatorDecision
from dbos_events.storage.subjects.taking import Taker
from dbos_events.storage.writes import Written
from tests.races.interleaving import Operation, Race
from tests.storage.building import APP, end, ids, kill, park, quarantine, read, register, write
from tests.storage.topics import Topic, event, topic

BY = OperatorDecision("ada@desk", "because")
KEY = "0/a"
HEAD, SECOND, THIRD = "e-0-0", "e-0-1", "e-0-2"


@dataclass
class Readers:
    """`first` has taken three events of one key in and runs the head; `epoch` is that of the partition."""

    orders: Topic
    first: int
    second: int
    epoch: int

    def place(self, epoch: int) -> LanePlace:
        return self.orders.place(epoch)


def readers(storage: SqlStorage) -> Readers:
    orders = topic(storage)
    first, second = register(storage, "a"), register(storage, "b")
    epoch = orders.epoch(first)
    orders.intake(first, {0: (epoch, 0, 3)}, events=[event(0, offset, lane=KEY) for offset in range(3)])
    return Readers(orders, first, second, epoch)


def moved(storage: SqlStorage) -> Readers:
    """The partition is the second one's now; the first one runs the head, and has given the others back."""
    made = readers(storage)
    storage.lanes.release_unstarted(made.first, [SECOND, THIRD])
    made.epoch = made.orders.epoch(made.second)
    return made


def put_aside(storage: SqlStorage) -> Readers:
    """The head is in quarantine; the others wait behind it."""
    made = readers(storage)
    write(storage, made.first, quarantine(HEAD, made.orders.consumer))
    storage.lanes.release_unstarted(made.first, [SECOND, THIRD])
    return made


def ready_behind(storage: SqlStorage) -> Readers:
    """The same, and one behind it was made ready: it has to be held back."""
    made = put_aside(storage)
    storage.workflows.cancel([SECOND])
    storage.workflows.resume([SECOND])
    return made


def died(storage: SqlStorage) -> Readers:
    """The first one is dead, and the second one holds the partition."""
    made = readers(storage)
    kill(storage, made.first)
    made.epoch = made.orders.epoch(made.second)
    return made


def asleep(storage: SqlStorage) -> Readers:
    """The head sleeps, and is due."""
    made = readers(storage)
    write(storage, made.first, park(HEAD, 0))
    storage.lanes.release_unstarted(made.first, [SECOND, THIRD])
    return made


# ------------------------------------------------------------------ what they do


def take(by: str) -> Operation[Readers]:
    def work(made: Readers, storage: SqlStorage) -> object:
        found = storage.lanes.take(getattr(made, by), made.place(made.epoch), [KEY], 2, {"handle": None})
        return None if found is None else ids(found[KEY].rows)

    return work


def take_in(made: Readers, storage: SqlStorage) -> object:
    """Another event of the key, by a holder whose memory does not know the lane."""
    orders = replace(made.orders, storage=storage)
    batch = orders.batch(made.first, {0: (made.epoch, 3, 4)}, events=[event(0, 3, lane=KEY)])
    result = storage.intake.take_in(replace(batch, unknown=frozenset({KEY})))
    return sorted(result.behind), sorted(result.stale)


def assign(made: Readers, storage: SqlStorage) -> object:
    return [
        one.epoch
        for one in storage.positions.assign(made.second, made.orders.consumer, made.orders.incarnation, [0])
    ]


def finish(made: Readers, storage: SqlStorage) -> object:
    try:
        return [isinstance(result, Written) for result in write(storage, made.first, end(HEAD))]
    except ExecutorFenced:
        return [False]


def fail(made: Readers, storage: SqlStorage) -> object:
    [result] = write(storage, made.first, quarantine(HEAD, made.orders.consumer))
    return isinstance(result, Written)


def fall_asleep(made: Readers, storage: SqlStorage) -> object:
    [result] = write(storage, made.first, park(HEAD, 99))
    return isinstance(result, Written)


def release(made: Readers, storage: SqlStorage) -> None:
    storage.lanes.release_unstarted(made.first, [SECOND, THIRD])


def wake(made: Readers, storage: SqlStorage) -> object:
    return storage.taking.wake_due(Taker(made.second, APP, "v1", ["handle"]), 9)


def free_the_dead(_: Readers, storage: SqlStorage) -> object:
    return storage.lanes.free_of_dead(APP)


def cancel(_: Readers, storage: SqlStorage) -> object:
    return storage.workflows.cancel([HEAD])


def resume(_: Readers, storage: SqlStorage) -> object:
    return storage.workflows.resume([HEAD])


def discard(_: Readers, storage: SqlStorage) -> object:
    return storage.quarantine.discard([HEAD], BY)


def redrive(_: Readers, storage: SqlStorage) -> object:
    return storage.quarantine.redrive([HEAD], Redrive(), BY)


# ------------------------------------------------------------------ what must hold


def in_order(_: Readers, storage: SqlStorage) -> None:
    """Who runs something of a lane runs all that is before it; nobody else does."""
    query = "SELECT * FROM {schema}.workflows WHERE lane_open ORDER BY lane, lane_sequence"
    for earlier, later in pairwise(read(storage, query)):
        if later.owner is not None and later.lane == earlier.lane:
            assert (earlier.owner, earlier.status) == (later.owner, "PENDING"), (
                f"{later.id} runs past {earlier.id}"
            )


def next_may_run(made: Readers, storage: SqlStorage) -> None:
    """Once the head is gone, what follows it runs, or is found as ready."""
    in_order(made, storage)
    query = "SELECT * FROM {schema}.workflows WHERE lane_open ORDER BY lane_sequence LIMIT 1"
    [head] = read(storage, query)
    if head.id != HEAD:
        assert head.owner is not None or not head.held, f"{head.id} is forgotten"


# ------------------------------------------------------------------ intake into a lane


@pytest.mark.parametrize("other", [finish, fall_asleep, cancel, release, assign])
def test_rule_10_an_intake_behind_a_running_head_against(race: Race, other: Operation[Readers]) -> None:
    race(readers, take_in, other)


def test_rule_10_an_intake_behind_a_head_that_is_put_aside_at_this_moment(race: Race) -> None:
    race(readers, take_in, fail, must_hold=lambda _, storage: _held(storage, "e-0-3"))


def _held(storage: SqlStorage, workflow_id: str) -> None:
    [row] = read(storage, "SELECT owner, held FROM {schema}.workflows WHERE id = :id", id=workflow_id)
    assert (row.owner, bool(row.held)) == (None, True)


@pytest.mark.parametrize("other", [discard, redrive, take("first")])
def test_rule_10_an_intake_behind_a_head_that_was_put_aside_against(
    race: Race, other: Operation[Readers]
) -> None:
    race(put_aside, take_in, other, must_hold=next_may_run)


def test_rule_10_an_intake_and_a_discard_of_the_only_event_of_the_lane(race: Race) -> None:
    def alone(storage: SqlStorage) -> Readers:
        made = put_aside(storage)
        storage.workflows.cancel([SECOND, THIRD])
        storage.quarantine.discard([SECOND, THIRD], BY)
        return made

    race(alone, take_in, discard, must_hold=next_may_run)


# ------------------------------------------------------------------ hand-over


@pytest.mark.parametrize("other", [finish, cancel, fall_asleep])
def test_rule_10_the_new_holder_takes_the_lane_against(race: Race, other: Operation[Readers]) -> None:
    """The head finishes where it is; what is behind it moves."""
    race(moved, take("second"), other, must_hold=in_order)


@pytest.mark.parametrize("other", [finish, release])
def test_rule_10_the_new_holder_takes_what_the_former_one_has_not_given_back_yet_against(
    race: Race, other: Operation[Readers]
) -> None:
    def half_moved(storage: SqlStorage) -> Readers:
        made = readers(storage)
        made.epoch = made.orders.epoch(made.second)
        return made

    race(half_moved, take("second"), other, must_hold=in_order)


def test_rule_10_the_former_holder_takes_from_its_lane_against_an_assignment(race_of_many: Race) -> None:
    def released(storage: SqlStorage) -> Readers:
        made = readers(storage)
        storage.lanes.release_unstarted(made.first, [HEAD, SECOND, THIRD])
        return made

    def assigned(made: Readers, storage: SqlStorage) -> object:
        [position] = storage.positions.assign(made.second, made.orders.consumer, made.orders.incarnation, [0])
        found = storage.lanes.take(made.second, made.place(position.epoch), [KEY], 2, {"handle": None})
        assert found is not None
        return ids(found[KEY].rows)

    race_of_many(released, take("first"), assigned, must_hold=in_order)


def test_rule_10_events_that_go_back_at_a_revocation_against_the_end_of_their_head(race: Race) -> None:
    race(readers, release, finish, must_hold=in_order)


# ------------------------------------------------------------------ heads that stand still


@pytest.mark.parametrize("other", [wake, cancel, resume])
def test_rule_10_a_holder_that_looks_at_a_sleeping_head_against(
    race: Race, other: Operation[Readers]
) -> None:
    race(asleep, take("first"), other, must_hold=in_order)


@pytest.mark.parametrize("other", [discard, redrive])
def test_rule_10_a_holder_that_looks_at_a_head_in_quarantine_against(
    race: Race, other: Operation[Readers]
) -> None:
    race(put_aside, take("first"), other, must_hold=next_may_run)


@pytest.mark.parametrize("other", [discard, redrive])
def test_rule_10_what_is_ready_behind_a_head_is_held_back_and_not_forgotten_against(
    race: Race, other: Operation[Readers]
) -> None:
    race(ready_behind, take("first"), other, must_hold=next_may_run)


def test_rule_10_a_wake_up_against_a_cancel(race: Race) -> None:
    race(asleep, wake, cancel)


def test_rule_10_a_wake_up_against_another(race: Race) -> None:
    race(
        asleep,
        wake,
        lambda made, storage: storage.taking.wake_due(Taker(made.first, APP, "v1", ["handle"]), 9),
    )


# ------------------------------------------------------------------ the dead


@pytest.mark.parametrize("other", [take("second"), free_the_dead, cancel, resume, finish])
def test_rule_10_lanes_of_the_dead_are_freed_against(race: Race, other: Operation[Readers]) -> None:
    race(died, free_the_dead, other, must_hold=in_order)


def test_rule_10_lanes_of_the_dead_are_freed_by_one_while_another_takes_them(race_of_many: Race) -> None:
    def free_and_take(made: Readers, storage: SqlStorage) -> object:
        storage.lanes.free_of_dead(APP)
        return take("second")(made, storage)

    def one_crash(made: Readers, storage: SqlStorage) -> None:
        in_order(made, storage)
        [row] = read(storage, "SELECT owner, crashes FROM {schema}.workflows WHERE id = :id", id=HEAD)
        assert (row.owner, row.crashes) == (made.second, 1)

    race_of_many(died, free_and_take, free_the_dead, then=lambda *_: None, must_hold=one_crash)


def test_rule_10_a_holder_that_is_declared_dead_while_it_takes(race: Race) -> None:
    def to_be_taken(storage: SqlStorage) -> Readers:
        made = readers(storage)
        storage.lanes.release_unstarted(made.first, [HEAD, SECOND, THIRD])
        return made

    race(to_be_taken, take("first"), lambda made, storage: storage.executors.declare_dead(made.first, 0, "silent"),
         must_hold=in_order)  # fmt: skip


# ------------------------------------------------------------------ one lane over all partitions


@dataclass
class Sharers:
    orders: Topic
    first: int
    second: int
    epochs: dict[int, int]

    @property
    def where(self) -> tuple[int, int, str]:
        return self.orders.consumer, self.orders.incarnation, "topic"


def sharers(storage: SqlStorage) -> Sharers:
    orders = topic(storage, partitions=2)
    first, second = register(storage, "a"), register(storage, "b")
    return Sharers(orders, first, second, {0: orders.epoch(first, 0), 1: orders.epoch(second, 1)})


def held_by_the_first(storage: SqlStorage) -> Sharers:
    made = sharers(storage)
    storage.lanes.hold(made.first, *made.where)
    return made


def share_in(by: str, partition: int) -> Operation[Sharers]:
    def work(made: Sharers, storage: SqlStorage) -> object:
        orders = replace(made.orders, storage=storage)
        events = [event(partition, offset, lane="topic", kept=False) for offset in range(2)]
        batch = orders.batch(getattr(made, by), {partition: (made.epochs[partition], 0, 2)}, events=events)
        return sorted(storage.intake.take_in(replace(batch, shared_lane="topic")).stale)

    return work


def hold(by: str) -> Operation[Sharers]:
    return lambda made, storage: storage.lanes.hold(getattr(made, by), *made.where)


def leave(made: Sharers, storage: SqlStorage) -> None:
    storage.lanes.leave(made.first, *made.where)


def kill_the_first(made: Sharers, storage: SqlStorage) -> object:
    return storage.executors.declare_dead(made.first, 0, "silent")


def one_after_the_other(_: Sharers, storage: SqlStorage) -> None:
    rows = read(storage, "SELECT lane_sequence FROM {schema}.workflows ORDER BY lane_sequence")
    assert [row.lane_sequence for row in rows] == list(range(len(rows)))


def test_rule_10_intakes_of_two_partitions_number_the_events_of_their_common_lane(race: Race) -> None:
    race(sharers, share_in("first", 0), share_in("second", 1), must_hold=one_after_the_other)


def left_by_the_first(storage: SqlStorage) -> Sharers:
    made = held_by_the_first(storage)
    leave(made, storage)
    return made


@pytest.mark.parametrize("scene", [sharers, left_by_the_first])
def test_rule_10_of_two_that_want_to_hold_a_lane_one_does(
    race: Race, scene: Callable[[SqlStorage], Sharers]
) -> None:
    race(scene, hold("first"), hold("second"))


@pytest.mark.parametrize("other", [leave, kill_the_first])
def test_rule_10_one_that_wants_to_hold_a_lane_against(race: Race, other: Operation[Sharers]) -> None:
    race(held_by_the_first, hold("second"), other)


def test_rule_10_a_holder_of_a_lane_takes_against_one_that_succeeds_it(race_of_many: Race) -> None:
    def with_events(storage: SqlStorage) -> Sharers:
        made = held_by_the_first(storage)
        share_in("first", 0)(made, storage)
        return made

    def take_lane(made: Sharers, storage: SqlStorage) -> object:
        place = LanePlace(made.orders.consumer, made.orders.incarnation, None, 1, "topic")
        found = storage.lanes.take(made.first, place, ["topic"], 9, {"handle": None})
        return None if found is None else ids(found["topic"].rows)

    def succeed(made: Sharers, storage: SqlStorage) -> object:
        leave(made, storage)
        return hold("second")(made, storage)

    race_of_many(with_events, take_lane, succeed)

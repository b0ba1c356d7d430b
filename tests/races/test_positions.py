"""Rules 7 to 9: watermarks, their holders, lives of topics and the consumers that read them."""

from dataclasses import dataclass, replace

import pytest

from dbos_events.storage.sqldatabase import SqlStorage
from tests.races.interleaving import Operation, Race
from tests.storage.building import APP, change, kill, read, register
from tests.storage.topics import Topic, topic


@dataclass
class Members:
    """Two processes that read `orders`; the first one holds both partitions under `epochs`."""

    orders: Topic
    first: int
    second: int
    epochs: dict[int, int]

    def on(self, storage: SqlStorage) -> Topic:
        return replace(self.orders, storage=storage)

    @property
    def place(self) -> tuple[int, int, int]:
        return self.orders.consumer, self.orders.incarnation, 0


def members(storage: SqlStorage) -> Members:
    orders = topic(storage, partitions=2, lane=True)
    first, second = register(storage, "a"), register(storage, "b")
    epochs = {partition: orders.epoch(first, partition) for partition in (0, 1)}
    orders.intake(first, {0: (epochs[0], 0, 2)})
    return Members(orders, first, second, epochs)


def take_in(made: Members, storage: SqlStorage) -> object:
    """Two more events of each partition."""
    moves = {0: (made.epochs[0], 2, 4), 1: (made.epochs[1], 0, 2)}
    return sorted(made.on(storage).intake(made.first, moves).stale)


def assign(made: Members, storage: SqlStorage) -> list[tuple[int, int, int]]:
    found = storage.positions.assign(made.second, made.orders.consumer, made.orders.incarnation, [1, 0])
    return [(one.partition, one.epoch, one.next_offset) for one in found]


def every_offset_once(made: Members, storage: SqlStorage) -> None:
    """Promise P1: below a watermark each offset has its workflow, and nothing has one above."""
    for mark in read(storage, "SELECT * FROM {schema}.watermarks"):
        query = "SELECT position FROM {schema}.workflows WHERE partition = :partition ORDER BY position"
        positions = [row.position for row in read(storage, query, partition=mark.partition)]
        assert positions == list(range(mark.next_offset))


# ------------------------------------------------------------------ holders


def test_rule_7_an_intake_against_an_assignment_to_another(race: Race) -> None:
    race(members, take_in, assign, must_hold=every_offset_once)


def test_rule_7_two_intakes_of_one_partition_under_one_epoch(race: Race) -> None:
    race(members, take_in, take_in, must_hold=every_offset_once)


def test_rule_7_a_zombies_intake_against_that_of_the_new_holder(race_of_many: Race) -> None:
    def assigned_anew(made: Members, storage: SqlStorage) -> object:
        positions = {one[0]: one for one in assign(made, storage)}
        moves = {number: (epoch, offset, offset + 3) for number, epoch, offset in positions.values()}
        return sorted(made.on(storage).intake(made.second, moves).stale)

    race_of_many(members, take_in, assigned_anew, must_hold=every_offset_once)


def test_rule_7_two_assignments_of_the_same_partitions(race: Race) -> None:
    def to_the_first(made: Members, storage: SqlStorage) -> object:
        found = storage.positions.assign(made.first, made.orders.consumer, made.orders.incarnation, [0, 1])
        return [(one.partition, one.epoch, one.next_offset) for one in found]

    race(members, assign, to_the_first)


@pytest.mark.parametrize("other", [take_in, assign])
def test_rule_7_a_zombie_that_skips_offsets_against(race: Race, other: Operation[Members]) -> None:
    def skip(made: Members, storage: SqlStorage) -> object:
        return storage.positions.skip(made.first, made.place, made.epochs[0], (2, 9), "gone")

    race(members, skip, other)


@pytest.mark.parametrize("other", [take_in, assign])
def test_rule_7_a_halt_against(race: Race, other: Operation[Members]) -> None:
    """A halt is the holder's; after an assignment it changes nothing."""

    def halt(made: Members, storage: SqlStorage) -> None:
        storage.positions.halt(made.first, made.place, "another log", 1)

    race(members, halt, other, must_hold=every_offset_once)


def test_rule_10_an_opened_gate_against_an_assignment(race: Race) -> None:
    def gated(storage: SqlStorage) -> Members:
        made = members(storage)
        change(storage, "UPDATE {schema}.watermarks SET gate = '{}' WHERE partition = 0")
        return made

    def open_gate(made: Members, storage: SqlStorage) -> None:
        storage.positions.open_gate(*made.place, made.epochs[0])

    race(gated, open_gate, assign)


def test_rule_1_a_declaration_of_death_against_an_intake(race: Race) -> None:
    race(members, take_in, lambda made, storage: storage.executors.declare_dead(made.first, 0, "silent"),
         must_hold=every_offset_once)  # fmt: skip


# ------------------------------------------------------------------ sweepers


def orphaned(storage: SqlStorage) -> Members:
    made = members(storage)
    third = register(storage, "c")
    kill(storage, made.first)
    storage.lanes.free_of_dead(APP)
    made.first = third
    return made


def sweep(by: str) -> Operation[Members]:
    def work(made: Members, storage: SqlStorage) -> object:
        executor: int = getattr(made, by)
        found = storage.orphans.find(APP, ["handle"], 0, executor)
        return [taken for orphan in found if (taken := storage.orphans.take(executor, orphan)) is not None]

    return work


def one_holder(made: Members, storage: SqlStorage) -> None:
    for mark in read(storage, "SELECT * FROM {schema}.watermarks WHERE partition = 0"):
        assert mark.holder in (made.first, made.second)
        assert mark.epoch >= 2


def test_rule_10_two_sweepers_take_an_orphan_once(race_of_many: Race) -> None:
    def swept_once(made: Members, storage: SqlStorage) -> None:
        one_holder(made, storage)
        assert [row.epoch for row in read(storage, "SELECT epoch FROM {schema}.watermarks ORDER BY 1")] == [
            1,
            2,
        ]

    race_of_many(orphaned, sweep("first"), sweep("second"), must_hold=swept_once)


def test_rule_10_a_sweeper_against_an_assignment(race_of_many: Race) -> None:
    """Whichever comes first: who was assigned the partition holds it."""

    def assigned(made: Members, storage: SqlStorage) -> None:
        for mark in read(storage, "SELECT * FROM {schema}.watermarks"):
            assert mark.holder == made.second

    race_of_many(orphaned, sweep("first"), assign, must_hold=assigned)


def test_rule_10_a_sweeper_that_gives_back_against_an_assignment(race: Race) -> None:
    def swept(storage: SqlStorage) -> Members:
        made = orphaned(storage)
        [orphan] = storage.orphans.find(APP, ["handle"], 0)
        position = storage.orphans.take(made.first, orphan)
        assert position is not None
        made.epochs[0] = position.epoch
        return made

    race(
        swept,
        lambda made, storage: storage.orphans.release(made.first, made.place, made.epochs[0]),
        assign,
        must_hold=one_holder_after_assignment,
    )


def one_holder_after_assignment(made: Members, storage: SqlStorage) -> None:
    [mark] = read(storage, "SELECT * FROM {schema}.watermarks WHERE partition = 0")
    assert mark.holder == made.second


# ------------------------------------------------------------------ what operators decide


def halted(storage: SqlStorage) -> Members:
    made = members(storage)
    storage.lives.identify(made.orders.consumer, "cluster", "orders", "id-1")
    storage.positions.halt(made.first, made.place, "another log", 1)
    storage.positions.note_alarm(made.place, "went back", 5)
    return made


def decide(what: str) -> Operation[Members]:
    def work(_: Members, storage: SqlStorage) -> object:
        place = ("orders", 0)
        if what == "branch":
            return storage.decisions.resolve_truncation(APP, "orders", place, None)
        return storage.decisions.resolve_regression(APP, "orders", place, skip=what == "skip")

    return work


@pytest.mark.parametrize("decision", ["branch", "skip", "replay"])
@pytest.mark.parametrize("other", [take_in, assign])
def test_rule_7_a_decision_about_a_halt_against(race: Race, decision: str, other: Operation[Members]) -> None:
    race(halted, decide(decision), other)


@pytest.mark.parametrize("decision", ["branch", "skip", "replay"])
def test_rule_7_a_decision_about_a_halt_against_another(race: Race, decision: str) -> None:
    race(halted, decide("branch"), decide(decision))


# ------------------------------------------------------------------ lives and consumers


def nobody(_: SqlStorage) -> int:
    return 0


def a_consumer(storage: SqlStorage) -> int:
    number = storage.consumers.save(APP, "orders", "handle", "group", ["orders"], "{}")
    storage.lives.identify(number, "cluster", "orders", "id-1")
    return number


def learn(topic_id: str, cluster: str = "cluster") -> Operation[int]:
    return lambda consumer, storage: storage.lives.identify(consumer, cluster, "orders", topic_id)


def one_life(_: int, storage: SqlStorage) -> None:
    lives = read(storage, "SELECT topic_id FROM {schema}.incarnations WHERE NOT retired AND branch = 0")
    assert len(lives) == 1


@pytest.mark.parametrize("topic_id", ["id-1", "id-2", "id-3", ""])
def test_rule_8_one_who_learns_of_a_new_life_against_one_who_names(race: Race, topic_id: str) -> None:
    """The old id, the same new one, yet another one, or none."""
    race(a_consumer, learn("id-2"), learn(topic_id), must_hold=one_life)


def test_rule_8_two_consumers_that_learn_of_a_new_life(race: Race) -> None:
    def two(storage: SqlStorage) -> int:
        first = a_consumer(storage)
        other = storage.consumers.save(APP, "others", "handle", "another", ["orders"], "{}")
        storage.lives.identify(other, "cluster", "orders", "id-1")
        return first

    def by_the_other(consumer: int, storage: SqlStorage) -> object:
        return storage.lives.identify(consumer + 1, "cluster", "orders", "id-3")

    race(two, learn("id-2"), by_the_other, must_hold=one_life)


def test_rule_8_a_new_cluster_against_the_decision_about_it(race_of_many: Race) -> None:
    def met(storage: SqlStorage) -> int:
        number = a_consumer(storage)
        with pytest.raises(Exception, match="cluster"):
            storage.lives.identify(number, "elsewhere", "orders", "id-9")
        return number

    race_of_many(
        met,
        lambda _, storage: storage.decisions.adopt_cluster(APP, "orders", "restart"),
        learn("id-9", "elsewhere"),
        then=lambda *_: None,
    )


def save(name: str, topics: str) -> Operation[int]:
    return lambda _, storage: storage.consumers.save(APP, name, "handle", "group", [topics], "{}") and None


@pytest.mark.parametrize("topics", ["orders", "^or.*"])
def test_rule_9_of_two_consumers_that_register_for_a_topic_in_one_group_one_is_refused(
    race: Race, topics: str
) -> None:
    race(nobody, save("orders", "orders"), save("others", topics))


def test_rule_9_one_consumer_that_two_processes_register(race: Race) -> None:
    race(nobody, save("orders", "orders"), save("orders", "orders"))


def test_rule_9_a_consumer_that_is_renamed_against_one_that_registers(race: Race) -> None:
    race(
        a_consumer,
        lambda _, storage: storage.decisions.rename_consumer(APP, "orders", "sales"),
        save("sales", "sales"),
        then=lambda *_: None,
    )


def test_rule_7_first_positions_that_two_processes_write(race: Race) -> None:
    def begin_at(offset: int) -> Operation[int]:
        positions = dict.fromkeys((0, 1), (offset, "earliest"))
        return lambda consumer, storage: storage.positions.create(consumer, 1, positions)

    race(a_consumer, begin_at(0), begin_at(7))

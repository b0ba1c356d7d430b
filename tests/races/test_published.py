"""Rules 17 and 18: who waits for a value or a stream hears of it, whatever is published or ends while it goes to sleep."""

from dataclasses import dataclass

import pytest

from dbos_events.model.workflow import PENDING
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.subjects.taking import Taker
from dbos_events.storage.writes import (
    Change,
    Key,
    Piece,
    SettleEntries,
    SetValue,
    StreamEntry,
    Write,
    Written,
    result_key,
    stream_key,
    value_key,
)
from tests.races.interleaving import Operation, Race
from tests.storage.building import APP, begin, end, ids, kill, park, read, register, step, workflow, write

VALUE = value_key("w", "k")
STREAM = stream_key("w", "s", 1)
COMMITTED = stream_key("w", "s", 1, committed=True)


@dataclass
class Pair:
    """`w` publishes on the second executor, `reader` waits for it on the first one."""

    first: int
    second: int


def pair(storage: SqlStorage) -> Pair:
    """One entry is in the stream already, and the reader has it."""
    made = Pair(register(storage, "a"), register(storage, "b"))
    begin(storage, made.first, "reader", "another")
    begin(storage, made.second, "w")
    write(storage, made.second, entry(0))
    return made


def entry(position: int, *, committed: bool | None = True, ends: bool = False, number: int = 1) -> Write:
    return published(
        number, StreamEntry("s", position, number, 0, committed, ends, "json", "1", 100 + position)
    )


def published(number: int, change: Change) -> Write:
    made = step("w", number)
    made.change = change
    return made


def done(storage: SqlStorage, executor: int, *writes: Write) -> object:
    return [isinstance(result, Written) for result in write(storage, executor, *writes)]


def sleep_on(*keys: Key, who: str = "reader") -> Operation[Pair]:
    return lambda made, storage: done(storage, made.first, park(who, keys=keys))


def set_value(made: Pair, storage: SqlStorage) -> object:
    return done(storage, made.second, published(2, SetValue("k", 1, 2, "json", "1", 99)))


def write_entry(made: Pair, storage: SqlStorage) -> object:
    return done(storage, made.second, entry(1, number=2))


def close(made: Pair, storage: SqlStorage) -> object:
    return done(storage, made.second, entry(1, ends=True, number=2))


def succeed(made: Pair, storage: SqlStorage) -> object:
    return done(storage, made.second, end("w"))


def end_with_the_last_entry(made: Pair, storage: SqlStorage) -> object:
    return done(storage, made.second, entry(1, number=2), end("w"))


def cancel(_: Pair, storage: SqlStorage) -> object:
    return storage.workflows.cancel(["w"])


def wakes(_: Pair, storage: SqlStorage) -> None:
    """It waits no more, and the timers find it now and not after a poll."""
    row = workflow(storage, "reader")
    assert (row.status, row.owner, row.awaits) == (PENDING, None, None)
    assert row.wake_at is not None
    assert row.wake_at <= storage.now_ms()


@pytest.mark.parametrize("ending", [set_value, succeed, cancel])
def test_rule_17_a_reader_that_goes_to_sleep_hears_of_the_value_or_that_there_will_be_none(
    race: Race, ending: Operation[Pair]
) -> None:
    race(pair, sleep_on(VALUE), ending, must_hold=wakes)


@pytest.mark.parametrize("ending", [write_entry, close, succeed, cancel, end_with_the_last_entry])
@pytest.mark.parametrize("key", [STREAM, COMMITTED], ids=["stream", "committed"])
def test_rule_18_a_reader_that_goes_to_sleep_hears_of_what_is_written_and_of_the_end(
    race: Race, key: Key, ending: Operation[Pair]
) -> None:
    race(pair, sleep_on(key), ending, must_hold=wakes)


def with_open_entry(storage: SqlStorage) -> Pair:
    """A step has written an entry and goes on."""
    made = pair(storage)
    write(
        storage,
        made.second,
        Write("w", 1, 0, change=StreamEntry("s", 1, 2, 0, None, False, "json", "1", 101)),
    )
    return made


@pytest.mark.parametrize("committed", [True, False], ids=["well", "with an error"])
def test_rule_18_a_reader_of_what_counts_hears_that_a_step_has_ended(race: Race, committed: bool) -> None:
    settled = SettleEntries((Piece("s", 1, 1, 2, 0, committed),))
    race(
        with_open_entry,
        sleep_on(COMMITTED),
        lambda made, storage: done(storage, made.second, published(2, settled)),
        must_hold=wakes,
    )


def test_rule_18_a_reader_of_what_counts_looks_now_and_then_while_a_step_is_under_way(race: Race) -> None:
    """That the process of the step has died, nobody tells the reader."""

    def polls(_: Pair, storage: SqlStorage) -> None:
        row = workflow(storage, "reader")
        assert row.awaits == COMMITTED.text
        assert row.wake_at is not None

    race(
        with_open_entry,
        sleep_on(COMMITTED),
        lambda made, storage: storage.executors.declare_dead(made.second, 0, "silent"),
        must_hold=polls,
    )


def test_two_readers_that_go_to_sleep_beside_each_other_are_both_woken(race: Race) -> None:
    def both_wake(made: Pair, storage: SqlStorage) -> None:
        set_value(made, storage)
        woken = ids(storage.taking.wake_due(Taker(made.first, APP, "v1", ["work"]), 9))
        assert sorted(woken) == ["another", "reader"]

    race(pair, sleep_on(VALUE), sleep_on(VALUE, STREAM, who="another"), must_hold=both_wake)


def test_a_reader_of_several_things_is_woken_by_each(race: Race) -> None:
    race(pair, sleep_on(VALUE, STREAM, result_key("w")), set_value, must_hold=wakes)


def test_two_who_wait_for_each_other_are_written_again_when_the_database_chooses_one(race: Race) -> None:
    """Each publishes what the other one goes to sleep for."""

    def of_the_first(made: Pair, storage: SqlStorage) -> object:
        own = step("reader", 1)
        own.change = SetValue("k", 1, 1, "json", "1", 90)
        return done(storage, made.first, own, park("another", keys=[VALUE]))

    def of_the_second(made: Pair, storage: SqlStorage) -> object:
        begin(storage, made.second, "third")
        own = published(2, SetValue("k", 1, 2, "json", "1", 91))
        return done(storage, made.second, own, park("third", keys=[value_key("reader", "k")]))

    race(pair, of_the_first, of_the_second, repeated=True)


def test_rule_2_what_a_dead_executor_publishes_is_not_there_or_was_there_before_its_work_was_taken(
    race: Race,
) -> None:
    def takes(made: Pair, storage: SqlStorage) -> object:
        kill(storage, made.second)
        return ids(storage.taking.adopt(Taker(made.first, APP, "v1", ["work"]), {"work": None}, 9))

    def agrees(_: Pair, storage: SqlStorage) -> None:
        entries = read(storage, "SELECT position, take FROM {schema}.stream_entries WHERE position > 0")
        checkpoints = read(
            storage, "SELECT step FROM {schema}.checkpoints WHERE workflow_id = 'w' AND step = 2"
        )
        assert len(entries) == len(checkpoints)
        ends = storage.streams.read_ends("w", 2, 0)["s"]
        assert ends.next_position == 1 + len(entries)

    race(pair, write_entry, takes, must_hold=agrees, serial=False)

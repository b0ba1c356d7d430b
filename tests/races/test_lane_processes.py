"""Rule 10: what processes do with their lanes when answers get lost, and when things happen in the middle of a call.

Each of these stopped a lane once, or would. `tests/storage/test_lanes_machine.py` tries such things by chance; here each
is brought about.
"""

from collections.abc import Callable

import pytest

from dbos_events.engine.run import Run
from dbos_events.errors import StorageUnavailable
from dbos_events.model.event import ConsumerOptions, Ordering
from dbos_events.runtime.intake import keeper
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.subjects.quarantine import OperatorDecision
from dbos_events.storage.subjects.taking import Taker
from tests.storage.building import APP, change, kill, read
from tests.storage.conftest import Open
from tests.storage.laneprocesses import TOPIC, Process

AT_ONCE = 4
BY = OperatorDecision("ada@desk", "because")
Make = Callable[..., Process]


@pytest.fixture
def storage(migrated_sqlite: str, opened: Open) -> SqlStorage:
    return opened(migrated_sqlite)


@pytest.fixture
def process(storage: SqlStorage) -> Make:
    """Make one more process that reads the topic."""

    def make(ordering: Ordering = "key") -> Process:
        options = ConsumerOptions(
            name="orders",
            topics=(TOPIC,),
            config={},
            ordering=ordering,
            queue_name=None,
            batch_size=10,
            max_in_flight=AT_ONCE,
        )
        return Process(storage, options, _nothing)

    return make


def _nothing(_run: Run) -> None:
    pass


def offsets(process: Process) -> list[int]:
    """What runs in a process."""
    return sorted(int(run.id.rsplit("/", 1)[1]) for run in process.running)


def finish_all(*processes: Process) -> list[int]:
    """Tick and finish until nothing is left; gives the offsets in the order in which they ran."""
    done: list[int] = []
    for _ in range(50):
        for process in processes:
            process.tick()
            done += offsets(process)
            for run in process.running:
                process.finish(run)
    return done


def leave_behind(process: Process, *keys: bytes) -> None:
    """A process takes in what it has room for, and dies before it has finished anything."""
    process.assign(0)
    process.take_in(0, keys, len(keys))
    kill(process.real, process.core.executor)
    process.real.lanes.free_of_dead(APP)


# ------------------------------------------------------------------ answers that get lost


def test_rule_10_what_a_taking_without_an_answer_took_runs_here(process: Make) -> None:
    leave_behind(process(), b"a", b"a")
    holder = process()
    holder.assign(0)
    holder.storage.lost.add("lanes.take")
    holder.tick()
    assert holder.running == []
    assert finish_all(holder) == [0, 1]


def test_rule_10_what_a_taking_without_an_answer_took_goes_back_also_when_the_lane_is_anothers(
    process: Make,
) -> None:
    """The other one waits for whatever a live process owns."""
    leave_behind(process(), b"a", b"a")
    former, holder = process(), process()
    former.assign(0)
    former.storage.lost.add("lanes.take")
    former.tick()
    former.revoke(0)
    holder.assign(0)
    holder.tick()
    assert holder.running == [], "the former one owns it"
    former.tick()
    assert finish_all(holder) == [0, 1]
    assert former.running == []


@pytest.mark.parametrize("done", [True, False])
def test_rule_10_what_is_given_back_without_an_answer_is_given_back_again(process: Make, done: bool) -> None:
    former, holder = process(), process()
    former.assign(0)
    former.take_in(0, [b"a", b"a", b"a"], 3)
    if done:
        former.storage.lost.add("lanes.release_unstarted")
    else:
        former.storage.before["lanes.release_unstarted"] = _away
    former.revoke(0)
    holder.assign(0)
    former.tick()
    former.tick()
    [head] = former.running
    former.finish(head)
    assert finish_all(holder) == [1, 2]


def test_rule_10_an_intake_without_an_answer_loses_and_repeats_nothing(process: Make) -> None:
    holder = process()
    holder.assign(0)
    holder.take_in(0, [b"a"], 1)
    holder.storage.lost.add("intake.take_in")
    holder.take_in(0, [b"a", b"a", b"b"], 3)
    assert offsets(holder) in ([0], [0, 2])
    assert sorted(finish_all(holder)) == [0, 1, 2]


def test_rule_10_a_lane_over_a_topic_is_left_also_when_that_fails_at_first(process: Make) -> None:
    former, holder = process("topic"), process("topic")
    former.assign(0)
    holder.assign(1)
    former.tick()
    holder.take_in(1, [b"a"], 1)
    former.revoke(0)
    former.storage.before["lanes.leave"] = _away
    former.tick()
    holder.tick()
    assert holder.running == [], "the other one holds the lane, and lives"
    former.tick()
    assert finish_all(holder) == [0]


def _away(*_: object) -> None:
    raise StorageUnavailable("away")


# ------------------------------------------------------------------ in the middle of an intake, or of a taking


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("ends", ["finish", "fail", "park"])
def test_rule_10_a_head_that_ends_during_an_intake_behind_it(
    process: Make, storage: SqlStorage, moment: str, ends: str
) -> None:
    holder = process()
    holder.assign(0)
    holder.take_in(0, [b"a"], 1)
    [head] = holder.running
    end = {
        "finish": lambda: holder.finish(head),
        "fail": lambda: holder.fail(head),
        "park": lambda: holder.park(head, 0),
    }[ends]
    getattr(holder.storage, moment)["intake.take_in"] = end
    holder.take_in(0, [b"a", b"a"], 2)
    if ends == "finish":
        assert finish_all(holder) == [1]
        return
    holder.tick()
    assert holder.running == [], "the head holds the lane"
    if ends == "fail":
        assert storage.quarantine.discard([head.id], BY)
        assert finish_all(holder) == [1]
    else:
        storage.taking.wake_due(Taker(holder.core.executor, APP, "v1", ["handle"]), 9)
        assert finish_all(holder) == [0, 1]


def test_rule_10_a_head_that_is_discarded_while_what_is_behind_it_is_asked_for(
    process: Make, storage: SqlStorage
) -> None:
    holder = process()
    holder.assign(0)
    holder.take_in(0, [b"a", b"a"], 2)
    [head] = holder.running
    holder.fail(head)
    holder.storage.after["lanes.take"] = lambda: storage.quarantine.discard([head.id], BY)
    assert finish_all(holder) == [1]


def test_rule_10_a_partition_that_is_revoked_while_its_lanes_are_taken(process: Make) -> None:
    leave_behind(process(), b"a", b"a")
    former, holder = process(), process()
    former.assign(0)

    def move() -> None:
        former.revoke(0)
        holder.assign(0)

    former.storage.after["lanes.take"] = move
    former.tick()
    assert former.running == [], "it is closed; what was taken goes back"
    former.tick()
    assert finish_all(holder) == [0, 1]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_rule_7_a_partition_that_another_was_assigned_during_an_intake(process: Make, moment: str) -> None:
    """What came too late changes nothing; what came in time is given back, but for what has started."""
    log = [b"a", b"a", b"b"]
    former, holder = process(), process()
    former.assign(0)
    getattr(former.storage, moment)["intake.take_in"] = lambda: holder.assign(0)
    former.take_in(0, log, 3)
    former.revoke(0)
    former.tick()
    assert holder.positions[0] == (0 if moment == "before" else 3)
    assert offsets(former) == ([] if moment == "before" else [0, 2])
    holder.take_in(0, log, 3)
    holder.tick()
    assert offsets(holder) == ([0, 2] if moment == "before" else [])
    assert sorted(finish_all(former, holder)) == [0, 1, 2]


def test_rule_10_a_partition_that_comes_back_at_once_runs_in_its_order(process: Make) -> None:
    """Revoked and assigned again while the head runs: the old run ends, and only then the next one starts."""
    holder = process()
    holder.assign(0)
    holder.take_in(0, [b"a", b"a", b"a"], 3)
    [head] = holder.running
    holder.revoke(0)
    holder.assign(0)
    holder.tick()
    holder.tick()
    assert holder.running == [head]
    holder.finish(head)
    assert finish_all(holder) == [1, 2]


# ------------------------------------------------------------------ bounds, and what no signal told of


def test_rule_10_after_a_restart_no_more_heads_begin_than_there_are_places(process: Make) -> None:
    keys = [b"a", b"b", b"c", b"d", b"e", b"f"]
    leave_behind(process(), *keys)
    leave_behind(process(), *keys)
    holder = process()
    holder.assign(0)
    for _ in range(5):
        holder.tick()
    assert len(holder.running) == AT_ONCE
    assert sorted(finish_all(holder)) == list(range(len(keys)))


def test_rule_10_lanes_whose_heads_are_put_aside_are_not_kept_in_memory(
    process: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "PAGE", 2)
    former = process()
    former.assign(0)
    former.take_in(0, [b"a", b"b", b"c"], 3)
    for run in former.running:
        former.fail(run)
    former.revoke(0)
    holder = process()
    holder.assign(0)
    for _ in range(5):
        holder.tick()
    [group] = holder.lanes._all_groups()
    assert holder.lanes.is_swept(group)
    assert list(group._lanes) == []
    group.activate(row.lane for row in read(former.real, "SELECT lane FROM {schema}.workflows"))
    holder.tick()
    assert list(group._lanes) == [], "nor when somebody asked for them"


def test_rule_10_a_head_that_no_signal_told_of_is_found_by_the_slow_look(
    process: Make, storage: SqlStorage
) -> None:
    leave_behind(process(), b"a")
    change(storage, "UPDATE {schema}.workflows SET status = 'ERROR'")
    holder = process()
    holder.assign(0)
    holder.tick()
    change(storage, "UPDATE {schema}.workflows SET status = 'PENDING', held = true")
    assert finish_all(holder) == [], "it is put aside, for all that this process knows"
    holder.lanes._sweeps_at = 0.0
    assert finish_all(holder) == [0]

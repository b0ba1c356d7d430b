"""Rules 2, 6 and 11: what is decided about events in quarantine, and what that does to their rows and lanes."""

import pytest

from dbos_events.control.quarantine import BATCH, Order, QuarantineControl
from dbos_events.errors import DBOSException, StorageUnavailable
from dbos_events.model.quarantine import QuarantineFilter, Redrive
from dbos_events.model.workflow import CANCELLED, ENQUEUED, ERROR, PENDING
from dbos_events.serialization import Codecs
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.subjects.quarantine import OperatorDecision
from dbos_events.storage.writes import Failure, Fenced, QuarantineNote, Write
from dbos_events.testing import ManualClock
from tests.storage.building import (
    change,
    claim_resumed_from,
    end,
    read,
    register,
    start,
    step,
    workflow,
    write,
)
from tests.storage.racing import PATIENCE, at_once, await_waiting, meanwhile, open_batch, open_transaction
from tests.storage.topics import Topic, topic

BY = OperatorDecision("ada@desk", "because")


def put_aside(topic: Topic, workflow_id: str, *failed: int, take: int = 1, error: str = "boom") -> Write:
    """End an event's workflow with an error, put aside."""
    failure = Failure("json", error, "shop.errors.Down", error, failed)
    note = QuarantineNote(topic.consumer, "attempts-exhausted", error, 3, failure)
    return end(workflow_id, take=take, status=ERROR, error=error, quarantine=note, frees_lane=False)


def take_in(topic: Topic, executor: int, count: int, partition: int = 0) -> list[str]:
    topic.intake(executor, {partition: (topic.epoch(executor, partition), 0, count)})
    return [f"e-{partition}-{offset}" for offset in range(count)]


def hold(storage: SqlStorage, *workflow_ids: str) -> None:
    """As intake leaves events behind an unfinished one of their lane."""
    for workflow_id in workflow_ids:
        change(
            storage, "UPDATE {schema}.workflows SET held = true, owner = NULL WHERE id = :id", id=workflow_id
        )


def open_ids(storage: SqlStorage) -> list[str]:
    return [event.workflow_id for event in storage.quarantine.find(QuarantineFilter())]


def control(storage: SqlStorage, **options: object) -> QuarantineControl:
    return QuarantineControl(storage, Codecs(), **options)  # type: ignore[arg-type]


# ------------------------------------------------------------------ redrive


def test_rule_6_a_redrive_begins_a_generation_that_keeps_what_succeeded(storage: SqlStorage) -> None:
    executor = register(storage)
    orders = topic(storage)
    take_in(orders, executor, 1)
    write(storage, executor, step("e-0-0", 1), step("e-0-0", 2, error="boom"), put_aside(orders, "e-0-0", 2))
    change(storage, "UPDATE {schema}.workflows SET attempt = 2, crashes = 1")
    assert storage.quarantine.redrive(["e-0-0"], Redrive(), BY) == ["e-0-0"]
    row = workflow(storage, "e-0-0")
    assert (row.status, row.owner, row.queue, row.completed_at, row.version) == (
        ENQUEUED,
        None,
        None,
        None,
        None,
    )
    assert (row.generation, row.attempt, row.crashes, row.take) == (1, 0, 0, 2)
    assert [entry.step for entry in storage.workflows.list_steps("e-0-0")] == [1]
    assert storage.generations.read_divergences(["e-0-0"]) == {"e-0-0": {0: 2}}
    assert open_ids(storage) == []
    ending = storage.workflows.read_ending("e-0-0")
    assert ending is not None
    assert ending.error is None
    stored = storage.quarantine.get("e-0-0")
    assert stored is not None
    assert stored.event.released_as == "redriven"
    assert [(one.ended_as, one.attempt, one.steps) for one in stored.generations] == [
        ("redrive", 3, ((2, "step"),))
    ]
    assert [(one.decision, one.decided_by, one.reason) for one in stored.decisions] == [
        ("redrive", "ada@desk", "because")
    ]


def test_rule_10_a_redriven_event_of_a_lane_is_ready_at_its_head(storage: SqlStorage) -> None:
    executor = register(storage)
    orders = topic(storage, lane=True)
    take_in(orders, executor, 2)
    write(storage, executor, put_aside(orders, "e-0-0"))
    assert storage.quarantine.redrive(["e-0-0"], Redrive(), BY) == ["e-0-0"]
    row = workflow(storage, "e-0-0")
    assert (row.status, row.owner, row.wake_at, bool(row.held), bool(row.lane_open)) == (
        PENDING,
        None,
        None,
        False,
        True,
    )
    assert orders.lane_ids() == ["e-0-0", "e-0-1"]


def test_a_redriven_event_of_a_queue_waits_there(storage: SqlStorage) -> None:
    executor = register(storage)
    orders = topic(storage, queue="q")
    take_in(orders, executor, 1)
    storage.workflows.cancel(["e-0-0"])
    storage.quarantine.redrive(["e-0-0"], Redrive(), BY)
    row = workflow(storage, "e-0-0")
    assert (row.status, row.queue) == (ENQUEUED, "q")


@pytest.mark.parametrize(
    ("order", "kept"),
    [
        (Redrive(), [1, 2, 4]),
        (Redrive(from_step=2), [1]),
        (Redrive(from_step=9), [1, 2, 4]),
        (Redrive(fresh=True), []),
        (Redrive(value=b"edited"), [1, 2, 4]),
    ],
)
def test_what_a_redrive_keeps(storage: SqlStorage, order: Redrive, kept: list[int]) -> None:
    executor = register(storage)
    orders = topic(storage)
    take_in(orders, executor, 1)
    steps = [step("e-0-0", number, error="boom" if number == 3 else None) for number in (1, 2, 3, 4)]
    write(storage, executor, *steps, put_aside(orders, "e-0-0", 3))
    storage.quarantine.redrive(["e-0-0"], order, BY)
    assert [entry.step for entry in storage.workflows.list_steps("e-0-0")] == kept


def test_what_failed_before_anybody_noted_where_is_all_done_anew(storage: SqlStorage) -> None:
    executor = register(storage)
    orders = topic(storage)
    take_in(orders, executor, 1)
    write(
        storage,
        executor,
        step("e-0-0", 1),
        step("e-0-0", 2, error="caught"),
        step("e-0-0", 3, codec="cancelled"),
        put_aside(orders, "e-0-0"),
    )
    change(storage, "UPDATE {schema}.quarantine SET failed_steps = NULL")
    storage.quarantine.redrive(["e-0-0"], Redrive(), BY)
    assert [entry.step for entry in storage.workflows.list_steps("e-0-0")] == [1]


def test_an_edited_value_is_what_runs_get_and_the_received_one_stays(storage: SqlStorage) -> None:
    executor = register(storage)
    orders = topic(storage)
    take_in(orders, executor, 1)
    for number, value in enumerate((b"one", b"\x00\xff")):
        write(storage, executor, put_aside(orders, "e-0-0", take=1 + 2 * number))
        storage.quarantine.redrive(["e-0-0"], Redrive(value=value), BY)
        assert storage.intake.read_events(["e-0-0"])["e-0-0"].value == value
        claim_resumed_from(storage, executor, "shop", "v1", ["handle"], 10)
    stored = storage.quarantine.get("e-0-0")
    assert stored is not None
    assert stored.value == b"v"
    assert [(edit.generation, edit.value) for edit in stored.edits] == [(2, b"\x00\xff"), (1, b"one")]
    # With another input, what was recorded before need not fit any more.
    assert storage.generations.read_divergences(["e-0-0"]) == {"e-0-0": {0: 0, 1: 0}}


def test_only_what_is_in_quarantine_is_redriven(storage: SqlStorage) -> None:
    executor = register(storage)
    orders = topic(storage)
    running, done, recorded, put = take_in(orders, executor, 4)
    write(storage, executor, start("plain"), end(done), end(recorded, status=ERROR, error="boom"))
    write(storage, executor, put_aside(orders, put), end("plain", status=ERROR, error="boom"))
    found = storage.quarantine.redrive([running, done, recorded, put, "plain", "nobody"], Redrive(), BY)
    assert found == [put]
    assert storage.quarantine.redrive([put], Redrive(), BY) == []


def test_two_redrives_at_once_are_one(storage: SqlStorage, other_storage: SqlStorage) -> None:
    executor = register(storage)
    orders = topic(storage)
    names = take_in(orders, executor, 20)
    write(storage, executor, *(put_aside(orders, name) for name in names))
    found = at_once(
        lambda: storage.quarantine.redrive(names, Redrive(), BY),
        lambda: other_storage.quarantine.redrive(names[::-1], Redrive(), BY),
    )
    assert sorted(found[0] + found[1]) == sorted(names)
    assert {workflow(storage, name).generation for name in names} == {1}
    assert len(read(storage, "SELECT 1 FROM {schema}.decisions")) == 20


def test_a_redrive_and_a_discard_at_once_are_one_decision(
    storage: SqlStorage, other_storage: SqlStorage
) -> None:
    executor = register(storage)
    orders = topic(storage)
    names = take_in(orders, executor, 20)
    write(storage, executor, *(put_aside(orders, name) for name in names))
    redriven, discarded = at_once(
        lambda: storage.quarantine.redrive(names, Redrive(), BY),
        lambda: other_storage.quarantine.discard(names, BY),
    )
    assert sorted(redriven + discarded) == sorted(names)
    assert len(read(storage, "SELECT 1 FROM {schema}.decisions")) == 20


def test_rule_2_a_redrive_waits_for_the_batch_of_a_live_owner(postgres_storage: SqlStorage) -> None:
    storage = postgres_storage
    executor = register(storage)
    orders = topic(storage)
    take_in(orders, executor, 2)
    storage.workflows.cancel(["e-0-0"])  # its owner has not heard of it
    with (
        open_batch(storage, executor, step("e-0-1")),
        meanwhile(lambda: storage.quarantine.redrive(["e-0-0"], Redrive(), BY)) as redriven,
    ):
        await_waiting(storage, redriven)  # type: ignore[arg-type]
    assert redriven.result(PATIENCE) == ["e-0-0"]
    (answer,) = write(storage, executor, step("e-0-0"))
    assert isinstance(answer, Fenced)


# ------------------------------------------------------------------ discard


def test_rule_10_a_discard_frees_the_lane_and_the_next_of_it_may_run(storage: SqlStorage) -> None:
    executor = register(storage)
    orders = topic(storage, lane=True, partitions=2)
    take_in(orders, executor, 3)
    take_in(orders, executor, 2, partition=1)
    write(storage, executor, put_aside(orders, "e-0-0"), put_aside(orders, "e-1-0"))
    hold(storage, "e-0-1", "e-0-2", "e-1-1")
    assert storage.quarantine.discard(["e-0-0"], BY) == ["e-0-0"]
    row = workflow(storage, "e-0-0")
    assert (row.status, row.lane_open) == (ERROR, None)
    assert orders.lane_ids() == ["e-0-1", "e-0-2"]
    held = {name: bool(workflow(storage, name).held) for name in ("e-0-1", "e-0-2", "e-1-1")}
    assert held == {"e-0-1": False, "e-0-2": True, "e-1-1": True}
    stored = storage.quarantine.get("e-0-0")
    assert stored is not None
    assert stored.event.released_as == "discarded"
    assert [one.decision for one in stored.decisions] == ["discard"]


def test_a_discard_promotes_the_next_in_the_same_lane_only_once_all_before_it_are_gone(
    storage: SqlStorage,
) -> None:
    executor = register(storage)
    orders = topic(storage, lane=True)
    take_in(orders, executor, 3)
    write(storage, executor, put_aside(orders, "e-0-0"))
    hold(storage, "e-0-1", "e-0-2")
    storage.workflows.cancel(["e-0-1"])
    storage.quarantine.discard(["e-0-1"], BY)
    assert bool(workflow(storage, "e-0-2").held)
    storage.quarantine.discard(["e-0-0"], BY)
    assert not workflow(storage, "e-0-2").held


def test_rule_10_a_discard_and_an_intake_into_its_lane_go_one_after_the_other(
    postgres_storage: SqlStorage,
) -> None:
    storage = postgres_storage
    executor = register(storage)
    orders = topic(storage, lane=True)
    take_in(orders, executor, 1)
    write(storage, executor, put_aside(orders, "e-0-0"))
    with (
        open_transaction(storage) as tx,
        meanwhile(lambda: storage.quarantine.discard(["e-0-0"], BY)) as discarded,
    ):
        tx.run("lock_watermarks", consumer=orders.consumer, incarnation=orders.incarnation, partitions=[0])
        await_waiting(storage, discarded)  # type: ignore[arg-type]
    assert discarded.result(PATIENCE) == ["e-0-0"]


@pytest.mark.parametrize("status", [ERROR, CANCELLED])
def test_what_was_decided_once_is_not_decided_again(storage: SqlStorage, status: str) -> None:
    executor = register(storage)
    orders = topic(storage)
    take_in(orders, executor, 1)
    if status == ERROR:
        write(storage, executor, put_aside(orders, "e-0-0"))
    else:
        storage.workflows.cancel(["e-0-0"])
    assert storage.quarantine.discard(["e-0-0"], BY) == ["e-0-0"]
    assert storage.quarantine.discard(["e-0-0"], BY) == []
    assert storage.quarantine.redrive(["e-0-0"], Redrive(), BY) == []
    assert workflow(storage, "e-0-0").status == status


# ------------------------------------------------------------------ which, in what portions, how fast


def test_filters_may_be_combined(storage: SqlStorage, clock: ManualClock) -> None:
    executor = register(storage)
    orders = topic(storage, partitions=2)
    begun = clock.now_ms()
    for partition in (0, 1):
        for name in take_in(orders, executor, 3, partition):
            write(storage, executor, put_aside(orders, name, error=f"100% of {name}"))
            clock.move_to(clock.now_ms() + 1000)
    storage.quarantine.discard(["e-1-2"], BY)

    def found(**filters: object) -> list[str]:
        criteria = QuarantineFilter(**filters)  # type: ignore[arg-type]
        return [event.workflow_id for event in storage.quarantine.find(criteria)]

    assert found() == ["e-0-0", "e-0-1", "e-0-2", "e-1-0", "e-1-1"]
    assert found(released=True, partitions=(1,)) == ["e-1-0", "e-1-1", "e-1-2"]
    assert found(partitions=(0,), first_offset=1, last_offset=1) == ["e-0-1"]
    assert found(consumers=("orders",), topics=("orders",), applications=("shop",), limit=1) == ["e-0-0"]
    assert found(consumers=("other",)) == []
    assert found(error_types=("down",), error_text="OF E-0") == ["e-0-0", "e-0-1", "e-0-2"]
    assert found(error_types=("shop.errors.Down",), error_text="100%_of") == []
    assert found(error_types=("own",)) == []
    assert found(quarantined_from=begun + 1000, quarantined_until=begun + 2000) == ["e-0-1", "e-0-2"]
    assert found(after=(begun + 1000, "e-0-1")) == ["e-0-2", "e-1-0", "e-1-1"]


def test_very_many_are_redriven_in_small_transactions(storage: SqlStorage) -> None:
    executor = register(storage)
    orders = topic(storage)
    names = take_in(orders, executor, 2 * BATCH + 5)
    write(storage, executor, *(put_aside(orders, name) for name in names))
    told: list[object] = []
    done = control(storage, tell=told.append).redrive(QuarantineFilter(), Redrive(), Order(by="ada"))
    assert sorted(done.changed) == sorted(names)
    assert len(told) == 3
    assert open_ids(storage) == []


def test_a_limit_counts_over_all_portions(storage: SqlStorage) -> None:
    executor = register(storage)
    orders = topic(storage)
    names = take_in(orders, executor, BATCH + 50)
    write(storage, executor, *(put_aside(orders, name) for name in names))
    done = control(storage).redrive(QuarantineFilter(limit=BATCH + 10), Redrive(), Order(by="ada"))
    assert len(done.changed) == BATCH + 10
    assert len(open_ids(storage)) == 40


def test_a_rate_is_kept(storage: SqlStorage) -> None:
    executor = register(storage)
    orders = topic(storage)
    names = take_in(orders, executor, 50)
    write(storage, executor, *(put_aside(orders, name) for name in names))
    pauses: list[float] = []
    left: list[int] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        left.append(len(open_ids(storage)))

    control(storage, pause=pause).redrive(QuarantineFilter(), Redrive(), Order(by="ada", rate=100))
    assert left == [40, 30, 20, 10]
    assert pauses == pytest.approx([0.1] * 4)


def test_what_is_interrupted_stays_done_and_the_rest_stays_in_quarantine(storage: SqlStorage) -> None:
    executor = register(storage)
    orders = topic(storage)
    names = take_in(orders, executor, 3)
    write(storage, executor, *(put_aside(orders, name) for name in names))

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        control(storage, pause=interrupt).redrive(QuarantineFilter(), Redrive(), Order(by="ada", rate=1))
    assert open_ids(storage) == names[1:]


def test_what_is_put_aside_after_the_command_began_is_left_alone(
    storage: SqlStorage, clock: ManualClock
) -> None:
    executor = register(storage)
    orders = topic(storage)
    first, second = take_in(orders, executor, 2)
    write(storage, executor, put_aside(orders, first))

    def fail_another(_seconds: object) -> None:
        clock.move_to(clock.now_ms() + 1)
        write(storage, executor, put_aside(orders, second))

    done = control(storage, tell=fail_another).redrive(QuarantineFilter(), Redrive(), Order(by="ada", rate=1))
    assert done.changed == (first,)
    assert open_ids(storage) == [second]


def test_a_stored_error_that_nobody_can_read_is_told_as_such(storage: SqlStorage) -> None:
    executor = register(storage)
    orders = topic(storage)
    take_in(orders, executor, 1)
    write(storage, executor, put_aside(orders, "e-0-0"))
    change(storage, "UPDATE {schema}.quarantine SET codec = 'gone'")
    detail = control(storage).get("e-0-0")
    assert detail is not None
    assert isinstance(detail.error, DBOSException)
    assert "gone" in str(detail.error)
    assert control(storage).get("nobody") is None


def test_each_question_is_repeated_by_whoever_asks(storage: SqlStorage) -> None:
    executor = register(storage)
    orders = topic(storage)
    take_in(orders, executor, 1)
    write(storage, executor, put_aside(orders, "e-0-0"))
    failures = [StorageUnavailable("away")] * 2

    def ask(work: object) -> object:
        while failures:
            failures.pop()
        return work()  # type: ignore[operator]

    done = control(storage, ask=ask).redrive(QuarantineFilter(), Redrive(), Order(by="ada"))
    assert done.changed == ("e-0-0",)

"""Checkpoints that are written with the success of their run: they stand in its row, and nobody sees the difference."""

from dataclasses import replace

import pytest

from dbos_events.errors import BadWrite
from dbos_events.model.workflow import CANCELLED, ERROR, PENDING, SUCCESS
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.writes import WRITTEN, Existing, Fenced, Write
from dbos_events.storage.writes.own_checkpoints import MOST_CHARACTERS
from tests.storage.building import (
    begin,
    change,
    end,
    kill,
    park,
    read,
    register,
    start,
    step,
    steps,
    workflow,
    write,
)

FULL = {
    "call": "1.2", "name": 'the "step"', "arguments": "ab12", "codec": "json", "output": '{"a": "ü\\n"}',
    "child_id": "w-1", "started_at": 1_893_456_000_000, "completed_at": 1_893_456_000_001,
}  # fmt: skip


def rows_apart(storage: SqlStorage) -> int:
    [row] = read(storage, "SELECT count(*) AS count FROM {schema}.checkpoints")
    return int(row.count)


def test_what_stands_in_the_row_is_shown_as_what_stands_apart(storage: SqlStorage) -> None:
    executor = register(storage)
    begin(storage, executor, "together", "apart")
    first, second = step("together", 1, write_id=7, **FULL), step("together", 2, write_id=2**40)
    assert write(storage, executor, first, second, end("together")) == [WRITTEN] * 3
    assert rows_apart(storage) == 0
    for one in (first, second):
        write(storage, executor, replace(one, workflow_id="apart"))
    write(storage, executor, end("apart"))
    assert rows_apart(storage) == 2
    assert storage.workflows.list_steps("together") == storage.workflows.list_steps("apart")
    shown = "SELECT * FROM {schema}.steps WHERE workflow_id = :id ORDER BY step"
    assert [tuple(row)[1:] for row in read(storage, shown, id="together")] == [
        tuple(row)[1:] for row in read(storage, shown, id="apart")
    ]


def test_only_what_is_written_with_the_end_goes_with_it(storage: SqlStorage) -> None:
    executor = register(storage)
    begin(storage, executor, "w", "other")
    write(storage, executor, step("w", 1, output="1"))
    write(storage, executor, step("w", 2, output="2"), step("other", 1, output="3"), end("w"))
    assert (steps(storage, "w"), steps(storage, "other")) == ({1: "1", 2: "2"}, {1: "3"})
    assert rows_apart(storage) == 2


@pytest.mark.parametrize(
    "writes",
    [
        [step("w", output="x" * (MOST_CHARACTERS + 1)), end("w")],
        [*(step("w", number, output="x" * 100) for number in range(1, 11)), end("w")],
        [step("w", error="x" * (MOST_CHARACTERS + 1)), end("w")],
        [step("w", output="\\u0000"), end("w")],
        [step("w"), end("w", status=ERROR, error="boom")],
        [step("w"), park("w", 1)],
        [step("w"), replace(start("child"), workflow_id="w", take=1), end("w")],
    ],
    ids=["long", "long together", "long error", "like a NUL", "failed", "parked", "starts a child"],
)
def test_what_is_large_or_may_be_needed_again_stands_apart(storage: SqlStorage, writes: list[Write]) -> None:
    executor = register(storage)
    begin(storage, executor, "w")
    assert write(storage, executor, *writes) == [WRITTEN] * len(writes)
    assert workflow(storage, "w").own_checkpoints is None
    made = sum(one.checkpoint is not None for one in writes)
    assert rows_apart(storage) == len(storage.workflows.list_steps("w")) == made


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"], ids=["nul", "surrogate"])
@pytest.mark.parametrize("field", ["output", "name"])
def test_what_no_database_can_hold_is_refused_there_as_well(
    storage: SqlStorage, text: str, field: str
) -> None:
    executor = register(storage)
    begin(storage, executor, "w")
    with pytest.raises(BadWrite):
        write(storage, executor, step("w", **{field: text}), end("w"))
    assert (workflow(storage, "w").status, storage.workflows.list_steps("w")) == (PENDING, [])


def test_a_batch_that_is_written_again_is_known_by_its_checkpoints(storage: SqlStorage) -> None:
    """The same one after a lost answer; another one is somebody's who believes to be the same run."""
    executor = register(storage)
    begin(storage, executor, "w")
    mine, same, others = (step("w", output="1", write_id=number) for number in (7, 7, 8))
    assert write(storage, executor, mine, end("w")) == [WRITTEN] * 2
    assert write(storage, executor, same, end("w")) == [WRITTEN] * 2
    assert write(storage, executor, others, end("w")) == [Fenced(SUCCESS), Fenced(None)]
    [entry] = storage.workflows.list_steps("w")
    assert entry.write_id == 7


def test_what_goes_with_a_refused_end_is_refused_as_it_is(storage: SqlStorage) -> None:
    executor = register(storage)
    begin(storage, executor, "w", "good")
    storage.workflows.cancel(["w"])
    results = write(storage, executor, step("good"), step("w", 1), step("w", 2), end("w"), end("good"))
    assert results == [WRITTEN, Fenced(CANCELLED), Fenced(CANCELLED), Fenced(None), WRITTEN]
    assert (storage.workflows.list_steps("w"), len(storage.workflows.list_steps("good"))) == ([], 1)


def test_two_runs_of_one_workflow_in_a_batch_are_kept_apart(storage: SqlStorage) -> None:
    """One that was taken again by the same process, whose old run has not noticed yet."""
    executor = register(storage)
    begin(storage, executor, "w")
    change(storage, "UPDATE {schema}.workflows SET take = 2")
    old, new = step("w", output="old", take=1), step("w", output="new", take=2)
    results = write(storage, executor, old, new, end("w", take=1), end("w", take=2))
    assert results == [Fenced(SUCCESS), WRITTEN, Fenced(None), WRITTEN], "the new one ended it"
    assert steps(storage, "w") == {1: "new"}


def test_a_start_beside_it_is_judged_alone(storage: SqlStorage) -> None:
    executor = register(storage)
    begin(storage, executor, "w", "there")
    results = write(storage, executor, step("w"), start("there"), end("w"))
    assert results == [WRITTEN, Existing("there", "work", PENDING, None, None), WRITTEN]
    assert workflow(storage, "w").own_checkpoints is not None


def test_the_writer_is_told_when_its_process_is_dead(storage: SqlStorage) -> None:
    executor = register(storage)
    begin(storage, executor, "w")
    write(storage, executor, step("w"), end("w"))
    kill(storage, executor)
    [row] = read(storage, "SELECT writer FROM {schema}.steps")
    assert row.writer == executor
    assert storage.workflows.list_steps("w")[0].version == "v1"

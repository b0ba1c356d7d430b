"""What a value may be: what is taken comes back unchanged, what is not is refused with the write that holds it."""

import pytest

from dbos_events.errors import BadWrite
from dbos_events.model.workflow import WorkflowFilter
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.writes import WRITTEN
from tests.storage.building import begin, end, read, register, start, step, steps, workflow, write
from tests.storage.topics import event, topic

ODD = [
    "",
    " ",
    "a'b\"c",
    "a\\u0000b",
    "{list:ids}",
    ":name",
    "%s %(x)s",
    "ключ",
    "\U0001f600",
    "x" * 2000,
    "a\nb\tc\x7f",
]
BAD = {"nul": "a\0b", "surrogate": "a\ud800b"}


@pytest.mark.parametrize("text", ODD, ids=ascii)
def test_a_text_comes_back_as_it_was_written(storage: SqlStorage, text: str) -> None:
    executor = register(storage)
    begin(storage, executor, text, name=text, input=text)
    assert (
        write(storage, executor, step(text, output=text, name=text), end(text, output=text)) == [WRITTEN] * 2
    )
    [row] = storage.workflows.find(WorkflowFilter(workflow_ids=(text,)))
    assert (row["id"], row["name"], row["input"], row["output"]) == (text, text, text, text)
    [entry] = storage.workflows.list_steps(text)
    assert (entry.output, entry.name) == (text, text)


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
@pytest.mark.parametrize("place", ["output", "id", "input", "result", "name"])
def test_a_text_that_no_database_can_hold_is_refused_and_nothing_is_written(
    storage: SqlStorage, text: str, place: str
) -> None:
    executor = register(storage)
    begin(storage, executor, "w", "good")
    bad = {
        "output": step("w", output=text),
        "id": start(text),
        "input": start("new", input=text),
        "result": end("w", output=text),
        "name": start("new", name=text),
    }[place]
    with pytest.raises(BadWrite):
        write(storage, executor, step("good"), bad)
    assert [row.id for row in read(storage, "SELECT id FROM {schema}.workflows ORDER BY id")] == ["good", "w"]
    assert (steps(storage, "w"), steps(storage, "good")) == ({}, {})
    assert write(storage, executor, step("good")) == [WRITTEN], "the connection is as good as before"


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_an_id_that_no_database_can_hold_is_refused_when_it_is_asked_for(
    storage: SqlStorage, text: str
) -> None:
    for ask in (
        storage.workflows.read_checkpoints,
        storage.workflows.cancel,
        storage.workflows.resume,
        storage.intake.read_events,
    ):
        with pytest.raises(BadWrite):
            ask([text])


@pytest.mark.parametrize("priority", [2**31 - 1, -(2**31), 2**31])
def test_a_number_comes_back_or_is_refused(storage: SqlStorage, priority: int) -> None:
    executor = register(storage)
    try:
        write(storage, executor, start("w", priority=priority))
    except BadWrite:
        assert priority == 2**31
        assert storage.workflows.read_ending("w") is None
    else:
        assert workflow(storage, "w").priority == priority


def test_ten_megabytes_come_back(storage: SqlStorage) -> None:
    executor = register(storage)
    large = "äx" * 5_000_000
    begin(storage, executor, "w", input=large)
    write(storage, executor, step("w", output=large), end("w", output=large))
    ending = storage.workflows.read_ending("w")
    assert ending is not None
    assert ending.output == large
    assert steps(storage, "w") == {1: large}


@pytest.mark.parametrize(
    "value",
    [None, b"", b"\x00", bytes(range(256)), b"\xff" * 10_000_000],
    ids=["none", "empty", "nul", "all", "large"],
)
def test_bytes_of_an_event_come_back(storage: SqlStorage, value: bytes | None) -> None:
    orders = topic(storage)
    executor = register(storage)
    orders.intake(executor, {0: (orders.epoch(executor), 0, 1)}, events=[event(0, 0, key=value, value=value)])
    stored = storage.intake.read_events(["e-0-0"])["e-0-0"]
    assert (stored.key, stored.value) == (value, value)


def test_a_batch_of_values_and_nothings_keeps_them_apart(storage: SqlStorage) -> None:
    executor = register(storage)
    begin(storage, executor, "w")
    write(
        storage,
        executor,
        *(step("w", number, output=text) for number, text in enumerate([None, "", "null"], 1)),
    )
    assert steps(storage, "w") == {1: None, 2: "", 3: "null"}
    assert storage.workflows.read_checkpoints([]) == {}

"""Each filter of a listing narrows it, and nothing else does."""

from typing import Any

import pytest

from dbos_events.model.workflow import WorkflowFilter
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.testing.clock import START, ManualClock
from tests.storage.building import begin, end, park, register, write

T0 = round(START.timestamp() * 1000)


@pytest.fixture
def filled(storage: SqlStorage, clock: ManualClock) -> SqlStorage:
    """Six workflows, a second apart: a, b, c%_1 on one executor, d and e on another, f of another application."""
    one, two = register(storage, "one"), register(storage, "two")

    def at(second: int) -> None:
        clock.move_to(T0 + second * 1000)

    begin(storage, one, "a", name="alpha", input="[1]", codec="json")
    at(1)
    begin(storage, one, "b", name="beta", queue="q")
    at(2)
    begin(storage, one, "c%_1", parent_id="a", root_id="a", version="v2")
    at(3)
    begin(storage, two, "d", parent_id="b")
    at(4)
    begin(storage, two, "e", version=None)
    at(5)
    begin(storage, two, "f", application="another")
    at(10)
    write(storage, one, end("a", output="41", codec="json"))
    at(20)
    write(storage, two, end("d", status="ERROR", error="boom"), park("e", 1))
    return storage


def listed(storage: SqlStorage, **criteria: Any) -> list[str]:
    return [row["id"] for row in storage.workflows.find(WorkflowFilter(**criteria))]


@pytest.mark.parametrize(
    ("criteria", "expected"),
    [
        ({}, ["a", "b", "c%_1", "d", "e", "f"]),
        ({"workflow_ids": ("d", "a", "none")}, ["a", "d"]),
        ({"id_prefix": ("c%",)}, ["c%_1"]),
        ({"id_prefix": ("%",)}, []),
        ({"id_prefix": ("a", "b")}, ["a", "b"]),
        ({"statuses": ("SUCCESS", "ERROR")}, ["a", "d"]),
        ({"names": ("alpha", "beta")}, ["a", "b"]),
        ({"applications": ("another",)}, ["f"]),
        ({"versions": ("v2",)}, ["c%_1"]),
        ({"queues": ("q",)}, ["b"]),
        ({"executors": ("two",)}, ["d", "f"]),
        ({"parents": ("a",)}, ["c%_1"]),
        ({"created_from": T0 + 3000}, ["d", "e", "f"]),
        ({"created_until": T0 + 1000}, ["a", "b"]),
        ({"created_from": T0 + 1000, "created_until": T0 + 2000}, ["b", "c%_1"]),
        ({"completed_from": T0 + 10_001}, ["d"]),
        ({"completed_until": T0 + 10_000}, ["a"]),
        ({"on_a_queue": True}, ["b"]),
        ({"has_parent": True}, ["c%_1", "d"]),
        ({"has_parent": False, "statuses": ("PENDING",)}, ["e", "f"]),
        ({"limit": 2}, ["a", "b"]),
        ({"limit": 2, "offset": 3}, ["d", "e"]),
        ({"descending": True, "limit": 3}, ["f", "e", "d"]),
        ({"offset": 4}, ["e", "f"]),
    ],
    ids=str,
)
def test_a_listing_shows_what_fits(filled: SqlStorage, criteria: dict[str, Any], expected: list[str]) -> None:
    assert listed(filled, **criteria) == expected


def test_a_listing_may_leave_values_out(filled: SqlStorage) -> None:
    [row] = filled.workflows.find(WorkflowFilter(workflow_ids=("a",)))
    assert (row["input"], row["output"], row["error"], row["executor_label"]) == ("[1]", "41", None, "one")
    [bare] = filled.workflows.find(WorkflowFilter(workflow_ids=("a",), with_input=False, with_output=False))
    assert not {"input", "output", "error"} & set(bare)


def test_a_listing_orders_what_was_created_together_by_its_start(storage: SqlStorage) -> None:
    executor = register(storage)
    for number, name in enumerate(["z", "a", "m"]):
        begin(storage, executor, name, start_id=number)
    assert listed(storage) == ["z", "a", "m"]

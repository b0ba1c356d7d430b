"""A column is stated once in each statement, and once where it is a field."""

import re
from collections import namedtuple
from dataclasses import fields
from pathlib import Path

import pytest

import dbos_events
from dbos_events.storage.migrate import scripts_folder
from dbos_events.storage.shapes import Shape, records, tuples
from dbos_events.storage.statements import POSTGRES, load
from dbos_events.storage.writes import Checkpoint

PACKAGE = Path(dbos_events.__file__).parent
SOURCES = [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.sql"), *scripts_folder().rglob("*.py")]
COLUMN = "completion_order"
"""A column of checkpoints that nothing else is called by."""


def test_a_column_of_checkpoints_that_is_only_kept_and_given_back_touches_few_files() -> None:
    """`child_id` goes from the run to the row and back, and means next to nothing to the storage."""
    storing = {
        path.relative_to(PACKAGE.parent).as_posix()
        for path in SOURCES
        if path.is_relative_to(PACKAGE / "storage") and re.search(r"\bchild_id\b", path.read_text())
    }
    statements = {path for path in storing if path.endswith(".sql")}
    assert storing - statements == {
        "dbos_events/storage/writes/write.py",
        "dbos_events/storage/writes/own_checkpoints.py",
    }
    assert len(statements) <= 3


def test_a_statement_that_inserts_checkpoints_has_one_list_of_columns() -> None:
    text = (PACKAGE / "storage" / "sql" / "batch.sql").read_text()
    body = text.split("-- name: insert_checkpoints\n")[1].split(";")[0]
    assert body.count(COLUMN) == 1
    assert COLUMN in load(POSTGRES, "s")["insert_checkpoints"].names


def test_a_checkpoint_has_a_field_for_each_column_that_is_read() -> None:
    known = {field.name for field in fields(Checkpoint)}
    for name in ("read_checkpoints", "list_steps"):
        head = load(POSTGRES, "s")[name].sql.split("FROM")[0].removeprefix("SELECT")
        columns = {part.split(".")[-1].strip() for part in head.split(",")} - {"workflow_id"}
        assert columns == known


def test_rows_with_other_columns_than_the_statement_are_refused() -> None:
    assert tuples(["a", "b"], [{"b": 2, "a": 1}]) == [(1, 2)]
    with pytest.raises(TypeError, match="b"):
        tuples(["a", "b"], [{"a": 1, "c": 2}])


def test_a_shape_finds_columns_by_name_in_any_order_and_refuses_what_no_record_has() -> None:
    first, second = Checkpoint(3, "call", "name", 9), _Other(7)
    shape = Shape(["completion_order", "other", "step"], Checkpoint, _Other)
    assert shape.row(first, second) == (9, 7, 3)
    with pytest.raises(TypeError, match="missing"):
        Shape(["missing"], Checkpoint)


def test_a_value_is_made_by_the_names_of_the_columns() -> None:
    row = _Row(name="n", completion_order=2, call="c", step=1)
    assert records(Checkpoint, [row]) == [Checkpoint(1, "c", "n", 2)]


class _Other:
    _fields = ("other",)

    def __init__(self, other: int) -> None:
        self.other = other


_Row = namedtuple("_Row", ("name", "completion_order", "call", "step"))  # noqa: PYI024 - as a driver makes them

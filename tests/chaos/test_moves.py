"""The triggers of a chaos run see what must not happen to what workflows say and show, and note the moves of queues."""

import psycopg
import pytest

from tests.chaos.findings import REWRITTEN, WENT_BACK
from tests.chaos.made_rows import Made
from tests.chaos.timetable import read_starts

pytestmark = pytest.mark.postgres


@pytest.mark.parametrize(
    ("table", "column", "first", "second"),
    [
        ("messages", "consumed_step", 1, None),
        ("messages", "consumed_step", 1, 2),
        ("publications", "outcome", "taken", None),
        ("publications", "outcome", "expired", "taken"),
        ("stream_entries", "committed", True, False),
    ],
)
def test_what_is_decided_once_and_is_decided_again_is_seen(
    made: Made, table: str, column: str, first: object, second: object
) -> None:
    made.add(table)
    made.do(f"UPDATE {{t}}{table} SET {column} = ?", first)
    assert made.watched() == {}
    made.do(f"UPDATE {{t}}{table} SET {column} = ?", second)
    assert made.watched() == {REWRITTEN: 1}


@pytest.mark.parametrize(("value", "seen"), [("8", {}), ("7", {WENT_BACK: 1}), ("6", {WENT_BACK: 1})])
def test_a_published_value_that_does_not_grow_is_seen(made: Made, value: str, seen: dict[str, int]) -> None:
    made.add("published_values", workflow_id="w", key="state", number=1, value="7")
    made.add("published_values", workflow_id="other", key="state", number=1, value="9")
    made.add("published_values", workflow_id="w", key="state", number=2, value=value)
    assert made.watched() == seen


def test_a_checkpoint_that_is_withdrawn_in_the_transaction_that_wrote_it_was_never_there(made: Made) -> None:
    with psycopg.connect(made.url) as connection:
        connection.execute(
            "INSERT INTO dbos_events.checkpoints (workflow_id, generation, step, call, name, completion_order, writer, "
            "write_id) VALUES ('w', 0, 1, '1', 'one', 1, 1, 1)"
        )
        connection.execute("DELETE FROM dbos_events.checkpoints")
    assert made.watched() == {}


def test_the_moves_of_a_queue_are_noted_whoever_makes_them(made: Made) -> None:
    made.add("workflows", id="w", status="ENQUEUED", queue="narrow", deduplication_id="d")
    for change in (
        "status = 'PENDING', owner = 1",
        "take = take + 1",
        "owner = NULL, wake_at = 1",
        "owner = 2, wake_at = NULL",
        "status = 'SUCCESS'",
    ):
        made.do(f"UPDATE {{t}}workflows SET {change}")
    made.add("workflows", id="elsewhere", status="PENDING", owner=1)
    moves = made.rows.query("SELECT workflow_id, queue, move FROM chaos.moves ORDER BY ctid")
    assert moves == [("w", "narrow", move) for move in ("comes", "runs", "stops", "runs", "stops", "goes")]
    made.add("queue_starts", queue="paced", started_at=5)
    assert read_starts(made.rows, "paced") == [5]

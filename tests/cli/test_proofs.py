"""`dbos-events kafka trace` and `gaps` say what became of each offset, and fail when nothing does."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from dbos_events import App, KafkaMessage
from dbos_events.cli.root import app as command_line
from dbos_events.testing import TestApp
from tests.faults.rows import Rows

Run = Callable[..., Result]


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/shop.sqlite"


@pytest.fixture
def shop(database: str) -> Iterator[TestApp]:
    """`on_order` took in: one that ended well (0), one that failed (1), one that sleeps (2)."""
    app = App({"name": "shop"})

    @app.step(name="charge")
    def charge() -> str:
        return "charged"

    @app.kafka_consumer(topics=["orders"], name="on_order")
    def on_order(message: KafkaMessage[bytes]) -> None:
        charge()
        if message.value == b"bad":
            raise ValueError("no such article")
        if message.value == b"slow":
            app.sleep(3600)

    with TestApp(app, database_url=database) as dbos:
        for value in ("good", "bad", "slow"):
            dbos.deliver(on_order, value)
        dbos.run_until_idle()
        yield dbos


@pytest.fixture
def run(shop: TestApp, database: str) -> Run:
    runner = CliRunner()
    return lambda *arguments: runner.invoke(
        command_line, [*arguments, "--application", "shop", "--database", database]
    )


def traced(run: Run, offset: int, code: int = 0) -> dict[str, Any]:
    result = run("kafka", "trace", "orders", "0", str(offset), "--json")
    assert result.exit_code == code, result.output
    [found] = json.loads(result.stdout)
    return dict(found)


def test_an_event_is_told_with_its_steps_and_its_end(run: Run) -> None:
    good = traced(run, 0)
    assert (good["outcome"], good["consumer"], good["watermark"]) == ("succeeded", "on_order", 3)
    assert good["workflow"]["id"] == "kafka/shop.on_order/orders/1/0/0"
    assert [step["function_name"] for step in good["steps"]] == ["charge"]
    bad = traced(run, 1)
    assert (bad["outcome"], bad["quarantine"]["reason"]) == ("quarantined", "handler-failed")
    assert bad["workflow"]["error"]["message"] == "no such article"
    assert traced(run, 2)["outcome"] == "waiting"


def test_an_offset_without_a_workflow_says_why(run: Run, shop: TestApp, database: str) -> None:
    assert traced(run, 3)["meaning"] == "not taken in yet: the watermark is at 3"
    rows = Rows(database)
    rows.query("UPDATE watermarks SET next_offset = 12, first_offset = 0")
    rows.query(
        "INSERT INTO gaps (consumer, incarnation, partition, first_offset, next_offset, recorded_at, reason) "
        "VALUES (1, 1, 0, 3, 5, 0, 'missing'), (1, 1, 0, 5, 7, 0, 'filtered'), (1, 1, 0, 7, 10, 0, 'skipped')"
    )
    outcomes = {offset: traced(run, offset)["outcome"] for offset in (4, 6, 9)}
    assert outcomes == {4: "gap", 6: "filtered", 9: "gap"}
    assert traced(run, 11, code=1)["outcome"] == "unexplained"
    rows.query("UPDATE watermarks SET first_offset = 12")
    assert traced(run, 11)["outcome"] == "before-start"


def test_a_trace_is_to_be_read_by_people_as_well(run: Run) -> None:
    text = run("kafka", "trace", "orders", "0", "1").stdout
    assert "outcome      quarantined: it was put aside: handler-failed" in text
    assert "ValueError: no such article" in text
    assert "step 1 charge: done" in text


def test_what_nobody_reads_is_an_error_that_names_what_is_read(run: Run) -> None:
    topic = run("kafka", "trace", "order", "0", "1")
    assert topic.exit_code == 1
    assert "reads the topic 'order'. There are orders." in topic.stderr
    partition = run("kafka", "trace", "orders", "7", "1")
    assert partition.exit_code == 1
    assert "partition 7 of orders. It knows [0]." in partition.stderr


def test_no_gap_is_good_news(run: Run) -> None:
    result = run("kafka", "gaps")
    assert result.exit_code == 0
    assert result.stdout == "Every offset below the watermarks has a workflow or a stated reason.\n"
    assert json.loads(run("kafka", "gaps", "--json").stdout) == []


def test_what_nothing_explains_is_listed_and_fails(run: Run, shop: TestApp, database: str) -> None:
    rows = Rows(database)
    rows.query("DELETE FROM workflows WHERE position = 1")
    result = run("kafka", "gaps")
    assert result.exit_code == 1
    assert "UNEXPLAINED" in result.stdout
    assert "Nothing explains" in result.stderr
    [gap] = json.loads(run("kafka", "gaps", "--json").stdout)
    assert (gap["partition"], gap["first_offset"], gap["next_offset"], gap["reason"]) == (0, 1, 2, None)

    rows.query(
        "INSERT INTO gaps (consumer, incarnation, partition, first_offset, next_offset, recorded_at, reason, records) "
        "VALUES (1, 1, 0, 1, 2, 0, 'filtered', 1)"
    )
    assert run("kafka", "gaps").exit_code == 0
    [stated] = json.loads(run("kafka", "gaps", "--all", "--json").stdout)
    assert (stated["reason"], stated["records"]) == ("filtered", 1)
    assert run("kafka", "gaps", "--topic", "other").exit_code == 0

"""Rule 7: somebody has started a workflow under the id of an event that is still to come."""

import logging
from collections.abc import Iterator

import pytest

from dbos_events import SetWorkflowID
from dbos_events_kafka.testing import EmbeddedBroker
from tests.connectors.kafka.consuming import Consumers, Counting
from tests.faults.rows import Rows
from tests.faults.waiting import wait_until

TAKEN = "kafka/rules.consumer/orders/1/0/1"


@pytest.fixture
def embedded() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as broker:
        broker.create_topic("orders", partitions=2)
        yield broker


@pytest.fixture
def made(database_url: str, embedded: EmbeddedBroker) -> Iterator[Consumers]:
    """Apps on either database and the embedded broker."""
    with Consumers(database_url, embedded.bootstrap_servers) as apps:
        yield apps


def test_the_partition_is_halted_with_what_to_do_and_the_event_runs_after_it(
    made: Consumers, embedded: EmbeddedBroker, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="dbos_events")
    stored, counting = Rows(database_url), Counting()
    app = made.app()

    @app.workflow()
    def by_hand() -> str:
        return "by hand"

    made.declare(app, "orders", counting.sync_handler)
    made.launch(app)
    with SetWorkflowID(TAKEN):
        assert app.start_workflow(by_hand).get_result() == "by hand"
    embedded.produce("orders", b"0", b"1", b"2", partition=0)
    embedded.produce("orders", b"0", partition=1)

    wait_until(lambda: stored.watermarks() == {0: 1, 1: 1}, "the other events are not taken in")
    wait_until(lambda: app.health().problems, "nothing is said")
    [problem] = app.health().problems
    assert "orders[0] is halted" in problem
    assert f"would be the workflow {TAKEN}" in problem
    assert "resolve-truncation" in problem
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len([record for record in errors if TAKEN in record.getMessage()]) == 1

    app.launched.storage.decisions.resolve_truncation("rules", "consumer", ("orders", 0), None)
    wait_until(lambda: stored.succeeded() == 4, "the events after the decision do not run")
    assert counting.executions == {(0, 0): 1, (0, 1): 1, (0, 2): 1, (1, 0): 1}

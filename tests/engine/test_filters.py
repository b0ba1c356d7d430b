"""`when`: what it says no to is counted and starts nothing; what it cannot judge is put aside, never run."""

from typing import Any

import pydantic
import pytest

from dbos_events import App, KafkaMessage
from dbos_events.errors import DBOSNonExistentWorkflowError, FilterFailed, UndecodablePayload
from dbos_events.testing.plugin import MakeTestApp
from tests.engine.test_typed_events import quarantined, redrive
from tests.faults.rows import Rows

ORDERS = "orders"
ORDERED: list[dict[str, Any]] = [{"ordering": ordering} for ordering in ("partition", "key", "topic")]


class Order(pydantic.BaseModel):
    id: int
    paid: bool = True


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def seen() -> list[Any]:
    return []


class Rule:
    """Takes what is not `b"no"`; fails on `b"?"` until it is mended."""

    def __init__(self, mended: bool | None = None) -> None:
        self.mended = mended
        self.asked: list[bytes | str | None] = []

    def __call__(self, message: KafkaMessage) -> bool:
        self.asked.append(message.value)
        if message.value != b"?":
            return message.value != b"no"
        if self.mended is None:
            raise LookupError("what is this")
        return self.mended


def gaps(app: App) -> list[Any]:
    return Rows(app.launched.settings.database_url).query(
        "SELECT partition, first_offset, next_offset, reason, records FROM gaps ORDER BY 1, 2"
    )


@pytest.mark.parametrize("options", [{}, *ORDERED, {"queue_name": "slow"}], ids=str)
def test_what_a_filter_says_no_to_is_counted_and_starts_nothing(
    app: App, seen: list[Any], dbos_test_app: MakeTestApp, options: dict[str, Any]
) -> None:
    app.queue("slow")

    @app.kafka_consumer(topics=ORDERS, when=Rule(), **options)
    def on_order(message: KafkaMessage) -> None:
        seen.append(message.offset)

    dbos = dbos_test_app(app)
    handles = [dbos.deliver(on_order, value, key="k") for value in (b"yes", b"no", b"no", b"yes", None)]
    dbos.deliver(on_order, b"no", partition=2)
    dbos.run_until_idle()
    assert sorted(seen) == [0, 3, 4]
    assert {handles[offset].get_status().status for offset in (0, 3, 4)} == {"SUCCESS"}
    with pytest.raises(DBOSNonExistentWorkflowError):
        handles[1].get_status()
    states = {state.partition: state for state in app.launched.storage.positions.read("test")}
    assert {number: (state.next_offset, state.filtered) for number, state in states.items()} == {
        0: (5, 2),
        2: (1, 1),
    }
    assert gaps(app) == [(0, 1, 2, "filtered", 1), (0, 2, 3, "filtered", 1), (2, 0, 1, "filtered", 1)]
    assert dbos.filtered(on_order) == 3


def test_a_filtered_event_is_not_taken_in_again_after_a_crash(
    app: App, seen: list[Any], dbos_test_app: MakeTestApp
) -> None:
    rule = Rule()

    @app.kafka_consumer(topics=ORDERS, when=rule, ordering="partition")
    def on_order(message: KafkaMessage) -> None:
        seen.append(message.offset)

    dbos = dbos_test_app(app)
    for value in (b"yes", b"no"):
        dbos.deliver(on_order, value)
    dbos.run_until_idle()
    dbos.crash()
    dbos.deliver(on_order, b"yes").get_result()
    assert seen == [0, 2]
    assert rule.asked == [b"yes", b"no", b"yes"]
    assert dbos.filtered(on_order) == 1


def test_a_filter_may_take_the_decoded_value(app: App, seen: list[Any], dbos_test_app: MakeTestApp) -> None:
    def is_paid(order: Order) -> bool:
        return order.paid

    @app.kafka_consumer(topics=ORDERS, when=is_paid)
    def on_order(message: KafkaMessage) -> None:
        seen.append(message.value)

    dbos = dbos_test_app(app)
    dbos.deliver(on_order, Order(id=1))
    dbos.deliver(on_order, Order(id=2, paid=False))
    undecodable = dbos.deliver(on_order, b"{}")
    dbos.run_until_idle()
    assert seen == [Order(id=1).model_dump_json().encode()]
    assert dbos.filtered(on_order) == 1
    with pytest.raises(
        UndecodablePayload, match=r"`when` of the consumer .* cannot be asked.*id: Field required"
    ):
        undecodable.get_result()
    assert quarantined(app)[undecodable.workflow_id][0] == "undecodable"


@pytest.mark.parametrize("options", [{}, *ORDERED, {"queue_name": "slow"}], ids=str)
@pytest.mark.parametrize("on_failure", ["quarantine", "record"])
def test_what_a_filter_cannot_judge_is_taken_in_and_not_run(
    app: App, seen: list[Any], dbos_test_app: MakeTestApp, options: dict[str, Any], on_failure: Any
) -> None:
    app.queue("slow")

    @app.kafka_consumer(topics=ORDERS, when=Rule(), on_failure=on_failure, **options)
    def on_order(message: KafkaMessage) -> None:
        seen.append(message.offset)

    dbos = dbos_test_app(app)
    _, failed, behind = [dbos.deliver(on_order, value, key="k") for value in (b"yes", b"?", b"yes")]
    dbos.run_until_idle()
    error = failed.get_status().error
    assert isinstance(error, FilterFailed)
    assert "could not judge orders/0/1: LookupError: what is this (test_filters.py:" in error.message
    held = on_failure == "quarantine" and "ordering" in options
    assert behind.get_status().status == ("PENDING" if held else "SUCCESS")
    assert sorted(seen) == ([0] if held else [0, 2])
    reasons = {workflow_id: reason for workflow_id, (reason, _) in quarantined(app).items()}
    assert reasons == ({failed.workflow_id: "filter-failed"} if on_failure == "quarantine" else {})


@pytest.mark.parametrize("options", [*ORDERED, {"queue_name": "slow"}], ids=str)
def test_no_other_process_runs_what_a_filter_could_not_judge(
    app: App, seen: list[Any], dbos_test_app: MakeTestApp, options: dict[str, Any]
) -> None:
    app.queue("slow", concurrency=1)
    rule = Rule()

    @app.kafka_consumer(topics=ORDERS, when=rule, **options)
    def on_order(message: KafkaMessage) -> None:
        seen.append(message.offset)
        app.sleep(60)

    dbos = dbos_test_app(app)
    first, failed = [dbos.deliver(on_order, value, key="k") for value in (b"yes", b"?")]
    if "ordering" in options:
        dbos.run_until_idle()  # the second waits behind the first
    assert failed.get_status().status in ("PENDING", "ENQUEUED")
    rule.mended = True
    dbos.crash()
    dbos.advance(minutes=5)
    assert first.get_status().status == "SUCCESS"
    assert isinstance(failed.get_status().error, FilterFailed)
    assert set(seen) == {0}
    assert rule.asked == [b"yes", b"?"]


@pytest.mark.parametrize(("mended", "runs"), [(True, True), (False, False), (None, False)])
def test_a_redrive_asks_the_filter_again(
    app: App, seen: list[Any], dbos_test_app: MakeTestApp, mended: bool | None, runs: bool
) -> None:
    rule = Rule()

    @app.kafka_consumer(topics=ORDERS, when=rule)
    def on_order(message: KafkaMessage) -> str:
        seen.append(message.value)
        return "ran"

    dbos = dbos_test_app(app)
    failed, fine = dbos.deliver(on_order, b"?"), dbos.deliver(on_order, b"yes")
    dbos.run_until_idle()
    rule.mended = mended
    redrive(app, failed.workflow_id)
    redrive(app, fine.workflow_id)
    dbos.run_until_idle()
    status = failed.get_status()
    assert status.status == ("ERROR" if mended is None else "SUCCESS")
    assert status.output == ("ran" if runs else None)
    assert (b"?" in seen) is runs
    assert rule.asked == [b"?", b"yes", b"?"]  # what was judged once is not judged again

"""Decisions about events in quarantine: redrive and discard (protocol, rules 2, 6 and 11; P8)."""

import asyncio
import threading
from typing import Any

import pytest

from dbos_events import App, KafkaMessage, Retry
from dbos_events.errors import DBOSException, DBOSNonExistentWorkflowError
from dbos_events.model.quarantine import DecidedEvents
from dbos_events.testing import ManualClock, TestApp
from dbos_events.testing.plugin import MakeTestApp

PATIENCE = 10.0


class Shop:
    """A consumer whose step `broken` fails until it is mended."""

    def __init__(self, app: App, **options: Any) -> None:
        self.app = app
        self.calls: list[Any] = []
        self.broken: str | None = "charge"

        @app.step()
        def step(name: str, value: bytes) -> str:
            self.calls.append((name, value))
            if name == self.broken:
                raise OSError(f"{name} is down")
            return name

        @app.kafka_consumer(None, "orders", name="shop", **options)
        def on_order(msg: KafkaMessage[bytes]) -> list[str]:
            return [step("reserve", b""), step("charge", msg.value), step("ship", b"")]

        self.handler = on_order

    @property
    def steps(self) -> list[str]:
        return [name for name, _ in self.calls]

    def fail(self, dbos: TestApp, value: bytes = b"x", partition: int = 0) -> str:
        """Deliver an event that ends in quarantine; gives its id."""
        handle = dbos.deliver(self.handler, value, partition=partition, key="ada")
        dbos.run_until_idle()
        return handle.workflow_id

    def mend(self) -> None:
        self.broken = None
        self.calls.clear()

    def status(self, workflow_id: str) -> str:
        found = self.app.get_workflow_status(workflow_id)
        assert found is not None
        return found.status


@pytest.fixture
def app() -> App:
    return App()


# ------------------------------------------------------------------ redrive


def test_rule_6_a_redrive_after_a_fix_repeats_only_what_failed(app: App, dbos_test_app: MakeTestApp) -> None:
    shop = Shop(app)
    dbos = dbos_test_app(app)
    failed = shop.fail(dbos)
    shop.mend()
    dbos.crash(application_version="fixed")
    assert app.redrive_events(failed) == DecidedEvents((failed,))
    dbos.run_until_idle()
    assert shop.status(failed) == "SUCCESS"
    assert shop.steps == ["charge", "ship"]
    assert app.retrieve_workflow(failed).get_result() == ["reserve", "charge", "ship"]
    assert app.list_quarantined() == []
    assert [event.released_as for event in app.list_quarantined(released=True)] == ["redriven"]


def test_a_redriven_event_that_ends_without_a_value_shows_no_old_error(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    mended: list[int] = []

    @app.kafka_consumer(None, "orders")
    def on_order(msg: KafkaMessage) -> None:
        if not mended:
            raise ValueError("boom")

    dbos = dbos_test_app(app)
    handle = dbos.deliver(on_order, "x")
    dbos.run_until_idle()
    mended.append(1)
    app.redrive_events(handle.workflow_id)
    assert handle.get_status().error is None
    dbos.run_until_idle()
    assert (handle.get_status().status, handle.get_status().error) == ("SUCCESS", None)
    detail = app.get_quarantined(handle.workflow_id)
    assert detail is not None
    assert [(one.ended_as, one.error_message) for one in detail.generations] == [("redrive", "boom")]


def test_a_redrive_resets_the_attempts(app: App, dbos_test_app: MakeTestApp) -> None:
    shop = Shop(app, retries=Retry(2, 60))
    dbos = dbos_test_app(app)
    failed = shop.fail(dbos)
    dbos.advance(seconds=60)
    assert shop.steps == ["reserve", "charge", "charge"]
    app.redrive_events(failed)
    dbos.run_until_idle()
    assert shop.status(failed) == "PENDING"
    dbos.advance(seconds=60)
    assert shop.steps == ["reserve"] + ["charge"] * 4
    (event,) = app.list_quarantined()
    assert (event.attempts, event.generation) == (2, 3)
    detail = app.get_quarantined(failed)
    assert detail is not None
    assert [(one.generation, one.ended_as) for one in detail.generations] == [
        (0, "retry"),
        (1, "redrive"),
        (2, "retry"),
    ]
    assert detail.generations[0].steps == ((2, shop.app.list_workflow_steps(failed)[0].function_name),)


def test_a_redrive_from_a_step_repeats_it_and_those_after_it(app: App, dbos_test_app: MakeTestApp) -> None:
    shop = Shop(app)
    shop.broken = "ship"
    dbos = dbos_test_app(app)
    failed = shop.fail(dbos)
    shop.mend()
    app.redrive_events(failed, from_step=2)
    dbos.run_until_idle()
    assert shop.status(failed) == "SUCCESS"
    assert shop.steps == ["charge", "ship"]


def test_a_fresh_redrive_repeats_everything(app: App, dbos_test_app: MakeTestApp) -> None:
    shop = Shop(app)
    dbos = dbos_test_app(app)
    failed = shop.fail(dbos)
    shop.mend()
    app.redrive_events(failed, fresh=True)
    dbos.run_until_idle()
    assert shop.status(failed) == "SUCCESS"
    assert shop.steps == ["reserve", "charge", "ship"]


def test_an_edited_value_stands_beside_the_received_one(app: App, dbos_test_app: MakeTestApp) -> None:
    shop = Shop(app, retries=Retry(2, 60))
    dbos = dbos_test_app(app)
    failed = shop.fail(dbos, b"\xff wrong")
    dbos.advance(seconds=60)
    app.redrive_events(failed, value=b"right", by="ada@desk")
    dbos.run_until_idle()
    dbos.crash()
    shop.broken = None
    dbos.advance(seconds=60)
    assert shop.status(failed) == "SUCCESS"
    assert shop.calls[-3:] == [("charge", b"right"), ("charge", b"right"), ("ship", b"")]
    detail = app.get_quarantined(failed)
    assert detail is not None
    assert detail.value == b"\xff wrong"
    assert [(edit.value, edit.edited_by, edit.generation) for edit in detail.edits] == [
        (b"right", "ada@desk", 2)
    ]


def test_an_edited_value_may_change_what_earlier_steps_are_called_with(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    calls: list[bytes | str] = []

    @app.step()
    def step(value: bytes) -> None:
        calls.append(value)

    @app.step()
    def unchanged() -> None:
        calls.append("unchanged")

    @app.kafka_consumer(None, "orders")
    def on_order(msg: KafkaMessage[bytes]) -> None:
        unchanged()
        step(msg.value)
        if msg.value == b"wrong":
            raise ValueError

    dbos = dbos_test_app(app)
    handle = dbos.deliver(on_order, b"wrong")
    dbos.run_until_idle()
    app.redrive_events(handle.workflow_id, value="right")
    dbos.run_until_idle()
    assert handle.get_status().status == "SUCCESS"
    assert calls == ["unchanged", b"wrong", b"right"]


def test_a_version_mismatch_is_redriven_under_the_code_that_fits(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    calls: list[str] = []
    names = ["reserve", "charge"]

    @app.step()
    def step(name: str) -> None:
        calls.append(name)

    @app.kafka_consumer(None, "orders", retries=Retry(5, 1))
    def on_order(msg: KafkaMessage) -> None:
        step(names[0])
        app.sleep(60)
        step(names[1])

    dbos = dbos_test_app(app)
    handle = dbos.deliver(on_order, "x")
    dbos.run_until_idle()
    names[0] = "renamed"
    dbos.crash(application_version="bad")
    dbos.advance(minutes=10)
    (event,) = app.list_quarantined(quarantine_reason="version-mismatch")
    assert event.attempts == 1
    names[0] = "reserve"
    dbos.crash(application_version="good")
    app.redrive_events(handle.workflow_id)
    dbos.run_until_idle()
    assert handle.get_status().status == "SUCCESS"
    assert calls == ["reserve", "charge"]


def test_a_cancelled_event_is_redriven_with_all_that_it_has_done(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    calls: list[str] = []

    @app.step()
    def step(name: str) -> None:
        calls.append(name)

    @app.kafka_consumer(None, "orders", ordering="partition")
    def on_order(msg: KafkaMessage) -> None:
        step(f"first {msg.offset}")
        app.sleep(60)
        step(f"last {msg.offset}")

    dbos = dbos_test_app(app)
    handles = [dbos.deliver(on_order, "x") for _ in range(2)]
    dbos.run_until_idle()
    app.cancel_workflow(handles[0].workflow_id)
    dbos.advance(hours=1)
    assert calls == ["first 0"]
    assert app.redrive_events(everything=True).changed == (handles[0].workflow_id,)
    dbos.advance(minutes=2)
    assert calls == ["first 0", "last 0", "first 1", "last 1"]


def test_an_event_that_crashed_too_often_is_redriven(app: App, dbos_test_app: MakeTestApp) -> None:
    mended: list[int] = []

    @app.kafka_consumer(None, "orders")
    @app.workflow(max_recovery_attempts=1)
    def on_order(msg: KafkaMessage) -> str:
        if not mended:
            dbos.crash()
        return "fine"

    dbos = dbos_test_app(app)
    handle = dbos.deliver(on_order, "x")
    dbos.run_until_idle()
    assert handle.get_status().status == "MAX_RECOVERY_ATTEMPTS_EXCEEDED"
    mended.append(1)
    app.redrive_events(handle.workflow_id)
    dbos.run_until_idle()
    assert handle.get_result() == "fine"


def test_an_event_of_a_queue_goes_back_to_it(app: App, dbos_test_app: MakeTestApp) -> None:
    app.queue("slow", concurrency=1)
    shop = Shop(app, queue_name="slow")
    dbos = dbos_test_app(app)
    failed = shop.fail(dbos)
    shop.mend()
    app.redrive_events(failed)
    found = app.get_workflow_status(failed)
    assert found is not None
    assert (found.status, found.queue_name) == ("ENQUEUED", "slow")
    dbos.run_until_idle()
    assert shop.status(failed) == "SUCCESS"


def test_rule_2_a_live_zombie_of_the_old_generation_writes_nothing(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    calls: list[str] = []
    inside, go_on = threading.Event(), threading.Event()

    @app.step()
    def step(name: str) -> str:
        calls.append(name)
        if calls == ["first"]:
            inside.set()
            assert go_on.wait(PATIENCE)
            return "from the zombie"
        return name

    @app.kafka_consumer(None, "orders")
    def on_order(msg: KafkaMessage) -> list[str]:
        return [step("first"), step("second")]

    dbos = dbos_test_app(app)
    handle = dbos.deliver(on_order, "x")
    assert inside.wait(PATIENCE)
    run = dbos.core.runner.active[handle.workflow_id]
    app.launched.storage.workflows.cancel([handle.workflow_id])  # elsewhere: this process has not heard of it
    assert app.redrive_events(handle.workflow_id).changed == (handle.workflow_id,)
    app.launched.queues.tick()
    deadline = threading.Event()
    while "second" not in calls:
        deadline.wait(0.001)
    go_on.set()
    dbos.run_until_idle()
    assert handle.get_status().status == "SUCCESS"
    assert app.retrieve_workflow(handle.workflow_id).get_result() == ["first", "second"]
    assert run.ending is not None
    assert run.ending.kind == "lost"
    assert calls == ["first", "first", "second"]


# ------------------------------------------------------------------ discard


@pytest.mark.parametrize("ordering", ["partition", "key", "topic"])
def test_rule_11_a_discard_lets_the_next_of_its_lane_run(
    app: App, dbos_test_app: MakeTestApp, ordering: str
) -> None:
    shop = Shop(app, ordering=ordering)
    dbos = dbos_test_app(app)
    failed = shop.fail(dbos)
    behind = shop.fail(dbos)
    assert (shop.status(failed), shop.status(behind)) == ("ERROR", "PENDING")
    shop.mend()
    app.discard_events(failed, reason="a test order", by="ada@desk")
    dbos.run_until_idle()
    assert (shop.status(failed), shop.status(behind)) == ("ERROR", "SUCCESS")
    detail = app.get_quarantined(failed)
    assert detail is not None
    assert (detail.event.released_as, detail.event.lane) == ("discarded", None)
    (decision,) = detail.decisions
    assert (decision.decision, decision.decided_by, decision.reason) == (
        "discard",
        "ada@desk",
        "a test order",
    )


@pytest.mark.parametrize("ordering", ["partition", "key", "topic"])
def test_a_redriven_event_runs_before_those_behind_it(
    app: App, dbos_test_app: MakeTestApp, ordering: str
) -> None:
    shop = Shop(app, ordering=ordering)
    dbos = dbos_test_app(app)
    failed = shop.fail(dbos, b"1")
    shop.fail(dbos, b"2")
    shop.mend()
    app.redrive_events(failed)
    dbos.run_until_idle()
    assert [value for name, value in shop.calls if name == "charge"] == [b"1", b"2"]


def test_a_discard_needs_a_reason(app: App, dbos_test_app: MakeTestApp) -> None:
    shop = Shop(app)
    dbos = dbos_test_app(app)
    failed = shop.fail(dbos)
    with pytest.raises(DBOSException, match="needs a reason"):
        app.discard_events(failed, reason=" ")
    assert [event.workflow_id for event in app.list_quarantined()] == [failed]


def test_what_was_discarded_is_not_redriven(app: App, dbos_test_app: MakeTestApp) -> None:
    shop = Shop(app)
    dbos = dbos_test_app(app)
    failed = shop.fail(dbos)
    app.discard_events(failed, reason="a test order")
    assert app.redrive_events(failed) == DecidedEvents((), (failed,))
    assert app.discard_events(failed, reason="again") == DecidedEvents((), (failed,))
    dbos.run_until_idle()
    assert shop.status(failed) == "ERROR"


# ------------------------------------------------------------------ which, and who


def test_filters_choose_and_a_dry_run_changes_nothing(app: App, dbos_test_app: MakeTestApp) -> None:
    shop = Shop(app)
    dbos = dbos_test_app(app)
    first, second, other = (shop.fail(dbos, partition=partition) for partition in (0, 0, 1))
    (event, *_) = app.list_quarantined()
    assert (event.consumer, event.topic, event.partition, event.offset) == ("shop", "orders", 0, 0)
    chosen = {
        "partition": app.redrive_events(partition=1, dry_run=True).changed,
        "offsets": app.redrive_events(partition=0, first_offset=1, last_offset=1, dry_run=True).changed,
        "type": app.redrive_events(error_type="OSError", limit=1, dry_run=True).changed,
        "text": app.redrive_events(error_text="Charge is", dry_run=True).changed,
        "other type": app.redrive_events(error_type="ValueError", dry_run=True).changed,
        "other consumer": app.redrive_events(consumer="other", dry_run=True).changed,
        "later": app.redrive_events(since="2031-01-01T00:00:00Z", dry_run=True).changed,
    }
    assert chosen == {
        "partition": (other,),
        "offsets": (second,),
        "type": (first,),
        "text": (first, second, other),
        "other type": (),
        "other consumer": (),
        "later": (),
    }
    assert len(app.list_quarantined()) == 3


def test_an_event_that_fails_again_is_not_redriven_twice_by_one_command(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    shop = Shop(app)
    dbos = dbos_test_app(app)
    failed = [shop.fail(dbos) for _ in range(3)]
    shop.calls.clear()
    assert sorted(app.redrive_events(consumer="shop", rate=1).changed) == sorted(failed)
    dbos.run_until_idle()
    assert shop.steps == ["charge"] * 3
    assert len(app.list_quarantined()) == 3


def test_who_decided_what_is_kept(app: App, dbos_test_app: MakeTestApp) -> None:
    clock = ManualClock()
    shop = Shop(app)
    dbos = dbos_test_app(app, clock=clock)
    failed = shop.fail(dbos)
    app.redrive_events(failed, from_step=1, reason="ticket 7")
    dbos.advance(minutes=1)
    app.redrive_events(consumer="shop", fresh=True, by="ada@desk")
    dbos.advance(minutes=1)
    app.discard_events(failed, reason="never mind", by="ada@desk")
    detail = app.get_quarantined(failed)
    assert detail is not None
    first, second, third = detail.decisions
    assert "@" in first.decided_by
    assert (first.decision, first.reason, first.generation) == ("redrive", "ticket 7", 0)
    assert first.details == {"from_step": 1}
    assert second.details == {"fresh": True, "filter": {"applications": ["test"], "consumers": ["shop"]}}
    assert (third.decision, third.generation, third.decided_at) == ("discard", 2, clock.now_ms())


def test_decisions_that_cannot_be_meant_are_refused(app: App, dbos_test_app: MakeTestApp) -> None:
    shop = Shop(app)
    dbos = dbos_test_app(app)
    failed = shop.fail(dbos)
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("which events are meant", {}),
        ("fresh", {"workflow_ids": failed, "fresh": True, "from_step": 2}),
        ("count from 1", {"workflow_ids": failed, "from_step": 0}),
        ("belongs to one event", {"consumer": "shop", "value": b"x"}),
        ("more than 0", {"workflow_ids": failed, "rate": 0}),
    ]
    for says, options in wrong:
        with pytest.raises(DBOSException, match=says):
            app.redrive_events(**options)
    with pytest.raises(DBOSNonExistentWorkflowError):
        app.redrive_events([failed, "nobody"])
    assert len(app.list_quarantined()) == 1


def test_on_a_loop_the_async_twins_do_it(app: App, dbos_test_app: MakeTestApp) -> None:
    shop = Shop(app)
    dbos = dbos_test_app(app)
    failed, other = shop.fail(dbos), shop.fail(dbos)

    async def decide() -> list[Any]:
        with pytest.raises(RuntimeError, match="redrive_events_async"):
            app.redrive_events(failed)
        detail = await app.get_quarantined_async(failed)
        assert detail is not None
        return [
            await app.redrive_events_async(failed),
            await app.discard_events_async(other, reason="a test order"),
            await app.list_quarantined_async(),
        ]

    assert asyncio.run(decide()) == [DecidedEvents((failed,)), DecidedEvents((other,)), []]


def test_a_workflow_may_decide_and_its_replay_does_not_decide_again(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    shop = Shop(app)
    decided: list[Any] = []

    @app.workflow()
    def nightly() -> None:
        waiting = app.list_quarantined(consumer="shop")
        detail = app.get_quarantined(waiting[0].workflow_id)
        assert detail is not None
        decided.append((detail.event, detail.value, str(detail.error), app.redrive_events(consumer="shop")))
        app.sleep(60)

    dbos = dbos_test_app(app)
    shop.fail(dbos)
    app.start_workflow(nightly)
    dbos.advance(minutes=2)
    assert decided[0] == decided[1]
    assert shop.steps == ["reserve", "charge", "charge"]

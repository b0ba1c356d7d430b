"""A deploy whose handler fails: intake stops, nothing is lost, a trial finds out when it is mended."""

from typing import Any

import pytest

from dbos_events import App, Breaker, KafkaMessage
from dbos_events.errors import DBOSException, RegistrationError
from dbos_events.testing.plugin import MakeTestApp

BREAKER = Breaker(min_events=4, consecutive_failures=3, open_seconds=30, max_open_seconds=60)


class Shop:
    """An App whose handler is broken until the test mends it."""

    def __init__(self, **options: Any) -> None:
        self.app = App({"name": "shop"})
        self.app.queue("orders")
        self.broken = True
        self.handled: list[str] = []
        options.setdefault("breaker", BREAKER)

        @self.app.kafka_consumer(topics=["orders"], name="orders", **options)
        def on_order(message: KafkaMessage[bytes]) -> None:
            if self.broken:
                raise ValueError("bad deploy")
            self.handled.append((message.value or b"").decode())

        self.on_order = on_order

    def states(self) -> tuple[str | None, int]:
        [state] = self.app.launched.storage.consumers.states("shop")
        return state.breaker, state.openings

    @property
    def problems(self) -> list[str]:
        return [text for text in self.app.health().problems if text.startswith("orders: ")]


def open_it(shop: Shop, dbos: Any) -> None:
    for number in range(3):
        dbos.deliver(shop.on_order, str(number))
    dbos.run_until_idle()
    assert shop.states() == ("open", 1)


@pytest.mark.parametrize("queue", [None, "orders"])
def test_a_bad_deploy_stops_intake_and_a_trial_of_the_mended_one_starts_it(
    dbos_test_app: MakeTestApp, queue: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    shop = Shop(queue_name=queue)
    dbos = dbos_test_app(shop.app)
    open_it(shop, dbos)

    with pytest.raises(
        DBOSException, match="3 events failed one after the other; a trial event is let in at"
    ):
        dbos.deliver(shop.on_order, "refused")
    [problem] = shop.problems
    assert "the circuit breaker is open since 2030-01-01T00:00:00Z" in problem
    assert sum("circuit breaker is open" in line for line in caplog.messages) == 1

    shop.broken = False
    dbos.advance(seconds=30)
    trial = dbos.deliver(shop.on_order, "trial")
    with pytest.raises(DBOSException):
        dbos.deliver(shop.on_order, "behind the trial")
    dbos.run_until_idle()
    assert trial.get_status().status == "SUCCESS"
    assert shop.states() == (None, 0)
    assert shop.problems == []
    for number in range(5):
        dbos.deliver(shop.on_order, str(number))
    dbos.run_until_idle()
    assert sorted(shop.handled) == ["0", "1", "2", "3", "4", "trial"]


def test_a_trial_that_fails_makes_the_pause_longer_up_to_a_bound(dbos_test_app: MakeTestApp) -> None:
    shop = Shop()
    dbos = dbos_test_app(shop.app)
    open_it(shop, dbos)
    for number, seconds in enumerate((30, 60, 60)):
        dbos.advance(seconds=seconds - 1)
        with pytest.raises(DBOSException):
            dbos.deliver(shop.on_order, "too early")
        dbos.advance(seconds=1)
        dbos.deliver(shop.on_order, "trial")
        dbos.run_until_idle()
        assert shop.states() == ("open", number + 2)


def test_an_open_breaker_stays_open_over_a_restart(dbos_test_app: MakeTestApp) -> None:
    shop = Shop()
    dbos = dbos_test_app(shop.app)
    open_it(shop, dbos)
    dbos.crash()
    shop.broken = False
    with pytest.raises(DBOSException, match="circuit breaker"):
        dbos.deliver(shop.on_order, "refused")


def test_one_process_tries_and_another_when_nothing_came_of_that(dbos_test_app: MakeTestApp) -> None:
    shop = Shop()
    dbos = dbos_test_app(shop.app)
    open_it(shop, dbos)
    shop.broken = False
    dbos.advance(seconds=30)
    storage = shop.app.launched.storage
    [state] = storage.consumers.states("shop")
    assert storage.breakers.begin_trial(999, state.id, state.epoch, 30_000), (
        "another process, which dies before it has one"
    )
    with pytest.raises(DBOSException, match="half-open"):
        dbos.deliver(shop.on_order, "refused")
    dbos.advance(seconds=30)
    dbos.deliver(shop.on_order, "trial")
    dbos.run_until_idle()
    assert shop.states() == (None, 0)


def test_a_trial_that_crashes_the_process_decides_when_it_is_taken_up(dbos_test_app: MakeTestApp) -> None:
    app = App({"name": "shop"})
    deploys = ["bad", "bad", "bad", "crash"]

    @app.kafka_consumer(topics=["orders"], name="orders", breaker=BREAKER)
    def on_order(message: KafkaMessage[bytes]) -> None:
        deploy = deploys.pop(0) if deploys else "good"
        if deploy == "crash":
            dbos.crash()
        if deploy == "bad":
            raise ValueError("bad deploy")

    dbos = dbos_test_app(app)
    for _ in range(3):
        dbos.deliver(on_order, "bad")
    dbos.run_until_idle()
    dbos.advance(seconds=30)
    trial = dbos.deliver(on_order, "trial")
    dbos.run_until_idle()
    assert trial.get_status().status == "SUCCESS"
    assert app.launched.storage.consumers.states("shop")[0].breaker is None


def test_a_trial_that_sleeps_has_passed(dbos_test_app: MakeTestApp) -> None:
    app = App({"name": "shop"})
    broken = [True]

    @app.kafka_consumer(topics=["orders"], name="orders", breaker=BREAKER)
    def on_order(message: KafkaMessage[bytes]) -> None:
        if broken[0]:
            raise ValueError("bad deploy")
        app.sleep(86_400)

    dbos = dbos_test_app(app)
    for _ in range(3):
        dbos.deliver(on_order, "bad")
    dbos.run_until_idle()
    broken[0] = False
    dbos.advance(seconds=30)
    dbos.deliver(on_order, "trial")
    dbos.run_until_idle()
    assert dbos.deliver(on_order, "next").get_status().status == "PENDING"


def test_an_operator_closes_it_by_hand(dbos_test_app: MakeTestApp) -> None:
    shop = Shop()
    dbos = dbos_test_app(shop.app)
    open_it(shop, dbos)
    shop.broken = False
    shop.app.resume_consumer("orders")
    dbos.run_until_idle()
    assert shop.problems == []
    for number in range(3):
        dbos.deliver(shop.on_order, str(number))
    dbos.run_until_idle()
    assert len(shop.handled) == 3


def test_what_counted_before_it_was_closed_does_not_open_it_again(dbos_test_app: MakeTestApp) -> None:
    shop = Shop()
    dbos = dbos_test_app(shop.app)
    open_it(shop, dbos)
    shop.app.resume_consumer("orders")
    dbos.run_until_idle()
    for number in range(2):
        dbos.deliver(shop.on_order, str(number))
    dbos.run_until_idle()
    assert shop.states() == (None, 0)
    dbos.deliver(shop.on_order, "third")
    dbos.run_until_idle()
    assert shop.states() == ("open", 1)


def test_events_that_woke_up_from_a_sleep_count_too(dbos_test_app: MakeTestApp) -> None:
    app = App({"name": "shop"})

    @app.kafka_consumer(topics=["orders"], name="orders", breaker=BREAKER)
    def on_order(message: KafkaMessage[bytes]) -> None:
        app.sleep(60)
        raise ValueError("bad deploy")

    dbos = dbos_test_app(app)
    for _ in range(3):
        dbos.deliver(on_order, "bad")
    dbos.advance(seconds=61)
    with pytest.raises(DBOSException, match="3 events failed"):
        dbos.deliver(on_order, "refused")


def test_without_a_breaker_intake_never_stops_and_one_that_is_open_is_closed(
    dbos_test_app: MakeTestApp,
) -> None:
    shop = Shop(breaker=None)
    dbos = dbos_test_app(shop.app)
    for number in range(50):
        dbos.deliver(shop.on_order, str(number))
    dbos.run_until_idle()
    assert shop.states() == (None, 0)
    [state] = shop.app.launched.storage.consumers.states("shop")
    shop.app.launched.storage.breakers.open(state.id, state.epoch, "by a release that had one", 1000)
    dbos.run_until_idle()
    dbos.deliver(shop.on_order, "goes on")
    assert shop.states() == (None, 0)


def test_a_breaker_that_cannot_be_used_is_refused() -> None:
    with pytest.raises(RegistrationError, match="failure_share must be above 0"):
        Shop(breaker=Breaker(failure_share=0))


# ------------------------------------------------------------------ pauses


def test_a_paused_consumer_takes_nothing_in_and_its_events_run_on(dbos_test_app: MakeTestApp) -> None:
    shop = Shop()
    shop.broken = False
    dbos = dbos_test_app(shop.app)
    dbos.deliver(shop.on_order, "before")
    shop.app.pause_consumer("orders", reason="migration")
    dbos.run_until_idle()
    assert shop.handled == ["before"]
    with pytest.raises(DBOSException, match="paused by executor 1 at 2030-01-01T00:00:00Z: migration"):
        dbos.deliver(shop.on_order, "refused")
    [note] = shop.app.health().notes
    assert "migration" in note
    assert shop.problems == [], "it is wanted"

    dbos.crash()
    with pytest.raises(DBOSException, match="paused"):
        dbos.deliver(shop.on_order, "refused")
    shop.app.resume_consumer("orders")
    dbos.run_until_idle()
    assert shop.app.health().notes == ()
    dbos.deliver(shop.on_order, "after")
    dbos.run_until_idle()
    assert shop.handled == ["before", "after"]


def test_no_trial_is_let_into_a_paused_consumer(dbos_test_app: MakeTestApp) -> None:
    shop = Shop()
    dbos = dbos_test_app(shop.app)
    open_it(shop, dbos)
    shop.app.pause_consumer("orders")
    dbos.advance(minutes=10)
    with pytest.raises(DBOSException, match="paused"):
        dbos.deliver(shop.on_order, "refused")
    assert shop.states() == ("open", 1)


def test_an_unknown_consumer_is_named_with_those_that_are_known(dbos_test_app: MakeTestApp) -> None:
    shop = Shop()
    dbos = dbos_test_app(shop.app)
    shop.broken = False
    dbos.deliver(shop.on_order, "first")
    for verb in (shop.app.pause_consumer, shop.app.resume_consumer):
        with pytest.raises(DBOSException, match=r"'shop' has no consumer called 'order'. It has orders."):
            verb("order")


async def _pause_and_resume(app: App) -> None:
    await app.pause_consumer_async("orders", reason="async")
    assert app.launched.storage.consumers.states("shop")[0].paused_reason == "async"
    with pytest.raises(RuntimeError, match="pause_consumer_async"):
        app.pause_consumer("orders")
    await app.resume_consumer_async("orders")


def test_a_program_pauses_from_its_loop_and_from_a_workflow(dbos_test_app: MakeTestApp) -> None:
    import asyncio

    shop = Shop()
    shop.broken = False

    @shop.app.workflow(name="maintenance")
    def maintenance() -> str:
        shop.app.pause_consumer("orders", reason="maintenance")
        shop.app.sleep(60)
        shop.app.resume_consumer("orders")
        return "done"

    dbos = dbos_test_app(shop.app)
    dbos.deliver(shop.on_order, "first")
    asyncio.run(_pause_and_resume(shop.app))
    handle = shop.app.start_workflow(maintenance)
    dbos.run_until_idle()
    assert shop.app.launched.storage.consumers.states("shop")[0].paused_reason == "maintenance"
    dbos.advance(seconds=61)
    assert handle.get_result() == "done"
    assert shop.app.launched.storage.consumers.states("shop")[0].paused_at is None
    assert [step.function_name for step in shop.app.list_workflow_steps(handle.workflow_id)] == [
        "DBOS.pauseConsumer",
        "DBOS.sleep",
        "DBOS.resumeConsumer",
    ]


# ------------------------------------------------------------------ after the fix is deployed


def ready(shop: Shop) -> bool:
    return not shop.problems


def test_a_breaker_whose_pause_is_over_leaves_the_process_ready_though_no_event_comes(
    dbos_test_app: MakeTestApp,
) -> None:
    shop = Shop()
    dbos = dbos_test_app(shop.app)
    open_it(shop, dbos)
    assert not ready(shop)

    dbos.advance(seconds=29)
    assert not ready(shop)
    dbos.advance(seconds=1)
    assert ready(shop)
    [note] = [text for text in shop.app.health().notes if text.startswith("orders: ")]
    assert "half-open since 2030-01-01T00:00:30Z" in note
    assert "the next event is the trial" in note


def test_a_trial_that_fails_opens_it_again_and_since_is_since_then(dbos_test_app: MakeTestApp) -> None:
    shop = Shop()
    dbos = dbos_test_app(shop.app)
    open_it(shop, dbos)
    dbos.advance(seconds=300)
    dbos.deliver(shop.on_order, "trial")
    dbos.run_until_idle()

    assert shop.states() == ("open", 2)
    [problem] = shop.problems
    assert "open since 2030-01-01T00:05:00Z: the trial event failed" in problem


def test_a_good_redrive_closes_it(dbos_test_app: MakeTestApp) -> None:
    shop = Shop()
    dbos = dbos_test_app(shop.app)
    open_it(shop, dbos)

    failed = shop.app.list_quarantined()[0].workflow_id
    shop.app.redrive_events([failed])
    dbos.run_until_idle()
    assert shop.states()[0] == "open", "it fails still"

    shop.broken = False
    shop.app.redrive_events([failed])
    dbos.run_until_idle()
    assert shop.states() == (None, 0)
    assert ready(shop)
    assert shop.handled == ["0"]

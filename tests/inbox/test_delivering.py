"""Pushed events through the testing kit: what a handler gets, and what becomes of each event."""

import itertools
from typing import Any

import pydantic
import pytest

from dbos_events import App, Breaker, Quarantine, Retry
from dbos_events.errors import DBOSException, RegistrationError
from dbos_events.testing.plugin import MakeTestApp
from tests.connectors.folder.connector import File, folder_consumer


class Order(pydantic.BaseModel):
    id: int


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def seen() -> list[Any]:
    return []


def test_a_handler_gets_the_event_as_it_was_pushed(
    app: App, seen: list[Any], dbos_test_app: MakeTestApp
) -> None:
    @folder_consumer(app, name="orders")
    def on_file(file: File) -> str:
        seen.append(file)
        return "seen"

    dbos = dbos_test_app(app)
    handle = dbos.deliver(on_file, {"id": 7}, event_id="a/b", headers={"trace": "1"})
    assert handle.get_result() == "seen"
    assert handle.workflow_id == "file/test.orders/a%2Fb"
    assert seen == [
        File("a/b", handle.workflow_id, b'{"id": 7}', None, (("trace", b"1"),), dbos.clock.now_ms())
    ]


def test_a_handler_gets_the_value_that_it_annotates(
    app: App, seen: list[Any], dbos_test_app: MakeTestApp
) -> None:
    @folder_consumer(app, name="whole")
    def on_whole(file: File[Order]) -> int:
        return file.content.id

    @folder_consumer(app, name="value")
    async def on_value(order: Order) -> int:
        return order.id

    dbos = dbos_test_app(app)
    assert dbos.deliver(on_whole, {"id": 7}).get_result() == 7
    assert dbos.deliver(on_value, {"id": 8}).get_result() == 8
    handle = dbos.deliver(on_value, b"no json", event_id="bad")
    dbos.run_until_idle()
    (put_aside,) = app.list_quarantined()
    assert (put_aside.workflow_id, put_aside.reason) == (handle.workflow_id, "undecodable")
    assert "the file bad" in str(put_aside.error_message)


def test_the_same_event_again_starts_nothing(app: App, seen: list[Any], dbos_test_app: MakeTestApp) -> None:
    @folder_consumer(app, name="orders")
    def on_file(file: File) -> None:
        seen.append(file.name)

    dbos = dbos_test_app(app)
    first = dbos.deliver(on_file, b"x", event_id="1")
    first.get_result()
    dbos.crash()
    again = dbos.deliver(on_file, b"x", event_id="1")
    dbos.run_until_idle()
    assert again.workflow_id == first.workflow_id
    assert seen == ["1"]


def test_an_event_survives_a_crash_with_all_that_it_was(
    app: App, seen: list[Any], dbos_test_app: MakeTestApp
) -> None:
    @folder_consumer(app, name="orders")
    async def on_file(file: File) -> None:
        seen.append(file)
        await app.sleep_async(60)

    dbos = dbos_test_app(app)
    handle = dbos.deliver(on_file, b"\x00\xff", event_id="Ü\ud800\0", headers=[("a", b"\xff"), ("a", None)])
    dbos.run_until_idle()
    dbos.crash()
    dbos.advance(seconds=60)
    assert handle.get_status().status == "SUCCESS"
    assert seen == [seen[0]] * 2


def test_the_same_id_with_other_content_is_quarantined_and_can_be_redriven(
    app: App, seen: list[Any], dbos_test_app: MakeTestApp
) -> None:
    @folder_consumer(app, name="orders")
    def on_file(file: File) -> bytes:
        seen.append(file.content)
        return file.content

    dbos = dbos_test_app(app)
    first = dbos.deliver(on_file, b"pay 1", event_id="1")
    other = dbos.deliver(on_file, b"pay 1000", event_id="1")
    same = dbos.deliver(on_file, b"pay 1000", event_id="1")
    dbos.run_until_idle()
    assert seen == [b"pay 1"]
    assert other.workflow_id == same.workflow_id != first.workflow_id
    assert other.get_status().status == "ERROR"
    (put_aside,) = app.list_quarantined()
    assert (put_aside.workflow_id, put_aside.reason) == (other.workflow_id, "conflicting-duplicate")
    app.redrive_events(workflow_ids=[other.workflow_id])
    assert other.get_result() == b"pay 1000"
    assert dbos.deliver(on_file, b"pay 1000", event_id="1").workflow_id == other.workflow_id
    assert app.list_quarantined() == []


def test_events_of_a_lane_run_one_after_the_other_in_the_order_in_which_they_were_accepted(
    app: App, seen: list[Any], dbos_test_app: MakeTestApp
) -> None:
    @folder_consumer(app, name="orders")
    def on_file(file: File) -> None:
        seen.append((file.name, "begins"))
        app.sleep(10)
        seen.append((file.name, "ends"))

    dbos = dbos_test_app(app)
    handles = [dbos.deliver(on_file, b"", event_id=f"{key}{n}", key=key) for n in range(3) for key in "ab"]
    dbos.run_until_idle()
    assert sorted(seen) == [("a0", "begins"), ("b0", "begins")]
    dbos.advance(minutes=1)
    assert {handle.get_status().status for handle in handles} == {"SUCCESS"}
    for key in "ab":
        ends = [name for name, what in seen if what == "ends" and name.startswith(key)]
        assert ends == [f"{key}{n}" for n in range(3)]
        for n in range(2):
            assert seen.index((f"{key}{n}", "ends")) < seen.index((f"{key}{n + 1}", "begins"))


def test_a_lane_is_what_the_ordering_key_says_of_the_value(
    app: App, seen: list[Any], dbos_test_app: MakeTestApp
) -> None:
    def by_id(order: Order) -> int:
        return order.id

    @folder_consumer(app, name="orders", ordering_key=by_id)
    def on_order(file: File[Order]) -> None:
        seen.append(file.name)
        app.sleep(10)

    dbos = dbos_test_app(app)
    for name, value in (("a", {"id": 1}), ("b", {"id": 1}), ("c", {"id": 2}), ("d", b"none"), ("e", b"none")):
        dbos.deliver(on_order, value, event_id=name)
    dbos.run_until_idle()
    assert sorted(seen) == ["a", "c"]
    dbos.advance(minutes=1)
    assert sorted(dict.fromkeys(seen)) == ["a", "b", "c"]
    assert seen.index("b") > max(seen.index("a"), seen.index("c"))
    waiting = {event.workflow_id: event.lane for event in app.list_quarantined()}
    assert list(waiting.values()) == ["!"]  # those without a key wait for each other


def test_a_failed_event_holds_its_lane_until_it_is_redriven_or_discarded(
    app: App, seen: list[Any], dbos_test_app: MakeTestApp
) -> None:
    broken = True

    @folder_consumer(app, name="orders", breaker=None)
    def on_file(file: File) -> None:
        if broken and file.name == "1":
            raise Quarantine("broken")
        seen.append(file.name)

    dbos = dbos_test_app(app)
    for name in "123":
        dbos.deliver(on_file, b"", event_id=name, key="k")
    dbos.deliver(on_file, b"", event_id="other", key="l")
    dbos.run_until_idle()
    assert seen == ["other"]
    (put_aside,) = app.list_quarantined()
    assert put_aside.lane == "/k"
    broken = False
    app.redrive_events(workflow_ids=[put_aside.workflow_id])
    dbos.run_until_idle()
    assert seen == ["other", "1", "2", "3"]

    broken = True
    dbos.deliver(on_file, b"again", event_id="1", key="k")  # conflicting: it holds nothing
    dbos.deliver(on_file, b"", event_id="4", key="k")
    dbos.run_until_idle()
    assert seen == ["other", "1", "2", "3", "4"]


def test_what_when_says_no_to_is_counted_once_and_starts_nothing(
    app: App, seen: list[Any], dbos_test_app: MakeTestApp
) -> None:
    def paid(order: Order) -> bool:
        return order.id > 0

    @folder_consumer(app, name="orders", when=paid)
    def on_order(order: Order) -> None:
        seen.append(order.id)

    dbos = dbos_test_app(app)
    for name, value in (("a", 0), ("a", 0), ("b", 1), ("c", -1)):
        dbos.deliver(on_order, {"id": value}, event_id=name)
    dbos.deliver(on_order, b"?", event_id="d")
    dbos.run_until_idle()
    assert seen == [1]
    assert dbos.filtered(on_order) == 2
    assert [event.reason for event in app.list_quarantined()] == ["undecodable"]


def test_retries_back_off_and_end_in_quarantine(
    app: App, seen: list[Any], dbos_test_app: MakeTestApp
) -> None:
    @folder_consumer(app, name="orders", retries=Retry(max_attempts=3, interval_seconds=10), breaker=None)
    def on_file(file: File) -> None:
        seen.append(dbos.clock.now_ms())
        raise ValueError("no")

    dbos = dbos_test_app(app)
    dbos.deliver(on_file, b"")
    dbos.advance(minutes=5)
    assert [after - before for before, after in itertools.pairwise(seen)] == [10_000, 20_000]
    assert [event.reason for event in app.list_quarantined()] == ["attempts-exhausted"]


def test_a_paused_consumer_takes_nothing_in_but_knows_what_it_has_seen(
    app: App, seen: list[Any], dbos_test_app: MakeTestApp
) -> None:
    @folder_consumer(app, name="orders")
    def on_file(file: File) -> None:
        seen.append(file.name)

    dbos = dbos_test_app(app)
    first = dbos.deliver(on_file, b"", event_id="1")
    app.pause_consumer("orders", reason="audit")
    dbos.run_until_idle()
    with pytest.raises(DBOSException, match="audit"):
        dbos.deliver(on_file, b"", event_id="2")
    assert dbos.deliver(on_file, b"", event_id="1").workflow_id == first.workflow_id
    app.resume_consumer("orders")
    dbos.deliver(on_file, b"", event_id="2").get_result()
    assert seen == ["1", "2"]


def test_the_breaker_opens_lets_one_event_in_and_closes(
    app: App, seen: list[Any], dbos_test_app: MakeTestApp
) -> None:
    broken = True

    @folder_consumer(app, name="orders", breaker=Breaker(consecutive_failures=2, open_seconds=10))
    def on_file(file: File) -> None:
        seen.append(file.name)
        if broken:
            raise ValueError("no")

    dbos = dbos_test_app(app)
    for name in "12":
        dbos.deliver(on_file, b"", event_id=name)
    dbos.run_until_idle()
    with pytest.raises(DBOSException, match="circuit breaker"):
        dbos.deliver(on_file, b"", event_id="3")
    broken = False
    dbos.advance(seconds=11)
    dbos.deliver(on_file, b"", event_id="3")
    dbos.run_until_idle()
    dbos.deliver(on_file, b"", event_id="4")
    dbos.run_until_idle()
    assert seen == ["1", "2", "3", "4"]


def test_events_of_a_queue_wait_for_it(app: App, seen: list[Any], dbos_test_app: MakeTestApp) -> None:
    app.queue("line", concurrency=1)

    @folder_consumer(app, name="orders", queue_name="line")
    def on_file(file: File) -> str:
        return file.name

    dbos = dbos_test_app(app)
    handles = [dbos.deliver(on_file, b"", event_id=name) for name in "123"]
    assert [handle.get_result() for handle in handles] == ["1", "2", "3"]
    assert handles[0].get_status().queue_name == "line"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"max_in_flight": 0}, "max_in_flight"),
        ({"on_failure": "never"}, "on_failure"),
        ({"remembered_seconds": 0}, "remembered_seconds"),
        ({"queue_name": "q", "ordering_key": str}, "queue"),
        ({"retries": 3}, "retries"),
        ({"codec": object()}, "codec"),
    ],
)
def test_an_option_that_cannot_be_kept_is_refused(app: App, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(RegistrationError, match=problem):

        @folder_consumer(app, name="orders", **options)
        def on_file(file: File) -> None: ...


def test_two_consumers_cannot_have_one_name_nor_one_function_two_connectors(app: App) -> None:
    @folder_consumer(app, name="orders")
    def on_file(file: File) -> None: ...

    with pytest.raises(RegistrationError, match="orders"):

        @folder_consumer(app, name="orders")
        def on_other(file: File) -> None: ...

    def both(value: bytes) -> None: ...

    folder_consumer(app, name="files")(both)
    with pytest.raises(RegistrationError, match="another connector"):
        app.kafka_consumer(None, "topic", name="records")(app.registry.workflows[both_name(app)].wrapper)


def both_name(app: App) -> str:
    return next(name for name in app.registry.workflows if name.endswith("both"))

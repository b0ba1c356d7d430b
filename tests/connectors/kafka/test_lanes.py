"""What a user sees of lanes by key and by topic."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from dbos_events import App, KafkaMessage, Quarantine
from dbos_events.errors import RegistrationError
from dbos_events.testing import ManualClock, TestApp
from dbos_events.testing.plugin import MakeTestApp


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def seen() -> list[Any]:
    return []


def keyed(app: App, seen: list[Any], **options: Any) -> Any:
    """A consumer whose handler does what the value says, and notes key and offset."""

    @app.kafka_consumer(None, "orders", **{"ordering": "key", **options})
    def on_order(msg: KafkaMessage) -> None:
        seen.append((msg.key, msg.offset))
        if msg.value == b"fail":
            raise Quarantine("as asked")
        if msg.value == b"sleep":
            app.sleep(60)
            seen.append((msg.key, "awake"))

    return on_order


def statuses(dbos: TestApp, handles: list[Any]) -> list[str]:
    dbos.run_until_idle()
    return [handle.get_status().status for handle in handles]


def test_a_failing_key_holds_only_itself(app: App, seen: list[Any], dbos_test_app: MakeTestApp) -> None:
    on_order = keyed(app, seen)
    dbos = dbos_test_app(app)
    handles = [
        dbos.deliver(on_order, value, key=key)
        for key, value in [("a", "fail"), ("b", ""), ("a", ""), ("b", "")]
    ]
    assert statuses(dbos, handles) == ["ERROR", "SUCCESS", "PENDING", "SUCCESS"]
    assert (b"a", 2) not in seen


def test_a_sleeping_key_holds_only_itself_and_takes_no_place(
    app: App, seen: list[Any], dbos_test_app: MakeTestApp
) -> None:
    on_order = keyed(app, seen, max_in_flight=1)
    dbos = dbos_test_app(app)
    handles = []
    for key, value in [("a", "sleep"), ("b", ""), ("a", ""), ("c", "sleep"), ("c", "")]:
        handles.append(dbos.deliver(on_order, value, key=key))
        dbos.run_until_idle()
    assert statuses(dbos, handles) == ["PENDING", "SUCCESS", "PENDING", "PENDING", "PENDING"]
    dbos.advance(minutes=2)
    assert statuses(dbos, handles) == ["SUCCESS"] * 5
    order = [event for key, event in seen if key == b"a"]
    assert order.index("awake") < order.index(2)
    assert dbos.app.launched.lanes._all_groups()[0].size == 0


def test_events_without_a_key_are_in_no_lane(app: App, seen: list[Any], dbos_test_app: MakeTestApp) -> None:
    on_order = keyed(app, seen)
    dbos = dbos_test_app(app)
    handles = [dbos.deliver(on_order, value) for value in ("fail", "sleep", "")]
    assert statuses(dbos, handles) == ["ERROR", "PENDING", "SUCCESS"]


@pytest.mark.parametrize(
    ("held", "free"),
    [
        (b"key", b"KEY"),
        (b"a%2Fb", b"a/b"),
        (b"\x00", b"\x00\x00"),
        (b"\xff\xfe", b"\xfe\xff"),
        (b"", b" "),
        (b"x" * 201, b"x" * 202),
        (b"x" * 200, b"x" * 201),
        (b"x" * 1_000_000, b"x" * 1_000_001),
        (b"#", b"%23"),
    ],
    ids=["case", "percent", "nul", "binary", "empty", "hashed", "at the limit", "huge", "hash sign"],
)
def test_keys_that_differ_never_share_a_lane(
    held: bytes, free: bytes, app: App, seen: list[Any], dbos_test_app: MakeTestApp
) -> None:
    on_order = keyed(app, seen)
    dbos = dbos_test_app(app)
    handles = [
        dbos.deliver(on_order, value, key=key) for key, value in [(held, "fail"), (free, ""), (held, "")]
    ]
    assert statuses(dbos, handles) == ["ERROR", "SUCCESS", "PENDING"]


@pytest.mark.parametrize("key", ["seven", b"seven", 7], ids=["str", "bytes", "int"])
def test_a_key_of_the_users_own_orders(
    key: Any, app: App, seen: list[Any], dbos_test_app: MakeTestApp
) -> None:
    on_order = keyed(app, seen, ordering_key=lambda msg: key if msg.offset != 1 else None)
    dbos = dbos_test_app(app)
    handles = [dbos.deliver(on_order, value, key=f"k{value}") for value in ("fail", "", " ")]
    assert statuses(dbos, handles) == ["ERROR", "SUCCESS", "PENDING"], "None is no lane"


@pytest.mark.parametrize("gives", ["raises", 1.5, ["a"]], ids=["raises", "float", "list"])
def test_a_key_function_that_fails_falls_back_to_the_records_key_and_then_to_the_partition(
    gives: Any, app: App, seen: list[Any], dbos_test_app: MakeTestApp
) -> None:
    def key_of(_msg: KafkaMessage) -> Any:
        if gives == "raises":
            raise LookupError("no key")
        return gives

    on_order = keyed(app, seen, ordering_key=key_of)
    dbos = dbos_test_app(app)
    handles = [
        dbos.deliver(on_order, value, key=key)
        for key, value in [("a", "fail"), ("b", ""), ("a", ""), (None, "fail"), (None, ""), ("b", "")]
    ]
    assert statuses(dbos, handles) == ["ERROR", "SUCCESS", "PENDING", "ERROR", "PENDING", "SUCCESS"]


def test_a_key_function_must_be_a_plain_one(app: App, seen: list[Any]) -> None:
    async def key_of(_msg: KafkaMessage) -> bytes:
        return b"key"

    with pytest.raises(RegistrationError, match="plain function"):
        keyed(app, seen, ordering_key=key_of)


def test_a_topic_is_one_lane_over_its_partitions(
    app: App, seen: list[Any], dbos_test_app: MakeTestApp
) -> None:
    @app.kafka_consumer(None, "orders", in_order=True)
    def on_order(msg: KafkaMessage) -> None:
        seen.append((msg.partition, "begins"))
        app.sleep(10)
        seen.append((msg.partition, "ends"))

    dbos = dbos_test_app(app)
    for partition in (2, 0, 1):
        dbos.deliver(on_order, "x", partition=partition)
    dbos.advance(minutes=2)
    begun = [partition for partition, what in seen if what == "ends"]
    assert begun == [2, 0, 1]
    assert [what for _, what in seen].count("ends") == 3


def test_keys_go_on_in_order_after_a_crash(app: App, seen: list[Any], dbos_test_app: MakeTestApp) -> None:
    @app.kafka_consumer(None, "orders", ordering="key")
    def on_order(msg: KafkaMessage) -> None:
        seen.append((msg.key, msg.offset))
        if seen.count((b"a", 2)) == 1 and seen[-1] == (b"a", 2):
            dbos.crash()

    dbos = dbos_test_app(app)
    for key in ("a", "b", "a", "b", "a"):
        dbos.deliver(on_order, "x", key=key)
    dbos.run_until_idle()
    offsets = {key: [offset for other, offset in seen if other == key] for key in (b"a", b"b")}
    assert offsets[b"a"] == [0, 2, 2, 4]
    assert sorted(set(offsets[b"b"])) == [1, 3]


@pytest.mark.parametrize("after", ["none", "partition", "key", "topic"])
@pytest.mark.parametrize("before", ["partition", "key", "topic"])
def test_what_another_ordering_left_unfinished_runs_in_its_order(
    before: str, after: str, seen: list[Any], tmp_path: Path, dbos_template: Path
) -> None:
    file = shutil.copy(dbos_template, tmp_path / "shared.sqlite")
    clock = ManualClock()
    for number, ordering in enumerate((before, after)):
        app = App()
        on_order = keyed(app, seen, ordering=ordering)
        with TestApp(app, database_url=f"sqlite:///{file}", clock=clock) as dbos:
            if number == 0:
                for value in ("sleep", "", ""):
                    dbos.deliver(on_order, value, key="a")
                dbos.run_until_idle()
                continue
            later = dbos.deliver(on_order, "", key="b")
            dbos.advance(minutes=2)
            assert statuses(dbos, [later]) == ["SUCCESS"]
            assert app.list_workflows(status="PENDING") == []
    order = [event for key, event in seen if key == b"a"]
    assert order[-3:] == ["awake", 1, 2]

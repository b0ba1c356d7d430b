"""One damaged row ends its own workflow with what is wrong with it; recovery, queues, timers and lanes go on."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from dbos_events import App, KafkaMessage
from dbos_events.errors import SerializationError
from dbos_events.testing import TestApp
from tests.storage.building import change, kill, park, register, start, step, write
from tests.storage.topics import topic

SOUND = '{"args":[1],"kwargs":{}}'
PICKLED = "gASVBAAAAAAAAABLAS4="
DEEP = "[" * 100_000

INPUTS: dict[str, tuple[str | None, str | None, str]] = {
    "missing": (None, None, "is missing"),
    "cut": ("json", '{"args":[1', "not valid JSON"),
    "empty": ("json", "", "not valid JSON"),
    "null": ("json", "null", "does not hold arguments"),
    "a list": ("json", "[1,2]", "does not hold arguments"),
    "no arguments": ("json", "{}", "does not hold arguments"),
    "a number for arguments": ("json", '{"args":5,"kwargs":{}}', "does not hold arguments"),
    "a list for keywords": ("json", '{"args":[1],"kwargs":[1,2]}', "does not hold arguments"),
    "a text for keywords": ("json", '{"args":[1],"kwargs":"ab"}', "does not hold arguments"),
    "unknown codec": ("zstd-9", "x", "zstd-9"),
    "pickle": ("pickle", PICKLED, "does not read pickle"),
    "a tag of a later version": ("json", '{"args":[{"$":"later","v":1}],"kwargs":{}}', "newer version"),
    "nested too deep": ("json", f'{{"args":{DEEP}}}', "cannot be read"),
    "a huge number": ("json", '{"args":[' + "9" * 5000 + '],"kwargs":{}}', "cannot be read"),
    "NaN": ("json", '{"args":[NaN],"kwargs":{}}', "NaN is not JSON"),
    "a class that is gone": (
        "json",
        '{"args":[{"$":"dataclass","t":"gone:X","v":{}}],"kwargs":{}}',
        "Make it importable",
    ),
    "too many arguments": ("json", '{"args":[1,2,3],"kwargs":{}}', "takes 1 positional argument"),
    "keywords that are no names": ("json", '{"args":[1],"kwargs":{"$":"dict","v":[[1,2]]}}', "keywords"),
}
CHECKPOINTS: dict[str, tuple[dict[str, str], str]] = {
    "cut": ({"codec": "json", "output": "[1"}, "not valid JSON"),
    "nested too deep": ({"codec": "json", "output": DEEP}, "cannot be read"),
    "unknown codec": ({"codec": "zstd-9", "output": "1"}, "zstd-9"),
    "pickle": ({"codec": "pickle", "output": PICKLED}, "does not read pickle"),
    "an error that is cut": ({"codec": "json", "error": "[1"}, "not valid JSON"),
    "an error that is none": ({"codec": "json", "error": "1"}, "no error"),
    "a pickled error": (
        {"codec": "pickle", "error": '{"$":"error","n":"X","m":"m"}'},
        "does not read pickle",
    ),
}
EVENTS: dict[str, tuple[str, str]] = {
    "headers that are cut": ("UPDATE {schema}.events SET headers = '[[' WHERE workflow_id = :id", "headers"),
    "headers of another kind": (
        "UPDATE {schema}.events SET headers = '1' WHERE workflow_id = :id",
        "headers",
    ),
    "a header without value": (
        "UPDATE {schema}.events SET headers = '[[1]]' WHERE workflow_id = :id",
        "headers",
    ),
    "no base64": (
        'UPDATE {schema}.events SET headers = \'[["a","?"]]\' WHERE workflow_id = :id',
        "headers",
    ),
    "no record": ("DELETE FROM {schema}.events WHERE workflow_id = :id", "is missing"),
    "a filter's verdict that is none": (
        "INSERT INTO {schema}.payloads (workflow_id, codec, input) VALUES (:id, 'json', '1')",
        "no error",
    ),
    "a pickled verdict": (
        "INSERT INTO {schema}.payloads (workflow_id, codec, input) VALUES (:id, 'pickle', '1')",
        "does not read pickle",
    ),
}


@pytest.fixture
def app() -> App:
    app = App({"name": "shop"})

    @app.step(name="step")
    def recorded(value: int) -> int:
        return value

    @app.workflow(name="work")
    def work(value: int) -> int:
        try:
            return recorded(value)
        except Exception:  # noqa: BLE001 - as users do
            return -1  # goes on as if the step had failed

    @app.workflow(name="handle")
    def handle(message: KafkaMessage) -> str:
        return f"offset {message.offset}"

    @app.workflow(name="nap")
    def nap(seconds: float) -> str:
        app.sleep(seconds)
        return "slept"

    app.queue("waiting")
    return app


@pytest.fixture
def dbos(app: App, database_url: str) -> Iterator[TestApp]:
    with TestApp(app, database_url=database_url) as started:
        yield started


def endings(dbos: TestApp) -> dict[str, tuple[str, Any, str]]:
    """Status, output and error of all workflows, as they are listed."""
    return {
        one.workflow_id: (one.status, one.output, f"{type(one.error).__name__}: {one.error}")
        for one in dbos.app.list_workflows()
    }


def assert_ended(dbos: TestApp, damaged: Mapping[str, str], *sound: str) -> None:
    """Sound workflows have succeeded; the damaged ones have failed, each with its name and these words."""
    found = endings(dbos)
    assert all(found[name][0] == "SUCCESS" for name in sound), found
    for name, words in damaged.items():
        status, _, error = found[name]
        assert status == "ERROR", (name, found[name])
        assert words in error, (name, error)
        assert name in error or error.startswith("TypeError"), error


@pytest.mark.parametrize("service", ["recovery", "queue", "timer"])
def test_a_damaged_input_ends_its_own_workflow_only(dbos: TestApp, service: str) -> None:
    storage = dbos.core.storage
    executor = register(storage, application="shop")
    queue = "waiting" if service == "queue" else None
    ids = {name: (f"damaged {name}", f"sound {name}") for name in INPUTS}
    for name, (codec, text, _) in INPUTS.items():
        for id_, row in zip(ids[name], ((codec, text), ("json", SOUND)), strict=True):
            write(storage, executor, start(id_, codec=row[0], input=row[1] or "", queue=queue))
            if row[1] is None:
                change(storage, "DELETE FROM {schema}.payloads WHERE workflow_id = :id", id=id_)
            if service == "timer":
                write(storage, executor, park(id_, dbos.clock.now_ms() + 1000))
    kill(storage, executor)

    dbos.advance(seconds=2)

    words = {ids[name][0]: INPUTS[name][2] for name in INPUTS}
    assert_ended(dbos, words, *(sound for _, sound in ids.values()))


def test_a_damaged_checkpoint_ends_its_workflow_whatever_its_code_makes_of_it(dbos: TestApp) -> None:
    storage = dbos.core.storage
    executor = register(storage, application="shop")
    rows = {**CHECKPOINTS, "sound": ({"codec": "json", "output": "7"}, "")}
    for name, (fields, _) in rows.items():
        write(storage, executor, start(name, codec="json", input=SOUND))
        write(storage, executor, step(name, call="1", started_at=1, completed_at=2, **fields))
    kill(storage, executor)

    dbos.run_until_idle()

    assert_ended(dbos, {name: words for name, (_, words) in CHECKPOINTS.items()}, "sound")
    assert endings(dbos)["sound"][1] == 7


def test_a_sleep_whose_time_is_damaged_ends(dbos: TestApp) -> None:
    storage = dbos.core.storage
    executor = register(storage, application="shop")
    write(storage, executor, start("nap", name="nap", codec="json", input=SOUND))
    write(storage, executor, step("nap", call="1", name="DBOS.sleep", codec="json", output='"soon"'))
    kill(storage, executor)

    dbos.run_until_idle()

    assert_ended(dbos, {"nap": "no time of waking"})


def test_a_damaged_event_is_put_aside_and_the_others_run(dbos: TestApp) -> None:
    storage = dbos.core.storage
    orders = topic(storage)
    executor = register(storage, application="shop")
    orders.intake(executor, {0: (orders.epoch(executor), 0, len(EVENTS) + 2)})
    ids = {name: f"e-0-{number}" for number, name in enumerate(EVENTS)}
    for name, (damage, _) in EVENTS.items():
        change(storage, damage, id=ids[name])
    kill(storage, executor)

    dbos.run_until_idle()

    sound = [f"e-0-{len(EVENTS) + number}" for number in range(2)]
    assert_ended(dbos, {ids[name]: words for name, (_, words) in EVENTS.items()}, *sound)
    aside = {one.workflow_id: one.reason for one in dbos.app.list_quarantined()}
    assert aside == dict.fromkeys(ids.values(), "undecodable")
    shown = dbos.app.get_quarantined(ids["headers of another kind"])
    assert shown is not None
    assert shown.headers is not None
    assert shown.headers[0][1] == b"1"


def test_a_damaged_lane_holds_up_no_other_and_is_redriven_when_it_is_mended(database_url: str) -> None:
    app = App({"name": "shop"})

    @app.kafka_consumer(topics=["orders"], ordering="key")
    def on_order(message: KafkaMessage) -> str:
        app.sleep(60)
        return "done"

    with TestApp(app, database_url=database_url) as dbos:
        damaged, *sound = [dbos.deliver(on_order, b"1", key=key) for key in ("a", "b", "c")]
        behind = {key: dbos.deliver(on_order, b"2", key=key) for key in ("a", "b", "c")}
        dbos.run_until_idle()
        change(
            dbos.core.storage,
            "UPDATE {schema}.events SET headers = '[' WHERE workflow_id = :id",
            id=damaged.workflow_id,
        )
        dbos.advance(seconds=200)
        assert [handle.get_status().status for handle in (*sound, behind["b"], behind["c"])] == [
            "SUCCESS"
        ] * 4
        assert [one.workflow_id for one in app.list_quarantined()] == [damaged.workflow_id]
        assert behind["a"].get_status().status == "PENDING"

        assert app.redrive_events(damaged.workflow_id).changed == (damaged.workflow_id,)
        dbos.run_until_idle()
        assert [one.workflow_id for one in app.list_quarantined()] == [damaged.workflow_id], "still damaged"
        change(dbos.core.storage, "UPDATE {schema}.events SET headers = NULL")
        app.redrive_events(damaged.workflow_id)
        dbos.advance(seconds=200)
        assert behind["a"].get_status().status == damaged.get_status().status == "SUCCESS"


def test_a_damaged_result_is_told_to_who_waits_for_it_and_listed_beside_the_others(
    dbos: TestApp, app: App
) -> None:
    storage = dbos.core.storage
    executor = register(storage, application="shop")
    for name in ("damaged", "sound"):
        write(storage, executor, start(name, codec="json", input=SOUND))
    kill(storage, executor)
    dbos.run_until_idle()
    change(storage, "UPDATE {schema}.results SET codec = 'zstd-9' WHERE workflow_id = 'damaged'")

    with pytest.raises(SerializationError, match=r"result of workflow damaged cannot be read.*'zstd-9'"):
        app.retrieve_workflow("damaged").get_result()
    assert {name: ending[:2] for name, ending in endings(dbos).items()} == {
        "damaged": ("SUCCESS", "1"),
        "sound": ("SUCCESS", 1),
    }


def test_a_status_of_a_later_version_is_left_alone_and_listed(dbos: TestApp) -> None:
    storage = dbos.core.storage
    executor = register(storage, application="shop")
    for name in ("later", "sound"):
        write(storage, executor, start(name, codec="json", input=SOUND))
    change(storage, "UPDATE {schema}.workflows SET status = 'SUSPENDED' WHERE id = 'later'")
    kill(storage, executor)

    dbos.run_until_idle()

    assert {name: ending[0] for name, ending in endings(dbos).items()} == {
        "later": "SUSPENDED",
        "sound": "SUCCESS",
    }

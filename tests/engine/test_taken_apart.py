"""One row that the database will not let be taken, or read, keeps no other waiting (docs/protocol.md, rule 2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from dbos_events import App, KafkaMessage, SetEnqueueOptions, SetWorkflowID
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.testing import TestApp
from tests.storage.building import change, kill, park, read, register, start, step, write

SOUND = '{"args":[1],"kwargs":{}}'
QUEUES: dict[str, dict[str, Any]] = {
    "waiting": {},
    "aging": {"priority_ages": 5.0, "priority_enabled": True},
    "parted": {"partition_queue": True, "concurrency": 50},
    "limited": {"limiter": {"limit": 100, "period": 1000.0}},
}
GUARD = """
CREATE FUNCTION public.guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.id = '{id}' THEN RAISE EXCEPTION 'the auditor is away'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE UPDATE ON dbos_events.workflows FOR EACH ROW EXECUTE FUNCTION public.guard();
"""


@pytest.fixture
def app() -> App:
    app = App({"name": "shop"})

    @app.step(name="step")
    def recorded(value: int) -> int:
        return value

    @app.workflow(name="work")
    def work(value: int) -> int:
        return recorded(value)

    @app.workflow(name="nap")
    def nap(value: int) -> int:
        app.sleep(60)
        return value

    @app.workflow(name="handle")
    def handle(message: KafkaMessage) -> str:
        return f"offset {message.offset}"

    for name, settings in QUEUES.items():
        app.queue(name, **settings)
    return app


@pytest.fixture
def dbos(app: App, database_url: str) -> Iterator[TestApp]:
    with TestApp(app, database_url=database_url) as started:
        yield started


class Damage:
    """Something that fails each statement that takes, or reads, the row of the workflow `bad`."""

    def __init__(self, storage: SqlStorage, url: str) -> None:
        self._storage = storage
        self._url = url
        self.is_postgres = url.startswith("postgres")

    def taking(self, bad: str = "bad") -> None:
        """Its row cannot be changed: by a trigger that is not ours."""
        if self.is_postgres:
            with psycopg.connect(self._url) as connection:
                connection.execute(GUARD.format(id=bad))
        else:
            self._run(
                f"CREATE TRIGGER guard BEFORE UPDATE ON workflows WHEN NEW.id = '{bad}' "
                "BEGIN SELECT RAISE(ABORT, 'the auditor is away'); END"
            )

    def mend_taking(self) -> None:
        self._run("DROP TRIGGER guard" + (" ON dbos_events.workflows" if self.is_postgres else ""))

    def reading(self, table: str, column: str, bad: str = "bad") -> None:
        """A text of its row in a table is no UTF-8, so that the driver cannot read it."""
        broken = "CAST(x'ff' AS TEXT)"
        if self.is_postgres:
            broken = "CAST(CAST('\\xff' AS bytea) AS text)"
            self._run("CREATE CAST (bytea AS text) WITHOUT FUNCTION")
        self._run(f"UPDATE dbos_events.{table} SET {column} = {broken} WHERE workflow_id = '{bad}'")
        if self.is_postgres:
            self._run("DROP CAST (bytea AS text)")

    def mend_reading(self, table: str, column: str, text: str | None) -> None:
        self._run(f"UPDATE dbos_events.{table} SET {column} = :text WHERE workflow_id = 'bad'", text=text)

    def _run(self, sql: str, **parameters: Any) -> None:
        change(self._storage, sql.replace("dbos_events.", "{schema}."), **parameters)


@pytest.fixture
def damage(dbos: TestApp, database_url: str) -> Damage:
    return Damage(dbos.core.storage, database_url)  # type: ignore[arg-type]


def statuses(dbos: TestApp) -> dict[str, str]:
    storage: Any = dbos.core.storage
    return {row.id: row.status for row in read(storage, "SELECT id, status FROM {schema}.workflows")}


def assert_apart(dbos: TestApp, *sound: str, ended: str = "SUCCESS", bad: str = "bad") -> None:
    """All others have run, and health says which one waits, and why."""
    found = statuses(dbos)
    assert {name: found[name] for name in sound} == dict.fromkeys(sound, ended)
    assert found[bad] not in ("SUCCESS", "ERROR", "CANCELLED")
    problems = [line for service in dbos.app.launched.services for line in service.warnings]
    assert {one.workflow_id for one in dbos.app.list_workflows()} == set(found), "all are listed"
    assert any(bad in line and "waits apart" in line for line in problems), problems


@pytest.mark.parametrize("queue", ["waiting", "aging", "parted", "limited"])
def test_a_claim_starts_all_but_the_one_that_cannot_be_taken(
    dbos: TestApp, damage: Damage, queue: str
) -> None:
    app, names = dbos.app, ("a", "b", "bad", "c", "d")
    work = app.registry.workflows["work"].wrapper
    damage.taking()
    for number, name in enumerate(names):
        options = {"queue_partition_key": f"p{number % 2}"} if queue == "parted" else {}
        if queue == "aging":
            options = {"priority": number + 1}
        with SetWorkflowID(name), SetEnqueueOptions(**options):
            app.queue(queue, **QUEUES[queue]).enqueue(work, 1)
    dbos.run_until_idle()
    assert_apart(dbos, "a", "b", "c", "d")
    damage.mend_taking()
    dbos.advance(seconds=5)
    assert statuses(dbos)["bad"] == "SUCCESS"


@pytest.mark.parametrize(("table", "column"), [("payloads", "input"), ("checkpoints", "output")])
@pytest.mark.parametrize("service", ["recovery", "timer", "queue"])
def test_what_cannot_be_read_of_one_starts_all_others(
    dbos: TestApp, damage: Damage, table: str, column: str, service: str
) -> None:
    storage = dbos.core.storage
    executor = register(storage, application="shop")
    names = [f"w{number}" for number in range(7)]
    for name in ("bad", *names):
        write(storage, executor, start(name, codec="json", input=SOUND))
        write(storage, executor, step(name, call="1", codec="json", output="7", started_at=1, completed_at=2))
        if service == "timer":
            write(storage, executor, park(name, dbos.clock.now_ms() + 1000))
    if service == "queue":
        change(storage, "UPDATE {schema}.workflows SET status = 'ENQUEUED', owner = NULL, queue = 'waiting'")
    damage.reading(table, column)
    kill(storage, executor)
    dbos.advance(seconds=2)
    assert_apart(dbos, *names)
    damage.mend_reading(table, column, SOUND if table == "payloads" else "7")
    dbos.advance(seconds=10)
    assert statuses(dbos)["bad"] == "SUCCESS"


DUE = {
    "parked": ("status = 'PENDING', wake_at = :due", "SUCCESS"),
    "parked on a queue": ("status = 'PENDING', queue = 'waiting', wake_at = :due", "SUCCESS"),
    "delayed": ("status = 'DELAYED', queue = 'waiting', delay_until = :due, wake_at = :due", "SUCCESS"),
    "late": ("status = 'ENQUEUED', queue = 'unknown', deadline = :due", "CANCELLED"),
    "not claimed in time": ("status = 'ENQUEUED', queue = 'unknown', start_by = :due", "CANCELLED"),
}


@pytest.mark.parametrize("state", DUE)
def test_what_is_due_of_one_holds_up_nothing_else_that_is(dbos: TestApp, damage: Damage, state: str) -> None:
    storage: Any = dbos.core.storage
    executor = register(storage, application="shop")
    names = [f"w{number}" for number in range(6)]
    for name in ("bad", *names):
        write(storage, executor, start(name, codec="json", input=SOUND))
    setting, ended = DUE[state]
    due = dbos.clock.now_ms() + 1000
    change(storage, f"UPDATE {{schema}}.workflows SET owner = NULL, {setting}", due=due)
    kill(storage, executor)
    damage.taking()
    dbos.advance(seconds=2)
    assert_apart(dbos, *names, ended=ended)
    damage.mend_taking()
    dbos.advance(seconds=10)
    assert statuses(dbos)["bad"] == ended


def test_what_the_dead_have_left_is_adopted_but_for_the_one_that_cannot_be(
    dbos: TestApp, damage: Damage
) -> None:
    storage: Any = dbos.core.storage
    executor = register(storage, application="shop")
    names = [f"w{number}" for number in range(6)]
    for name in ("bad", *names):
        write(storage, executor, start(name, codec="json", input=SOUND))
    damage.taking()
    kill(storage, executor)
    dbos.run_until_idle()
    assert_apart(dbos, *names)
    damage.mend_taking()
    dbos.advance(seconds=10)
    assert statuses(dbos)["bad"] == "SUCCESS"


@pytest.mark.parametrize("way", ["taking", "reading"])
def test_a_lane_whose_head_cannot_be_taken_waits_in_its_order_and_the_others_go_on(
    database_url: str, way: str
) -> None:
    app = App({"name": "shop"})
    seen: list[str] = []

    @app.kafka_consumer(topics=["orders"], ordering="key")
    def on_order(message: KafkaMessage) -> None:
        app.sleep(60)
        seen.append(f"{message.key.decode()}{message.offset}")

    with TestApp(app, database_url=database_url) as dbos:
        events = [dbos.deliver(on_order, b"1", key=key) for key in ("a", "b", "c", "a", "b", "c")]
        bad = events[0].workflow_id
        dbos.run_until_idle()
        damage = Damage(dbos.core.storage, database_url)
        if way == "taking":
            damage.taking(bad)
        else:
            damage.reading("events", "headers", bad)
        dbos.advance(seconds=200)
        others = [events[number].workflow_id for number in (1, 2, 4, 5)]
        assert_apart(dbos, *others, bad=bad)
        assert not any(one.startswith("a") for one in seen)
        if way == "taking":
            damage.mend_taking()
        else:
            change(dbos.core.storage, "UPDATE {schema}.events SET headers = NULL")
        dbos.advance(seconds=400)
        assert set(statuses(dbos).values()) == {"SUCCESS"}
        assert [one for one in seen if one.startswith("a")] == ["a0", "a3"]


def test_a_publication_that_cannot_be_ended_holds_up_no_other(
    app: App, dbos: TestApp, database_url: str
) -> None:
    storage: Any = dbos.core.storage
    for key in ("a", "bad", "b"):
        app.publish("payment", key, 1, ttl_seconds=10)
    where = "SELECT p.number FROM {schema}.publications AS p JOIN {schema}.anchors AS a ON a.id = p.anchor "
    [row] = read(storage, where + "WHERE a.key LIKE '%bad%'")
    if database_url.startswith("postgres"):
        with psycopg.connect(database_url) as connection:
            text = GUARD.replace("dbos_events.workflows", "dbos_events.publications")
            connection.execute(text.replace("NEW.id = '{id}'", f"NEW.number = {row.number}"))
    else:
        change(
            storage,
            f"CREATE TRIGGER guard BEFORE UPDATE ON publications WHEN NEW.number = {row.number} "
            "BEGIN SELECT RAISE(ABORT, 'the auditor is away'); END",
        )
    dbos.advance(seconds=20)
    rows = read(storage, "SELECT number, outcome FROM {schema}.publications")
    assert {one.outcome for one in rows if one.number != row.number} == {"expired"}
    assert [one.outcome for one in rows if one.number == row.number] == [None]
    warnings = [line for service in app.launched.services for line in service.warnings]
    assert any(f"publication {row.number}" in line for line in warnings), warnings

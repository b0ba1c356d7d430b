"""Two services under one application name: they are told, and neither runs the other's work with its own code."""

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from dbos_events import App, KafkaMessage
from dbos_events.bundled import DBOSConfig
from dbos_events.errors import ConfigurationError
from dbos_events.storage.subjects.executors import NewExecutor
from dbos_events.testing import TestApp
from tests.storage.building import kill, start

ran: list[str] = []


class Service:
    """This process: `handle` is a workflow, `on_order` a consumer that reads `orders`."""

    def __init__(self, module: str) -> None:
        self.app = App()

        def handle() -> None:
            ran.append("handle")

        def on_order(message: KafkaMessage[bytes]) -> None: ...

        handle.__module__ = on_order.__module__ = module
        self.queue = self.app.queue("q")
        self.handle = self.app.workflow(name="handle")(handle)
        self.app.kafka_consumer(None, "orders", name="on_order")(self.app.workflow(name="on_order")(on_order))


class Other:
    """Another process of the application, as its row shows it."""

    def __init__(self, dbos: TestApp, functions: Any) -> None:
        self.storage: Any = dbos.core.storage
        self.application = dbos.core.application
        new = NewExecutor(self.application, "other", False, "v1", "boot", "ns", 1, "now", 30_000, functions)
        self.executor = self.storage.executors.register(new)

    def begin(self, workflow_id: str, name: str = "handle") -> None:
        """Start a workflow and run it."""
        write = start(
            workflow_id,
            name=name,
            application=self.application,
            codec="json",
            input='{"args":[],"kwargs":{}}',
        )
        self.storage.write_batch(self.executor, [write])

    def enqueue(self, workflow_id: str, name: str = "handle") -> None:
        write = start(
            workflow_id,
            name=name,
            application=self.application,
            queue="q",
            codec="json",
            input='{"args":[],"kwargs":{}}',
        )
        self.storage.write_batch(self.executor, [write])

    def dies(self) -> None:
        kill(self.storage, self.executor)


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()


@pytest.fixture
def service() -> Service:
    return Service("orders")


@pytest.fixture
def dbos(service: Service, database_url: str) -> Iterator[TestApp]:
    with ExitStack() as stack:
        yield stack.enter_context(TestApp(service.app, database_url=database_url))


def of(module: str, **consumers: list[str]) -> list[Any]:
    return [module, consumers]


def status(service: Service, workflow_id: str) -> str:
    found = service.app.get_workflow_status(workflow_id)
    assert found is not None
    return found.status


def problems(service: Service) -> list[str]:
    return [one for one in service.app.health().problems if "conflict" in one]


def test_what_a_dead_process_of_another_module_has_left_is_not_run_here(
    service: Service, dbos: TestApp
) -> None:
    other = Other(dbos, {"handle": of("payments"), "on_order": of("orders")})
    other.begin("theirs")
    other.dies()
    dbos.run_until_idle()
    assert (status(service, "theirs"), ran) == ("PENDING", [])
    (problem,) = problems(service)
    assert "'handle'" in problem
    assert "'payments'" in problem


def test_it_goes_on_in_a_process_of_its_own_module_though_the_other_lives(
    service: Service, dbos: TestApp
) -> None:
    Other(dbos, {"handle": of("payments")})
    own = Other(dbos, {"handle": of("orders")})
    own.begin("ours")
    own.dies()
    dbos.run_until_idle()
    assert (status(service, "ours"), ran) == ("SUCCESS", ["handle"])


def test_while_both_live_what_belongs_to_nobody_waits_and_goes_on_when_the_other_has_gone(
    service: Service, dbos: TestApp, caplog: pytest.LogCaptureFixture
) -> None:
    other = Other(dbos, {"handle": of("payments")})
    dbos.run_until_idle()
    with caplog.at_level(logging.ERROR):
        other.enqueue("somebody's")
        for _ in range(3):
            dbos.run_until_idle()
    assert (status(service, "somebody's"), ran) == ("ENQUEUED", [])
    assert len(problems(service)) == 1
    other.storage.executors.release(other.executor)
    dbos.run_until_idle()
    dbos.run_until_idle()
    assert (status(service, "somebody's"), problems(service)) == ("SUCCESS", [])


def test_it_is_said_once_with_what_to_do(
    service: Service, dbos: TestApp, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        Other(dbos, {"handle": of("payments")})
        for _ in range(3):
            dbos.run_until_idle()
    (said,) = (record.getMessage() for record in caplog.records if "name-conflict" in record.getMessage())
    assert "DBOS_EVENTS_NAME" in said


@pytest.mark.parametrize(
    "functions",
    [
        {"handle": of("orders"), "on_order": of("orders", on_order=["orders"])},
        {"handle": of("shop.orders")},
        {"handle": of("orders"), "on_order": of("orders", on_order=["orders", "returns"])},
        {"other": of("payments")},
        ("handle", "on_order"),
        None,
    ],
    ids=[
        "the same",
        "run as a module",
        "one topic more",
        "another name",
        "an earlier release",
        "says nothing",
    ],
)
def test_another_release_of_the_same_service_is_none_of_it(
    functions: Any, service: Service, dbos: TestApp
) -> None:
    other = Other(dbos, functions)
    other.begin("theirs")
    other.enqueue("waiting")
    other.dies()
    dbos.run_until_idle()
    assert (status(service, "theirs"), status(service, "waiting")) == ("SUCCESS", "SUCCESS")
    assert not [one for one in problems(service) if one.startswith("name-")]


@pytest.mark.parametrize(
    ("functions", "taken"),
    [
        ({"on_order": of("orders", on_order=["payments"])}, False),
        ({"on_order": of("orders", on_order=["orders", "returns"])}, True),
        ({"on_payment": of("orders", on_order=["orders"])}, True),
    ],
    ids=["other topics", "a topic more", "another handler"],
)
def test_a_consumer_that_another_process_declares_otherwise_is_told(
    functions: Any, taken: bool, service: Service, dbos: TestApp
) -> None:
    Other(dbos, functions)
    dbos.run_until_idle()
    assert any(one.startswith("consumer-conflict: 'on_order' reads") for one in problems(service))
    assert ("on_order" in service.app.registry.names()) == taken


def test_what_a_process_tells_of_itself_is_in_its_row(service: Service, dbos: TestApp) -> None:
    (row,) = dbos.core.storage.executors.read(dbos.core.application)
    assert json.loads(row.functions or "") == {
        "handle": of("orders"),
        "on_order": of("orders", on_order=["orders"]),
    }


# ------------------------------------------------------------------ the application's name


def test_on_a_server_an_application_needs_a_name(
    migrated_postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DBOS_EVENTS_NAME", raising=False)
    app = App({"system_database_url": migrated_postgres})
    with pytest.raises(ConfigurationError, match=r"has no name.*DBOS_EVENTS_NAME.*'dbos-events'"):
        app.launch()
    assert not app.is_launched
    monkeypatch.setenv("DBOS_EVENTS_NAME", "orders")
    with app:
        assert app.core.application == "orders"


@pytest.mark.parametrize("name", ["orders", "dbos-events"])
def test_any_name_that_is_given_will_do(name: str, migrated_postgres: str) -> None:
    with App(DBOSConfig(name=name, system_database_url=migrated_postgres)) as app:
        assert app.core.application == name


def test_a_file_of_its_own_needs_none(sqlite_url: str) -> None:
    with App({"system_database_url": sqlite_url}) as app:
        assert app.core.application == "dbos-events"


def test_two_processes_find_each_other_by_themselves(migrated_postgres: str) -> None:
    done = threading.Event()
    config = {"name": "shop", "system_database_url": migrated_postgres, "lease_seconds": 1.0}
    first, second = App(config), App(config)
    for app, module in ((first, "orders"), (second, "payments")):

        def handle() -> None:
            done.wait(30)

        handle.__module__ = module
        app.workflow(name="handle")(handle)
    with first, second:
        health = second.health()
        assert any("name-conflict" in one for one in health.problems)
        assert health.ready
        done.set()

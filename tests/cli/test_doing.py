"""`workflow get` and `list`, `kafka trace` and `processes` say what is going on now."""

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from dbos_events import DBOS, App, KafkaMessage, Retry, SetWorkflowID
from dbos_events.cli.root import app as command_line
from dbos_events.storage.subjects.executors import NewExecutor
from dbos_events.testing.plugin import MakeTestApp

Ask = Callable[..., Any]


@pytest.fixture
def let_go() -> Iterator[threading.Event]:
    """Set at the end, so that nothing that a test holds stays."""
    event = threading.Event()
    yield event
    event.set()


def asking(dbos: Any) -> Ask:
    """A command on the App's database, at its time; its JSON."""
    control = dbos.app.launched

    def ask(*arguments: str) -> Any:
        url = control.settings.database_url
        result = CliRunner().invoke(command_line, [*arguments, "--database", url, "--json"])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return ask


def doing(dbos: Any, workflow_id: str) -> Any:
    from dbos_events.control.processes import ProcessControl

    return ProcessControl(dbos.app.launched.storage).doing([workflow_id]).get(workflow_id)


def test_a_step_that_runs_for_long_is_named_with_how_long(
    dbos_test_app: MakeTestApp, let_go: threading.Event
) -> None:
    app = App({"name": "shop"})
    began = threading.Event()

    @app.step()
    def charge() -> None:
        began.set()
        let_go.wait(60)

    @app.workflow()
    def order() -> None:
        charge()

    dbos = dbos_test_app(app)
    with SetWorkflowID("A1"):
        app.start_workflow(order)
    assert began.wait(30)
    app.launched.watch.tick()
    assert doing(dbos, "A1").word == "running"
    assert doing(dbos, "A1").step is None, "it has not run for long"

    dbos.clock.advance(timedelta(seconds=7))
    app.launched.watch.tick()
    found = doing(dbos, "A1")
    assert (found.word, found.step) == ("running", charge.__qualname__)
    assert f"step 1 {charge.__qualname__} for 7s" in found.text
    [process] = app.launched.storage.processes.list("shop")
    assert (process.workflows, process.longest_step, process.longest_step_ms) == (
        1,
        charge.__qualname__,
        7000,
    )

    let_go.set()
    app.retrieve_workflow("A1").get_result()
    app.launched.watch.tick()
    assert doing(dbos, "A1") is None
    [process] = app.launched.storage.processes.list("shop")
    assert process.longest_step is None


def test_sleeping_between_attempts_and_held_are_told_apart(dbos_test_app: MakeTestApp) -> None:
    app = App({"name": "shop"})

    @app.kafka_consumer(
        topics=["orders"],
        name="orders",
        ordering="partition",
        breaker=None,
        retries=Retry(max_attempts=3, interval_seconds=600, jitter=False),
    )
    def on_order(message: KafkaMessage[bytes]) -> None:
        raise TimeoutError("the bank did not answer\nat all")

    @app.workflow()
    def naps() -> None:
        app.sleep(3600)

    dbos = dbos_test_app(app)
    first = dbos.deliver(on_order, "1").get_workflow_id()
    second = dbos.deliver(on_order, "2").get_workflow_id()
    with SetWorkflowID("nap"):
        app.start_workflow(naps)
    dbos.run_until_idle()

    trying = doing(dbos, first)
    assert trying.word == "between attempts"
    assert "the next begins at 2030-01-01T00:10:00Z, in 10m00s; 1 failed" in trying.text
    assert "TimeoutError: the bank did not answer" in trying.text
    assert "at all" not in trying.text
    waiting = doing(dbos, second)
    assert (waiting.word, waiting.behind) == ("held", first)
    assert first in waiting.text
    assert doing(dbos, "nap").word == "sleeping"
    assert "until 2030-01-01T01:00:00Z, in 1h00m" in doing(dbos, "nap").text


def test_a_parent_waits_for_its_child_and_a_queued_workflow_for_a_process(dbos_test_app: MakeTestApp) -> None:
    app = App({"name": "shop"})
    queue = app.queue("slow", concurrency=1)

    @app.workflow()
    def naps() -> None:
        app.sleep(3600)

    @app.workflow()
    def parent() -> None:
        with SetWorkflowID("child"):
            app.start_workflow(naps).get_result()

    dbos = dbos_test_app(app)
    with SetWorkflowID("parent"):
        app.start_workflow(parent)
    with SetWorkflowID("first"):
        queue.enqueue(parent)
    dbos.run_until_idle()

    found = doing(dbos, "parent")
    assert found.word == "waiting"
    assert "child" in found.text


# ------------------------------------------------------------------ through the command line


@pytest.fixture
def shop(database_url: str) -> Iterator[str]:
    """A database with a workflow that sleeps, one that has ended, and two processes, of which one is dead."""
    DBOS(config={"name": "shop", "system_database_url": database_url, "park_after_seconds": 0.0})

    @DBOS.workflow()
    def naps(seconds: float) -> None:
        DBOS.sleep(seconds)

    DBOS.launch()
    with SetWorkflowID("asleep"):
        DBOS.start_workflow(naps, 3600.0)
    with SetWorkflowID("over"):
        naps(0.0)
    yield database_url
    DBOS.destroy()


def run(url: str, *arguments: str) -> Any:
    result = CliRunner().invoke(command_line, [*arguments, "--database", url])
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.usefixtures("shop")
def test_get_and_list_say_it(shop: str) -> None:
    def words() -> dict[str, str | None]:
        listed = json.loads(run(shop, "workflow", "list", "--json").stdout)
        return {one["workflow_id"]: one["doing"] and one["doing"]["word"] for one in listed}

    from tests.cli.service import eventually

    eventually(lambda: words() == {"asleep": "sleeping", "over": None}, "it sleeps")
    shown = run(shop, "workflow", "get", "asleep").stdout
    assert "sleeping: until " in shown
    assert "there for" in shown
    assert "sleeping" in run(shop, "workflow", "list").stdout
    assert json.loads(run(shop, "workflow", "get", "over", "--json").stdout)["doing"] is None


def test_processes_lists_the_living_the_silent_and_the_dead(shop: str) -> None:
    from dbos_events.clock import SystemClock
    from dbos_events.storage.opening import open_storage

    storage = open_storage(shop, schema="dbos_events", clock=SystemClock())
    silent = NewExecutor("shop", "other-host", False, "v1", "boot", "ns", 4711, "s", 0, frozenset())
    gone = NewExecutor("shop", "third-host", False, "v1", "boot", "ns", 4712, "t", 60_000, frozenset())
    storage.executors.register(silent)
    storage.executors.release(storage.executors.register(gone))
    try:
        found = json.loads(run(shop, "processes", "--application", "shop", "--json").stdout)
        states = {one["label"]: one["state"] for one in found}
        assert states.pop("third-host") == "dead"
        assert sorted(states.values()) in (
            ["alive", "silent"],
            ["alive", "dead"],
        )  # it may be found dead meanwhile
        shown = run(shop, "processes", "--application", "shop")
        assert "other-host:4711" in shown.stdout
        assert "3 processes" in shown.stderr
        assert datetime.fromtimestamp(found[0]["started_at"] / 1000, UTC).year > 2020
    finally:
        storage.close()
    assert "No process of 'bakery' lives" in run(shop, "processes", "--application", "bakery").stdout

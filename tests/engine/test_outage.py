"""A database that is away for a while: workflows wait, nothing is lost, nobody spins (protocol, rule 2)."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from dbos_events import App
from dbos_events.errors import DBOSException, StorageUnavailable
from tests.engine.gates import PATIENCE
from tests.servers import PostgresServer

pytestmark = pytest.mark.postgres


class Attempts:
    """Counts the batches that are tried, and tells when the database has been found away so often."""

    def __init__(self, app: App) -> None:
        self._write_batch = app.core.committer._write_batch
        self._failed = threading.Semaphore(0)
        self.count = 0
        app.core.committer._write_batch = self

    def __call__(self, writes: Any) -> Any:
        self.count += 1
        try:
            return self._write_batch(writes)
        except StorageUnavailable:
            self._failed.release()
            raise

    def await_failures(self, count: int) -> None:
        for _ in range(count):
            assert self._failed.acquire(timeout=PATIENCE), "the committer did not notice"


@pytest.fixture
def app(postgres_server: PostgresServer) -> Iterator[App]:
    url = postgres_server.create_database("outage")
    app = App({"name": "outage", "system_database_url": url, "lease_seconds": 60.0})
    yield app
    app.destroy()


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_workflows_wait_while_the_database_is_away(
    app: App, postgres_server: PostgresServer, how: str
) -> None:
    ran: list[Any] = []
    queue = app.queue("q")

    @app.step()
    def step(number: int) -> int:
        ran.append(number)
        if number == 2:
            getattr(postgres_server, how)()
        return number

    @app.workflow()
    def job() -> int:
        return sum(step(number) for number in (1, 2, 3))

    @app.workflow()
    def after() -> str:
        ran.append("after")
        return "after"

    app.launch()
    attempts = Attempts(app)
    handle = app.start_workflow(job)
    attempts.await_failures(4)
    assert ran == [1, 2], "the next step waits for the commit of the last"
    assert app.health().live
    late: list[Any] = []
    starter = threading.Thread(target=lambda: late.append(queue.enqueue(after)))
    starter.start()
    postgres_server.start()
    assert handle.get_result() == 6
    starter.join(PATIENCE)
    assert late[0].get_result() == "after"
    assert ran == [1, 2, 3, "after"]
    assert attempts.count < 40, "it tries again with growing pauses"


def test_a_process_that_cannot_renew_its_lease_starts_no_step(
    app: App, postgres_server: PostgresServer
) -> None:
    ran: list[str] = []
    go_on = threading.Event()
    between = threading.Event()

    @app.step()
    def step(name: str) -> None:
        ran.append(name)

    @app.workflow()
    def job() -> None:
        between.set()
        assert go_on.wait(PATIENCE)
        step("first")

    app.config["lease_seconds"] = 1.0
    app.launch()
    handle = app.start_workflow(job)
    assert between.wait(PATIENCE)
    postgres_server.stop()
    until(lambda: not app.core.holds_lease)
    go_on.set()
    until(lambda: app.core.hub._waiting.get("lease"))
    assert ran == []
    postgres_server.start()
    handle.get_result()
    assert ran == ["first"]


def until(condition: Any) -> None:
    """Wait for what another thread is about to do."""
    while not condition():
        threading.Event().wait(0.005)


def test_a_launch_without_a_database_says_so(postgres_server: PostgresServer) -> None:
    url = postgres_server.create_database("away")
    postgres_server.stop()
    app = App({"name": "away", "system_database_url": url})
    with pytest.raises(StorageUnavailable, match="cannot be reached"):
        app.launch()
    assert not app.is_launched
    postgres_server.start()
    with app:
        assert app.health().live


def test_a_stop_while_the_database_is_away_ends_in_time(app: App, postgres_server: PostgresServer) -> None:
    @app.step()
    def step() -> None: ...

    @app.workflow()
    def job() -> None:
        step()
        step()

    app.config["shutdown_timeout_seconds"] = 0.5
    app.launch()
    attempts = Attempts(app)
    postgres_server.stop()
    threading.Thread(target=lambda: _ignored(lambda: app.start_workflow(job))).start()
    attempts.await_failures(1)
    stopped = threading.Thread(target=app.destroy)
    stopped.start()
    stopped.join(PATIENCE)
    assert not stopped.is_alive()


def _ignored(call: Any) -> None:
    try:
        call()
    except DBOSException:
        return

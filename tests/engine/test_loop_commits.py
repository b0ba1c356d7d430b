"""Async workflows on PostgreSQL, whose small commits go out from the event loop itself."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from dbos_events import App
from dbos_events.model.workflow import SUCCESS

pytestmark = pytest.mark.postgres

PATIENCE = 20.0


@pytest.fixture
def app(migrated_postgres: str) -> Iterator[App]:
    app = App({"name": "loop", "system_database_url": migrated_postgres})
    yield app
    app.destroy()


def warm_up(app: App) -> None:
    """Until small commits go out from the loop: its connection is opened with the first."""

    @app.workflow(name="warm-up")
    async def nothing() -> None: ...

    app.launch()
    near = app.core.committer.near
    assert near is not None
    for _ in range(1000):
        start(app, nothing).get_result()
        if near.batches:
            return
    pytest.fail("nothing went out from the loop")


def from_loop(app: App) -> int:
    assert app.core.committer.near is not None
    return app.core.committer.near.batches


def start(app: App, function: Any, *args: Any) -> Any:
    """Start it; the handle gives what the coroutine does."""
    return app.start_workflow(function, *args)


def test_steps_and_children_of_both_colours_go_on(app: App) -> None:
    @app.step()
    async def add(number: int) -> int:
        return number + 1

    @app.step()
    def double(number: int) -> int:
        return number * 2

    @app.workflow()
    async def child(number: int) -> int:
        return await add(number)

    @app.workflow()
    def sync_child(number: int) -> int:
        return double(number)

    @app.workflow()
    async def job() -> list[int]:
        first = double(await add(1))
        handle = await app.start_workflow_async(child, first)
        second = await handle.get_result()
        blocked = sync_child(second)  # on the loop's own thread
        return [first, second, blocked, double(blocked)]

    warm_up(app)
    before = from_loop(app)
    for _ in range(20):
        assert start(app, job).get_result() == [4, 5, 10, 20]
    assert from_loop(app) > before


def test_a_workflow_that_blocks_the_loop_keeps_no_other_from_its_end(app: App) -> None:
    go_on = threading.Event()
    blocked = threading.Event()

    @app.workflow()
    async def quick() -> str:
        return "done"

    @app.workflow()
    async def blocks() -> bool:
        blocked.set()
        return go_on.wait(PATIENCE)

    warm_up(app)
    for _ in range(5):
        blocked.clear()
        go_on.clear()
        first, second = start(app, quick), start(app, blocks)
        assert blocked.wait(PATIENCE)
        assert first.get_result() == "done"
        go_on.set()
        assert second.get_result() is True


def test_a_lost_connection_loses_nothing(app: App, migrated_postgres: str) -> None:
    done: list[int] = []

    @app.step()
    async def note(number: int) -> None:
        done.append(number)

    @app.workflow()
    async def job() -> int:
        for number in range(20):
            await note(number)
        return len(done)

    warm_up(app)
    handles = [start(app, job) for _ in range(4)]
    with psycopg.connect(migrated_postgres, autocommit=True) as connection:
        for _ in range(5):
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%write_%'"
            )
    for handle in handles:
        handle.get_result()
    assert len(done) == 80
    for handle in handles:
        assert handle.get_status().status == SUCCESS
        assert len(app.list_workflow_steps(handle.workflow_id)) == 20


def test_an_app_that_lives_on_the_loop_of_its_program_ends_there(app: App) -> None:
    @app.step()
    async def add(number: int) -> int:
        return number + 1

    @app.workflow()
    async def job(number: int) -> int:
        for _ in range(5):
            number = await add(number)
        return number

    async def main() -> list[int]:
        app.launch()
        results: list[int] = []
        while not from_loop(app):
            handles = [await app.start_workflow_async(job, number) for number in range(4)]
            results = [await handle.get_result() for handle in handles]
        left = [await app.start_workflow_async(job, number) for number in range(4)]
        await asyncio.sleep(0)
        app.destroy()
        assert len(left) == 4
        return results

    assert asyncio.run(main()) == [5, 6, 7, 8]

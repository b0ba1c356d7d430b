"""Work whose function no live process has is told, until somebody registers it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from dbos_events import App
from dbos_events.cli.root import app as command_line
from dbos_events.storage.protocol import Storage
from dbos_events.storage.subjects.executors import NewExecutor
from dbos_events.testing import ManualClock, TestApp


def shop(function: str) -> App:
    app = App({"name": "shop"})
    app.queue("work")

    @app.workflow(name=function)
    def handler(seconds: float) -> str:
        app.sleep(seconds)
        return "done"

    return app


def leave(database_url: str, how: str) -> ManualClock:
    """A process leaves one workflow of the function `old` unfinished; gives its clock."""
    app = shop("old")
    with TestApp(app, database_url=database_url) as dbos:
        handler = app.registry.workflows["old"].wrapper
        if how == "on a queue":
            app.queue("work").enqueue(handler, 0.0)  # nobody claims it before the end
        else:
            app.start_workflow(handler, 60.0)
            dbos.run_until_idle()
        if how == "left by the dead":
            executor, storage = dbos.core.executor, app.launched.storage
            write = "UPDATE workflows SET owner = :executor, wake_at = NULL"
            _change(storage, write, executor)
        return dbos.clock


def _change(storage: Storage, statement: str, executor: int) -> None:
    import sqlalchemy as sa

    database = storage.database  # type: ignore[attr-defined]
    table = f'"{database.schema}".workflows' if database.schema else "workflows"
    text = sa.text(statement.replace("workflows", table, 1))
    database.transact(lambda tx: tx.connection.execute(text, {"executor": executor}))


def alarms(app: App) -> list[str]:
    return [text for text in app.health().problems if text.startswith("no-handler: ")]


def another(storage: Storage, functions: tuple[str, ...] | None) -> None:
    """One more process of the application."""
    storage.executors.register(NewExecutor("shop", "b", False, "v", "boot", "ns", 1, "now", 10**9, functions))


@pytest.mark.parametrize("how", ["asleep", "on a queue", "left by the dead"])
def test_work_of_a_renamed_function_is_an_alarm_until_its_name_is_back(
    how: str, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock = leave(database_url, how)
    app = shop("new")
    with TestApp(app, database_url=database_url, clock=clock) as dbos:
        dbos.advance(seconds=120)
        dbos.advance(seconds=31)
        [problem] = alarms(app)
        assert "'old'; at least 1 workflows" in problem
        assert sum("(no-handler)" in line for line in caplog.messages) == 1

        another(app.launched.storage, ("old",))
        dbos.advance(seconds=31)
        assert alarms(app) == []


def test_a_process_of_an_older_release_may_have_any_function(database_url: str) -> None:
    clock = leave(database_url, "asleep")
    app = shop("new")
    with TestApp(app, database_url=database_url, clock=clock) as dbos:
        another(app.launched.storage, None)
        dbos.advance(seconds=120)
        assert alarms(app) == []


def test_the_command_line_says_so_beside_the_list(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shop.sqlite"
    clock = leave(url, "on a queue")
    asked = ["workflow", "list", "--database", url]
    assert "no-handler" not in CliRunner().invoke(command_line, asked).stderr, "nothing runs at all"
    with TestApp(shop("new"), database_url=url, clock=clock):
        result = CliRunner().invoke(command_line, asked)
    assert result.exit_code == 0
    assert "no-handler: no live process of shop has the function 'old'; at least 1 workflows" in result.stderr

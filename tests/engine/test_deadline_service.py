"""The service of deadlines costs nothing where there are none, and next to nothing where there are many."""

import pytest

from dbos_events import App, SetWorkflowTimeout
from dbos_events.storage.database import Tx
from dbos_events.testing.plugin import MakeTestApp
from tests.races.interleaving import tell_of_statements


@pytest.fixture
def app() -> App:
    return App()


def test_an_idle_look_is_one_question_and_writes_nothing(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    def sleeps() -> None:
        app.sleep(3600)

    dbos = dbos_test_app(app)
    service = app.launched.deadlines
    for _ in range(20):
        app.start_workflow(sleeps)
    with SetWorkflowTimeout(600):
        app.start_workflow(sleeps)
    dbos.run_until_idle()
    asked: list[str] = []

    def listen(name: str, _: Tx | None) -> None:
        asked.append(name)

    tell_of_statements(dbos.core.storage, listen)  # type: ignore[arg-type]
    assert service.tick() == 1.0
    assert [name for name in asked if name != "commit"] == ["next_ending"]
    assert service.next_due() == dbos.clock.now_ms() + 600_000

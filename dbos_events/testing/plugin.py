"""The pytest plugin: the fixture `dbos_test_app`, which makes a `TestApp` and closes it after the test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from dbos_events.app import App
    from dbos_events.testing.harness import TestApp


class MakeTestApp(Protocol):
    """Makes a started `TestApp`; the arguments are those of the class."""

    def __call__(self, app: App | None = None, **options: Any) -> TestApp: ...


@pytest.fixture(scope="session")
def dbos_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty database file, made once."""
    from dbos_events.clock import SystemClock
    from dbos_events.storage.migrate import migrate
    from dbos_events.storage.opening import open_storage

    file = tmp_path_factory.mktemp("dbos_events") / "template.sqlite"
    storage = open_storage(f"sqlite:///{file}", schema="", clock=SystemClock())
    migrate(storage)
    storage.close()
    return file


@pytest.fixture
def dbos_test_app(dbos_template: Path) -> Iterator[MakeTestApp]:
    """Make a started `TestApp` of an App, by default of the one behind `DBOS`; it ends with the test."""
    from dbos_events.testing.harness import TestApp

    with ExitStack() as stack:

        def make(app: App | None = None, **options: Any) -> TestApp:
            if "database_url" not in options:
                options.setdefault("template", dbos_template)
            return stack.enter_context(TestApp(app, **options))

        yield make

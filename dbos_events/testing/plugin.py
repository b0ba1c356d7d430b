"""The pytest plugin: the fixture `dbos_test_app`, which makes a `TestApp` and closes it after the test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from dbos_events.app import App
    from dbos_events.testing.harness import TestApp


class TestAppFactory(Protocol):
    """Makes a started `TestApp`; the arguments are those of the class."""

    __test__ = False

    def __call__(self, app: App | None = None, **options: Any) -> TestApp: ...


@pytest.fixture
def dbos_test_app() -> Iterator[TestAppFactory]:
    """Run an App (by default the one behind `DBOS`) without a server: `dbos = dbos_test_app()`."""
    from dbos_events.testing.harness import TestApp

    with ExitStack() as stack:

        def make(app: App | None = None, **options: Any) -> TestApp:
            return stack.enter_context(TestApp(app, **options))

        yield make

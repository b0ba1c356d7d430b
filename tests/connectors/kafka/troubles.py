"""What a consumer says while something stands in its way: health, status and log, and that it is calm."""

import logging
import time
from collections.abc import Callable

import pytest

from dbos_events.app import App
from dbos_events.model.consumer import SourceRow
from tests.faults.waiting import wait_until

CALM_SECONDS = 2.5
MOST_CPU = 0.5
"""Of one core, for the test with everything in its process; a loop without a pause takes all of it."""


class Troubles:
    """The warnings of the test's own process, and questions to Apps in it."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog
        caplog.set_level(logging.INFO, logger="dbos_events")

    @property
    def warnings(self) -> list[str]:
        """What was logged as a warning or worse, once the service had been launched."""
        return [
            record.getMessage()
            for record in self._caplog.records
            if record.name.startswith("dbos_events") and record.levelno >= logging.WARNING
        ]

    @property
    def mended(self) -> list[str]:
        return [message for message in self._caplog.messages if ": goes on, this is over: " in message]

    def problem(self, app: App) -> str:
        """What stands in the way, in one line; empty when the App is ready. The process is never taken for dead."""
        health = app.health()
        assert health.live, health
        assert health.ready == (not health.problems)
        return "; ".join(health.problems)

    def wait_for(self, app: App, text: str) -> None:
        wait_until(lambda: text in self.problem(app), f"the health does not say {text!r}: {app.health()}")

    def wait_ready(self, app: App) -> None:
        wait_until(lambda: not self.problem(app), f"not ready: {app.health()}")

    def idle(self, app: App) -> list[SourceRow]:
        """The lines of `kafka status` without a partition."""
        return app.launched.storage.sources.list_idle(None)

    def wait_for_line(self, app: App, text: str) -> SourceRow:
        """The line of a process without a partition, once its detail says this."""

        def line() -> SourceRow | None:
            return next((row for row in self.idle(app) if text in (row.detail or "")), None)

        found = wait_until(line, f"the status does not say {text!r}: {self.idle(app)}")
        assert found is not None
        return found

    def assert_calm(self, app: App, text: str) -> None:
        """The trouble stays, is said once, and costs next to nothing."""
        self.assert_quiet(lambda: text in self.problem(app))
        said = [warning for warning in self.warnings if text in warning]
        assert len(said) == 1, self.warnings
        assert len(self.warnings) <= 2, self.warnings

    def assert_quiet(self, holds: Callable[[], object]) -> None:
        """Something holds for a while in which the process has next to nothing to do."""
        began, cpu = time.monotonic(), time.process_time()
        lines = len(self._caplog.records)
        while time.monotonic() - began < CALM_SECONDS:
            assert holds()
            time.sleep(0.1)
        share = (time.process_time() - cpu) / (time.monotonic() - began)
        assert share < MOST_CPU, f"the process was busy for {share:.0%} of the time"
        assert len(self._caplog.records) - lines <= 5, self._caplog.messages[lines:]

"""About one step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dbos_events.errors.base import DBOSException


def _shown(error: BaseException) -> str:
    name = type(error).__name__
    try:
        return f"{name}: {error}"
    except BaseException:  # noqa: BLE001 - it runs code of the user's class
        return name


class DBOSMaxStepRetriesExceeded(DBOSException):
    """A step failed in every attempt; `errors` holds what each of them raised."""

    code = "max-step-retries"

    def __init__(self, step_name: str, max_retries: int, errors: Sequence[BaseException] = ()) -> None:
        self.step_name = step_name
        self.max_retries = max_retries
        self.errors = list(errors)
        last = f" Last error: {_shown(self.errors[-1])}" if self.errors else ""
        super().__init__(f"Step {step_name} failed in all of its {max_retries} attempts.{last}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.step_name, self.max_retries, self.errors)


class DBOSStepTimeoutError(DBOSException):
    """A step took longer than its `timeout_seconds`."""

    code = "step-timeout"

    def __init__(self, step_name: str, timeout_seconds: float) -> None:
        self.step_name = step_name
        self.timeout_seconds = timeout_seconds
        super().__init__(f"Step {step_name} did not finish within {timeout_seconds} s.")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.step_name, self.timeout_seconds)
